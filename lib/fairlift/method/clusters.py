"""The effect of a test in which whole stores, regions or households were drawn: the clusters are what is counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from fairlift.errors import InputError, Problem, Refusal, nearest
from fairlift.format import interval as between
from fairlift.format import number, p_value, percent
from fairlift.method.cluster_means import Clusters
from fairlift.method.effect import _aligned
from fairlift.method.icc import Anova
from fairlift.method.moments import _refuse
from fairlift.method.randomisation import (
    DRAWS,
    EXACT_UP_TO,
    Design,
    Studentised,
    partial_out,
    randomise,
    refuse_unattainable,
)

FEW = 30  # clusters, below which the draws themselves are the reference
LEAST_DF = 4  # below this a t with the sandwich's degrees of freedom no longer holds (Tipton 2015)
AVERAGES = ("clusters", "customers")
INFERENCES = ("randomisation", "t")


@dataclass(frozen=True)
class ClusterEffect:
    """A difference of two arms of clusters with its interval.

    `average` says over what: "clusters" counts every cluster the same, "customers" by its size.  `df` is that of the t,
    None under randomisation inference, where `draws` says how many draws stand behind p and interval and `exact` whether
    those are all there are.  `least_p` is the least p the design allows.  Means are raw; `value` is adjusted where
    `adjusted` says so, and p is at most 1 − level exactly when the interval leaves out 0.
    """

    outcome: str
    arm: str
    versus: str
    average: str
    inference: str
    clusters_arm: int
    clusters_versus: int
    n_arm: int
    n_versus: int
    mean_arm: float
    mean_versus: float
    value: float
    se: float
    df: float | None
    low: float
    high: float
    level: float
    p: float
    least_p: float
    draws: int | None
    exact: bool
    adjusted: bool
    blocks: int
    pairs: bool

    def __str__(self) -> str:
        rows = [
            (self.arm, number(self.mean_arm), f"{self.clusters_arm:,} clusters", f"n {self.n_arm:,}"),
            (self.versus, number(self.mean_versus), f"{self.clusters_versus:,} clusters", f"n {self.n_versus:,}"),
            ("difference", number(self.value, signed=True), f"SE {number(self.se)}", p_value(self.p)),
        ]
        if self.inference == "t":
            how = [f"t with {self.df:.1f} degrees of freedom"]
        else:
            how = [f"randomisation, {'all ' if self.exact else ''}{self.draws:,} draws"]
        how += [f"{self.blocks} {'pairs' if self.pairs else 'blocks'}"] if self.blocks else []
        how += ["adjusted for the pre-period"] if self.adjusted else []
        head = f"{self.outcome} by cluster: {self.arm} against {self.versus}, average over {self.average}"
        limits = f"  {percent(self.level)} interval {between(self.low, self.high, signed=True)}"
        return "\n".join([head, *_aligned(rows), f"{limits} ({', '.join(how)})"])


def cluster_effect(
    clusters: Clusters,
    arm: str,
    versus: str,
    *,
    average: str = "clusters",
    adjust: bool = False,
    inference: str | None = None,
    alpha: float = 0.05,
    exact_up_to: int = EXACT_UP_TO,
    draws: int = DRAWS,
    seed: int = 0,
) -> ClusterEffect:
    """Estimate how much the outcome differs between clusters drawn into `arm` and into `versus`.

    average: "clusters", the default, is the effect in a cluster taken at random, and the safest with few of them;
    "customers" weighs clusters by size and is the effect on a customer taken at random, which profit needs.  They differ
    where the effect differs with size (Kahan et al. 2023).

    adjust: regress on the clusters' pre-period means, one slope for both arms.

    inference: "randomisation", the default under 30 clusters, holds the studentised difference against the draws that the
    design allows: within pairs or blocks where `block` was gathered, else one draw of all (Fisher 1935; Wu and Ding 2021).
    All draws are taken where they are at most `exact_up_to`, else `draws` at random from `seed`, the observed one counted
    among them (p = (b + 1) / (m + 1)).  The interval inverts that test for an effect alike in all clusters.  Where effects differ
    between clusters it holds but nearly, and best with arms of the same size.  "t", the default from 30
    on, is of cluster means with Welch's degrees of freedom; adjusted or within blocks it has the CR2 sandwich with those of
    Bell and McCaffrey (2002), over customers with those of Imbens and Kolesár (2016), who let the customers of a cluster be
    alike.  Pairs are read by their differences; in other blocks the effect is taken to be the same.

    There is no standard error that takes the customers as independent.  Raises Refusal where a number would mislead: a
    least p above `alpha`, fewer than two clusters in an arm, no variation, fewer than four degrees of freedom behind a
    sandwich; InputError for arms or options that do not exist.

    >>> import pandas as pd
    >>> from fairlift.method.cluster_means import by_cluster
    >>> means = [5.2, 6.1, 7.4, 8.3, 1.7, 2.5, 3.6, 4.8]
    >>> stores = pd.DataFrame({"store": list("abcdefgh"), "arm": ["new"] * 4 + ["old"] * 4, "spend": means})
    >>> print(cluster_effect(by_cluster(stores, "spend", "store", "arm"), "new", "old"))
    spend by cluster: new against old, average over clusters
      new         6.750  4 clusters  n 4
      old         3.150  4 clusters  n 4
      difference +3.600  SE 0.9618  p = 0.0286
      95 % interval +0.4000 to +6.600 (randomisation, all 70 draws)
    """
    _check(clusters, arm, versus, average, adjust, inference, alpha)
    both = clusters.of(arm, versus)
    treated = both.arm == arm
    _refuse_few(both, treated, arm, versus)
    block = np.zeros(len(both), dtype=int) if both.block is None else np.unique(both.block, return_inverse=True)[1]
    design = Design(treated, block)
    if both.block is not None:
        _check_blocks(both, design, average)
    inference = inference or ("randomisation" if len(both) < FEW else "t")
    if inference == "randomisation":
        refuse_unattainable(design, alpha)
    rows = _rows(both, design, average, adjust)
    found = _by_draws(rows, design, alpha, exact_up_to, draws, seed) if inference == "randomisation" else {}
    found = found or _by_t(rows, both, design, alpha, average, adjust)
    weights = both.n if average == "customers" else np.ones(len(both))
    means = [float(np.average(both.mean[mine], weights=weights[mine])) for mine in (treated, ~treated)]
    return ClusterEffect(
        outcome=clusters.outcome,
        arm=arm,
        versus=versus,
        average=average,
        inference=inference,
        clusters_arm=int(treated.sum()),
        clusters_versus=int((~treated).sum()),
        n_arm=int(both.n[treated].sum()),
        n_versus=int(both.n[~treated].sum()),
        mean_arm=means[0],
        mean_versus=means[1],
        level=1 - alpha,
        least_p=design.least_p,
        adjusted=adjust,
        blocks=0 if both.block is None else int(block.max()) + 1,
        pairs=both.block is not None and design.pairs,
        **found,
    )


# --- the two ways to be sure ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Rows:
    """What is regressed: clusters, or pairs by their differences; `z` turns draws of clusters into the column of interest."""

    outcome: np.ndarray
    others: np.ndarray
    weights: np.ndarray
    sizes: np.ndarray  # of one cluster, or of the two of a pair
    first: np.ndarray | None

    def z(self, draws: np.ndarray) -> np.ndarray:
        return draws.astype(float) if self.first is None else np.where(draws[..., self.first], 1.0, -1.0)


def _rows(clusters: Clusters, design: Design, average: str, adjust: bool) -> _Rows:
    weigh = average == "customers"
    if clusters.block is not None and design.pairs:
        one, two = (np.argsort(design.block, kind="stable").reshape(-1, 2)).T
        total = clusters.n[one] + clusters.n[two]
        return _Rows(
            outcome=clusters.mean[one] - clusters.mean[two],
            others=(clusters.pre[one] - clusters.pre[two])[:, None] if adjust else np.empty((len(one), 0)),
            weights=total if weigh else np.ones(len(one)),
            sizes=np.column_stack([clusters.n[one], clusters.n[two]]),
            first=one,
        )
    others = np.equal.outer(design.block, np.unique(design.block)).astype(float)
    if adjust:
        others = np.column_stack([others, clusters.pre - clusters.pre.mean()])
    weights = clusters.n if weigh else np.ones(len(clusters))
    return _Rows(clusters.mean, others, weights, clusters.n[:, None], None)


def _by_draws(rows: _Rows, design: Design, alpha: float, exact_up_to: int, draws: int, seed: int) -> dict:
    reference, exact = design.reference(exact_up_to, draws, seed)
    statistic = Studentised(rows.outcome, rows.z(reference), rows.others, rows.weights)
    _refuse_constant(statistic.se, rows)
    found = randomise(statistic, alpha)
    limits = {"low": found.low, "high": found.high, "p": found.p}
    return {"value": statistic.value, "se": statistic.se, "df": None, "draws": len(reference), "exact": exact} | limits


def _by_t(rows: _Rows, clusters: Clusters, design: Design, alpha: float, average: str, adjust: bool) -> dict:
    z = rows.z(design.treated)
    statistic = Studentised(rows.outcome, z[None, :], rows.others, rows.weights)
    _refuse_constant(statistic.se, rows)
    if average == "customers":
        # rows that are whole stores have no customers to be alike: then only stores differ
        theta = max(Anova(clusters).theta, 0.0) if clusters.within.sum() > 0 else math.inf
        variance = (np.ones_like(rows.sizes) if math.isinf(theta) else theta + 1 / rows.sizes).sum(axis=1)
    elif clusters.block is None and not adjust:
        of_arm = [rows.outcome[mine].var(ddof=1) for mine in (~design.treated, design.treated)]
        variance = np.array(of_arm)[design.treated.astype(int)]  # with these, Satterthwaite's are Welch's
    else:
        variance = np.ones(len(rows.outcome))
    df = _degrees(z, rows.others, rows.weights, variance)
    if df < LEAST_DF and (adjust or average == "customers"):
        raise Refusal(
            f"{clusters.outcome} by cluster: only {df:.1f} degrees of freedom stand behind the standard error and "
            f"{LEAST_DF} are needed, because a few clusters carry it; use randomisation inference, or draw more clusters."
        )
    half = -float(special.stdtrit(df, alpha / 2)) * statistic.se
    p = float(2 * special.stdtr(df, -abs(statistic.value / statistic.se)))
    limits = {"low": statistic.value - half, "high": statistic.value + half, "p": p}
    return {"value": statistic.value, "se": statistic.se, "df": df, "draws": None, "exact": False} | limits


def _degrees(z: np.ndarray, others: np.ndarray, weights: np.ndarray, variance: np.ndarray) -> float:
    """Satterthwaite's degrees of freedom of the sandwich, if the rows are independent with these variances."""
    clean, leverage = partial_out(others, weights)
    z = clean(z)
    spread = (weights * z**2).sum()
    left = 1 - leverage - weights * z**2 / spread
    share = np.where(left > 1e-9, (weights * z) ** 2 / np.maximum(left, 1e-9), 0.0) / spread**2
    columns = np.column_stack([others, z])
    solve = np.linalg.pinv(columns.T * weights @ columns) @ (columns.T * weights)
    # residuals (I − XG) y have the covariance V − A B', with A and B as wide as X: no matrix of clusters × clusters
    both = (solve * variance) @ solve.T
    a = np.column_stack([columns, variance[:, None] * solve.T - columns @ both])
    b = np.column_stack([(solve * variance).T, columns])
    overlap = (a * b).sum(axis=1)
    first = (share * (variance - overlap)).sum()
    second = (share**2 * variance * (variance - 2 * overlap)).sum() + ((a.T * share @ a) * (b.T * share @ b)).sum()
    return float(first**2 / second)


