"""Did the randomisation hold: sample ratio and balance of what was known beforehand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from fairlift.errors import InputError, Problem, Refusal
from fairlift.format import number, p_value
from fairlift.method.moments import Moments, Sample


@dataclass(frozen=True)
class _Test:
    """What both tests have: `detectable` is the smallest fault that one of `power` would find at this n."""

    statistic: float
    df: int
    p: float
    alpha: float
    detectable: float
    power: float

    @property
    def failed(self) -> bool:
        """Whether the arms differ from what was planned by more than chance allows."""
        return self.p < self.alpha

    def _said(self, fault: str, none: str, found: str) -> str:
        against = f"{p_value(self.p)} against {self.alpha:g}"
        return f"  {against}: {fault if self.failed else none}; detects {found} in {self.power:.0%} of cases"


@dataclass(frozen=True)
class Srm(_Test):
    """A sample-ratio test.

    `detectable` is the smallest error in an arm's share (a fraction of all units) that the test would find with
    probability `power` at this n.
    """

    counts: dict[str, int]
    expected: dict[str, float]
    n: int

    def __str__(self) -> str:
        width = max(map(len, self.counts))
        rows = [f"  {arm:<{width}}  {n:>12,}  planned {self.expected[arm]:>14,.1f}" for arm, n in self.counts.items()]
        found = f"a share wrong by {number(self.detectable, 'points')}"
        said = self._said("the shares are not as planned", "no mismatch found", found)
        return "\n".join(["sample ratio", *rows, said])


@dataclass(frozen=True)
class Balance(_Test):
    """A balance test: one p-value over all covariates, and each one's standardised difference.

    `detectable` is the smallest standardised difference of a single covariate that the test would find with probability
    `power` at this n.
    """

    arm: str
    versus: str
    differences: dict[str, float]

    def __str__(self) -> str:
        width = max(map(len, self.differences))
        rows = [f"  {name:<{width}}  {number(smd, 'z', signed=True):>8}" for name, smd in self.differences.items()]
        found = f"a standardised difference of {number(self.detectable, 'z')}"
        said = self._said("the arms differed beforehand", "no imbalance found", found)
        return "\n".join([f"balance of {self.arm} and {self.versus}: standardised differences", *rows, said])


def srm(counts: Mapping[str, int], weights: Mapping[str, float], alpha: float = 0.001, power: float = 0.8) -> Srm:
    """Test whether the arms' sizes fit the planned weights: one overall chi-squared test (Fabijan et al. 2019).

    `counts` are units per arm, 0 included; `weights` are planned shares on any common scale.  Raises InputError for an
    arm without a count or a positive weight, Refusal when fewer than five units are expected in an arm.

    >>> test = srm({"a": 821_588, "b": 815_482}, {"a": 1, "b": 1})
    >>> f"{test.p:.1e}", test.failed
    ('1.8e-06', True)
    """
    problems = [
        Problem("sample ratio", f"arm `{arm}` is planned but has no count", "count its units; nobody is 0")
        for arm in weights
        if arm not in counts
    ]
    problems += [
        Problem("sample ratio", f"arm `{arm}` has units but no planned weight", "state its planned share")
        for arm in counts
        if arm not in weights
    ]
    problems += [
        Problem(
            "sample ratio",
            f"arm `{arm}` has the planned weight {weight}",
            "give a number above 0, or leave the arm out",
        )
        for arm, weight in weights.items()
        if not (0 < weight < math.inf)
    ]
    problems += [
        Problem("sample ratio", f"arm `{arm}` has the count {n}", "a count is a whole number, 0 or more")
        for arm, n in counts.items()
        if not (0 <= n < math.inf and n == int(n))
    ]
    if problems:
        raise InputError(problems)
    if len(weights) < 2:
        raise Refusal("sample ratio: a single arm has no ratio to test; the plan needs at least two.")
    arms = list(weights)
    observed = np.array([counts[arm] for arm in arms], dtype=float)
    shares = np.array([weights[arm] for arm in arms], dtype=float)
    shares /= shares.sum()
    n = observed.sum()
    if (n * shares).min() < 5:
        fewest = arms[int(shares.argmin())]
        raise Refusal(f"sample ratio: {n * shares.min():.1f} units are expected in {fewest} and 5 are needed.")
    statistic = float(((observed - n * shares) ** 2 / (n * shares)).sum())
    df = len(arms) - 1
    # one share off by d, the others in proportion, moves the statistic's mean by n d² / (share (1 − share))
    detectable = math.sqrt(noncentrality(df, alpha, power) * float((shares * (1 - shares)).max()) / n)
    return Srm(
        counts={arm: int(counts[arm]) for arm in arms},
        expected=dict(zip(arms, (n * shares).tolist(), strict=True)),
        n=int(n),
        statistic=statistic,
        df=df,
        p=float(special.chdtrc(df, statistic)),
        alpha=alpha,
        detectable=detectable,
        power=power,
    )


def balance(
    moments: Moments,
    covariates: Sequence[str],
    arm: str,
    versus: str,
    alpha: float = 0.001,
    power: float = 0.8,
    by: Sequence[str] = (),
) -> Balance:
    """Test whether the arms differed before they were treated: one test over all covariates (Hotelling 1931).

    The covariates must have been gathered together, by `Covariates(…)` or as covariates of one metric.  The covariance
    is pooled over both arms, as randomisation makes it the same.  Standardised differences divide by the root mean of
    the arms' variances.  With `by` ("stratum", "day" or both) the arms are compared within each cell and the cells weighed by
    what they can tell, as is needed when the arms' shares changed; cells that lack an arm tell nothing.  Raises Refusal when no
    covariate varies.

    >>> import pandas as pd
    >>> from fairlift.method import Covariates, moments
    >>> units = pd.DataFrame({"arm": ["a", "b"] * 50, "age": [30.0, 31.0, 40.0, 39.0] * 25})
    >>> test = balance(moments(units, Covariates("age"), "arm"), ["age"], "a", "b")
    >>> test.differences["age"], round(test.p, 6)
    (0.0, 1.0)
    """
    names = moments.with_indicators(covariates)
    for name in (arm, versus):
        if moments.counts.get(name, 0) < 2:
            raise Refusal(f"balance: arm {name} has fewer than two units, so there is nothing to compare.")
    one, two = moments.arm(arm), moments.arm(versus)
    first, second = _cells(moments, by, arm, versus)
    weights = first.n * second.n / (first.n + second.n)
    pairs, free = float(weights.sum()), first.n + second.n - 2
    dof, shares = float(free.sum()), weights / pairs
    gaps = np.array([(shares * (first.mean(name) - second.mean(name))).sum() for name in names])
    both = {(a, b): (first.products(a, b) + second.products(a, b)) / free for a in names for b in names}
    pooled = np.array([[(shares * both[a, b]).sum() for b in names] for a in names])
    spread = np.sqrt(np.diag(pooled))
    size = np.array([max(abs(one.mean(name)), abs(two.mean(name))) for name in names])
    varies = spread > 1e-12 * size
    if not varies.any():
        raise Refusal("balance: no covariate varies, so there is nothing to compare.")
    scale = np.where(varies, spread, np.inf)
    inverse = np.linalg.pinv(pooled / np.outer(scale, scale), rcond=1e-10, hermitian=True)
    rank = int(np.linalg.matrix_rank(pooled / np.outer(scale, scale), tol=1e-10, hermitian=True))
    statistic = float(pairs * (gaps / scale) @ inverse @ (gaps / scale))
    left = dof + 1 - rank
    if left < 1:
        raise Refusal(f"balance: {int(one.n + two.n)} units are too few for {rank} covariates.")
    halves = [math.sqrt((one.var(name) + two.var(name)) / 2) for name in names]
    return Balance(
        arm=arm,
        versus=versus,
        differences={
            name: float(gap / half) if half > 0 else 0.0 for name, gap, half in zip(names, gaps, halves, strict=True)
        },
        statistic=statistic,
        df=rank,
        p=float(special.fdtrc(rank, left, statistic * left / (rank * dof))),
        alpha=alpha,
        detectable=math.sqrt(noncentrality(rank, alpha, power) / pairs),
        power=power,
    )


def _cells(moments: Moments, by: Sequence[str], arm: str, versus: str) -> tuple[Sample, Sample]:
    """Both arms cell by cell: the cells in which both have units, and enough to compare."""
    by = (by,) if isinstance(by, str) else tuple(by)
    samples = [moments.by(by, name) for name in (arm, versus)]
    names = [list(zip(*(sample.values[key] for key in by), strict=True)) or [()] for sample in samples]
    sizes = [dict(zip(keys, sample.n, strict=True)) for keys, sample in zip(names, samples, strict=True)]
    shared = {name for name in sizes[0] if name in sizes[1] and sizes[0][name] + sizes[1][name] > 2}
    if not shared:
        raise Refusal(f"balance: no cell of {' × '.join(by)} has units of both {arm} and {versus}.")
    chosen = [[name in shared for name in keys] for keys in names]
    first, second = (
        Sample({label: values[here] for label, values in sample.values.items()})
        for sample, here in zip(samples, chosen, strict=True)
    )
    return first, second


def noncentrality(df: int, alpha: float, power: float) -> float:
    """How far from the null a chi-squared test must be to reject with probability `power`."""
    return float(special.chndtrinc(special.chdtri(df, alpha), df, 1 - power))
