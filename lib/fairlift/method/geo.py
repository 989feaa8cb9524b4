"""Stores or regions in pairs: matched on what was known before, drawn within the pair, read by their differences."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import special

from fairlift.errors import InputError, Problem, Refusal
from fairlift.format import number
from fairlift.method.cluster_means import Clusters
from fairlift.method.clusters import ClusterEffect, cluster_effect
from fairlift.method.moments import _absent, _refuse
from fairlift.method.randomisation import fewest


@dataclass(frozen=True, eq=False)
class Pairs:
    """Units two by two, the likest pair first: `pairs` has pair, first, second and their `distance`; `left` had no partner."""

    pairs: pd.DataFrame
    left: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pairs)

    def __str__(self) -> str:
        rest = f", left over: {', '.join(self.left)}" if self.left else ""
        worst = number(float(self.pairs["distance"].max()), "z") if len(self) else "none"
        return f"{len(self)} pairs, greatest distance {worst} standard deviations{rest}"


def match_pairs(units: pd.DataFrame, unit: str, covariates: Sequence[str], within: Sequence[str] = ()) -> Pairs:
    """Match units, a row each, so that the two of a pair were alike before: small Mahalanobis distances in all.

    `covariates` are numbers from before the draw, the pre-period outcome above all; pairs stay within equal values of
    `within` (a region, a format).  The nearest two are taken first, then partners are exchanged between pairs as long as that
    shortens the sum of distances (Greevy et al. 2004 on why).  Nothing is random: the same units make the same pairs.  An
    odd one in a group is left over and named.  Raises InputError for absent columns, missing values, a unit that stands
    twice, or covariates that do not vary.

    >>> stores = pd.DataFrame({"store": list("abcd"), "before": [9.0, 1.0, 2.0, 8.0]})
    >>> match_pairs(stores, "store", ["before"]).pairs[["first", "second"]].to_numpy().tolist()
    [['a', 'd'], ['b', 'c']]
    """
    covariates = [covariates] if isinstance(covariates, str) else list(covariates)
    within = [within] if isinstance(within, str) else list(within)
    _check(units, unit, covariates, within)
    units = units.sort_values(unit, key=lambda names: names.astype(str), kind="stable").reset_index(drop=True)
    x = units[covariates].to_numpy(dtype=float)
    x = x - x.mean(axis=0)
    scaled = x @ np.linalg.cholesky(np.linalg.pinv(np.cov(x, rowvar=False).reshape(len(covariates), -1)))
    groups = units.groupby(within, sort=True, dropna=False).indices.values() if within else [np.arange(len(units))]
    found, left = [], []
    for group in groups:
        distance = np.sqrt(((scaled[group][:, None, :] - scaled[group][None, :, :]) ** 2).sum(axis=2))
        pairs, alone = _match(distance)
        found += [(distance[i, j], group[i], group[j]) for i, j in pairs]
        left += [group[i] for i in alone]
    name = units[unit].astype(str).to_numpy()
    found = sorted((d, name[i], name[j]) for d, i, j in found)
    rows = [(place, one, two, float(d)) for place, (d, one, two) in enumerate(found, 1)]
    return Pairs(
        pd.DataFrame(rows, columns=["pair", "first", "second", "distance"]), tuple(str(name[i]) for i in sorted(left))
    )


def draw_pairs(pairs: Pairs, arm: str, versus: str, salt: str, alpha: float = 0.05) -> pd.DataFrame:
    """Draw one of each pair into `arm`, the other into `versus`: a row a unit with unit, pair and arm.

    The draw is a hash of `salt` and the pair's names: whoever knows the salt can repeat it.  Write the salt into the plan
    before you draw, and draw once.  Raises Refusal where so few pairs could never reach a two-sided p of `alpha`.

    >>> stores = pd.DataFrame({"store": [f"s{i:02}" for i in range(12)], "before": range(12)})
    >>> drawn = draw_pairs(match_pairs(stores, "store", ["before"]), "new", "old", salt="spring")
    >>> drawn["arm"].value_counts().to_dict(), drawn.groupby("pair")["arm"].nunique().eq(2).all().item()
    ({'new': 6, 'old': 6}, True)
    """
    if arm == versus:
        raise InputError(Problem("arms", f"`{arm}` is compared with itself", "name two arms"))
    if 2 / 2 ** len(pairs) > alpha:
        least = fewest(alpha, pairs=True)
        raise Refusal(
            f"geo pairs: {len(pairs)} pairs allow {2 ** len(pairs):,} draws, so the least two-sided p is "
            f"{min(1.0, 2 / 2 ** len(pairs)):.4f} and {alpha:g} cannot be reached whatever happens; at least {least} pairs "
            "would do."
        )
    rows = []
    for row in pairs.pairs.itertuples():
        digest = hashlib.sha256(f"{salt}:{row.first}:{row.second}".encode()).digest()
        arms = (arm, versus) if digest[0] % 2 else (versus, arm)
        rows += [(name, row.pair, got) for name, got in zip((row.first, row.second), arms, strict=True)]
    return pd.DataFrame(rows, columns=["unit", "pair", "arm"])


@dataclass(frozen=True)
class Placebo:
    """The experiment read on the pre-period, where nothing was done yet.

    `detectable` is the effect that pairs which differ as these did before would find with probability `power`.
    """

    effect: ClusterEffect
    detectable: float
    power: float

    @property
    def failed(self) -> bool:
        """Whether the arms differed before by more than the draws explain."""
        return self.effect.p <= 1 - self.effect.level

    def __str__(self) -> str:
        verdict = "the arms differed before anything was done" if self.failed else "no difference beforehand"
        found = f"pairs as unlike as these detect an effect of {number(self.detectable)} in {self.power:.0%} of cases"
        return f"{self.effect}\n  placebo: {verdict}; {found}"


def placebo(clusters: Clusters, arm: str, versus: str, *, alpha: float = 0.05, power: float = 0.8) -> Placebo:
    """Read the pre-period as if it were the test: an A/A check of the pairs, and what they could see.

    `clusters` were gathered with `pre` and, for pairs, `block`.  A failed check says that chance, or a hand, put unlike
    units into the arms: adjust for the pre-period, and ask how the draw was made.  Do not draw again until it passes.
    Match on an earlier stretch than the one read here: pairs made from the same weeks look liker than they will be.

    >>> from fairlift.method.cluster_means import by_cluster
    >>> stores = pd.DataFrame({"store": [f"s{i:02}" for i in range(12)], "pair": [i // 2 for i in range(12)]})
    >>> stores = stores.assign(arm=["new", "old"] * 6, spend=range(12), before=[3, 4, 5, 4, 7, 8, 9, 7, 2, 1, 6, 6.5])
    >>> check = placebo(by_cluster(stores, "spend", "store", "arm", pre="before", block="pair"), "new", "old")
    >>> check.failed, round(check.effect.p, 4), round(check.detectable, 3)
    (False, 0.75, 1.8)
    """
    found = cluster_effect(clusters.before(), arm, versus, alpha=alpha)
    free = found.blocks - 1 if found.pairs else found.clusters_arm + found.clusters_versus - 2
    return Placebo(found, found.se * _noncentrality(free, alpha, power), power)


def _noncentrality(free: int, alpha: float, power: float) -> float:
    """How many standard errors an effect must be for a two-sided t-test to find it with probability `power`."""
    quantile = -float(special.stdtrit(free, alpha / 2))
    low, high = 0.0, 4 * quantile + 10
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if special.nctdtr(free, middle, quantile) > 1 - power else (low, middle)
    return high


def _match(distance: np.ndarray) -> tuple[list[tuple[int, int]], list[int]]:
    """Pairs of rows and who is left: nearest first, then exchanges of partners while the sum of distances falls."""
    size = len(distance)
    one, two = np.triu_indices(size, k=1)
    order = np.lexsort([two, one, distance[one, two]])
    free, pairs = set(range(size)), []
    for place in order:
        i, j = int(one[place]), int(two[place])
        if i in free and j in free:
            pairs.append((i, j))
            free -= {i, j}
    while better := _exchange(pairs, distance):
        pairs = better
    return pairs, sorted(free)


def _exchange(pairs: list[tuple[int, int]], distance: np.ndarray) -> list[tuple[int, int]] | None:
    """The pairs after the first exchange of partners that shortens the sum of distances; None where there is none."""
    for a, b in combinations(range(len(pairs)), 2):
        (i, j), (k, m) = pairs[a], pairs[b]
        for one, two in (((i, k), (j, m)), ((i, m), (j, k))):
            if distance[one] + distance[two] < distance[i, j] + distance[k, m] - 1e-12:
                rest = [pair for place, pair in enumerate(pairs) if place not in (a, b)]
                return [*rest, tuple(sorted(one)), tuple(sorted(two))]
    return None


def _check(units: pd.DataFrame, unit: str, covariates: list[str], within: list[str]) -> None:
    _refuse(_absent((unit, *covariates, *within), [str(name) for name in units.columns]))
    problems = []
    twice = int(units[unit].duplicated().sum())
    if twice:
        problems.append(Problem("units", f"{twice} stand more than once", "give one row a unit", column=unit))
    if not covariates:
        problems.append(Problem("units", "no covariate to match on", "name the pre-period outcome"))
    for name in covariates:
        values = pd.to_numeric(units[name], errors="coerce").to_numpy(dtype=float)
        lacking = int((~np.isfinite(values)).sum())
        if lacking:
            problems.append(Problem("units", f"{lacking} have no number", "every unit needs one", column=name))
        elif len(units) < 2 or math.isclose(values.min(), values.max()):
            problems.append(Problem("units", "does not vary", "match on something that does", column=name))
    _refuse(problems)