# --- what is refused ------------------------------------------------------------------------------------------------


def _check(clusters: Clusters, arm: str, versus: str, average: str, adjust: bool, inference, alpha: float) -> None:
    problems = []
    if clusters.arm is None:
        problems.append(Problem("clusters", "no arm was gathered", "name its column: `by_cluster(..., arm=...)`"))
    elif arm == versus:
        problems.append(Problem("arms", f"`{arm}` is compared with itself", "name two arms"))
    else:
        known = sorted(set(clusters.arm))
        absent = [name for name in (arm, versus) if name not in known]
        problems += [Problem("arms", f"`{name}` has no clusters", nearest(name, known)) for name in absent]
    if average not in AVERAGES:
        problems.append(Problem("average", f"`{average}` is not known", nearest(str(average), AVERAGES)))
    if inference is not None and inference not in INFERENCES:
        mend = f"{nearest(str(inference), INFERENCES)}; customers of one cluster are never taken as independent"
        problems.append(Problem("inference", f"`{inference}` is not known", mend))
    if adjust and clusters.pre is None:
        problems.append(Problem("adjust", "no pre-period was gathered", "name it: `by_cluster(..., pre=...)`"))
    if not 0 < alpha < 1:
        problems.append(Problem("alpha", f"is {alpha}", "choose a fraction such as 0.05"))
    _refuse(problems)


def _check_blocks(clusters: Clusters, design: Design, average: str) -> None:
    single = [
        str(name)
        for name in np.unique(clusters.block)
        if len(set(design.treated[clusters.block == name].tolist())) == 1
    ]
    if single:
        found = f"{len(single)} blocks have clusters of one arm only ({_listed(single)})"
        raise InputError(Problem("blocks", found, "merge them with like ones, or leave them out"))
    if average == "customers" and not design.pairs:
        raise Refusal(
            f"{clusters.outcome} by cluster: within blocks that are not pairs the average over customers is not computed, "
            "because weights and blocks would answer different questions; average over clusters, or draw within pairs."
        )


def _refuse_few(clusters: Clusters, treated: np.ndarray, arm: str, versus: str) -> None:
    for name, count in ((arm, int(treated.sum())), (versus, int((~treated).sum()))):
        if count < 2:
            raise Refusal(
                f"{clusters.outcome} by cluster: {name} has a single cluster, so nothing tells its arm from the cluster "
                "itself, however many customers it has; draw at least two, better four, clusters into each arm."
            )


def _refuse_constant(se: float, rows: _Rows) -> None:
    if se <= 1e-12 * float(np.abs(rows.outcome).max()):
        raise Refusal("clusters: within the arms no cluster differs from another, so there is no spread to judge by.")


def _listed(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
