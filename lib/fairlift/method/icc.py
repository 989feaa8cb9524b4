"""How alike the customers of one store, region or household are, and what drawing such clusters whole therefore costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from fairlift.errors import Refusal
from fairlift.format import interval as between
from fairlift.format import number, percent
from fairlift.method.cluster_means import Clusters
from fairlift.method.power import design_effect


@dataclass(frozen=True)
class Icc:
    """How alike customers of one cluster are (0 not at all, 1 entirely), and what drawing clusters therefore costs."""

    outcome: str
    value: float
    low: float
    high: float
    level: float
    clusters: int
    n: int
    size: float
    cv: float

    @property
    def design_effect(self) -> float:
        """By how much drawing clusters multiplies the variance, and so the customers needed."""
        return design_effect(max(self.value, 0.0), self.size, self.cv)

    @property
    def design_effect_limits(self) -> tuple[float, float]:
        """The design effect at the limits of the ICC."""
        low, high = (design_effect(max(limit, 0.0), self.size, self.cv) for limit in (self.low, self.high))
        return low, high

    def __str__(self) -> str:
        limits = f"{percent(self.level)} interval {between(self.low, self.high)}"
        cost = f"{number(self.design_effect, 'times')} ({between(*self.design_effect_limits, 'times')})"
        return "\n".join(
            [
                f"ICC of {self.outcome}: {self.clusters:,} clusters, {self.n:,} customers, sizes {number(self.size, 'count')} "
                f"on average (CV {self.cv:.2f})",
                f"  {number(self.value)}, {limits}",
                f"  design effect {cost}",
            ]
        )


def icc(clusters: Clusters, alpha: float = 0.05) -> Icc:
    """Estimate the intraclass correlation from the analysis of variance, within arms where there are arms.

    The interval is Wald's (1940), exact for clusters of unequal size where outcomes are normal, and good where clusters are
    large enough for their means to be; households of two with skewed spend are not.  Below 0 the customers of a cluster are
    less alike than those of different ones.  Raises Refusal with fewer than two clusters more than arms, or where no cluster
    has two customers.

    >>> import pandas as pd
    >>> from fairlift.method.cluster_means import by_cluster
    >>> rows = pd.DataFrame({"store": ["s", "s", "t", "t"], "spend": [1.0, 2.0, 5.0, 6.0]})
    >>> round(icc(by_cluster(rows, "spend", "store")).value, 4)
    0.9394
    """
    found = Anova(clusters)
    least = found.least / (1 + found.least)
    tails = (special.fdtri(found.left, found.inside, 1 - alpha / 2), special.fdtri(found.left, found.inside, alpha / 2))
    low, high = (_at(lambda theta, q=q: found.ratio(theta) > q, least) for q in tails)
    size = float(clusters.n.mean())
    return Icc(
        outcome=clusters.outcome,
        value=float(found.theta / (1 + found.theta)),
        low=low,
        high=high,
        level=1 - alpha,
        clusters=len(clusters),
        n=int(clusters.n.sum()),
        size=size,
        cv=float(clusters.n.std()) / size,
    )


class Anova:
    """Between- against within-variance, around the means of the arms where there are arms."""

    def __init__(self, clusters: Clusters):
        n, arms = clusters.n, np.zeros(len(clusters)) if clusters.arm is None else clusters.arm
        groups = [np.flatnonzero(arms == name) for name in np.unique(arms)]
        self.left, self.inside = len(clusters) - len(groups), n.sum() - len(clusters)
        self.parts = [(clusters.mean[g], n[g]) for g in groups]
        within = float(clusters.within.sum())
        why = "there are too few clusters" if self.left < 1 else ""
        why = why or ("every cluster holds a single customer" if self.inside < 1 else "")
        why = why or ("the customers of a cluster do not differ" if within <= 0 else "")
        if why:
            raise Refusal(
                f"ICC of {clusters.outcome}: {why}, so there is nothing to compare; gather customers of more clusters."
            )
        self.within = within / float(self.inside)

    def ratio(self, theta: float) -> float:
        """The mean square between clusters over that within, were the between-variance `theta` times the within-variance."""
        squares = 0.0
        for mean, n in self.parts:
            weight = n / (1 + n * theta)
            squares += float((weight * (mean - (weight * mean).sum() / weight.sum()) ** 2).sum())
        return squares / self.left / self.within

    @property
    def theta(self) -> float:
        """The estimate of between- over within-variance."""
        typical = sum(n.sum() - (n**2).sum() / n.sum() for _, n in self.parts) / self.left
        return max((self.ratio(0.0) - 1) / float(typical), self.least)

    @property
    def least(self) -> float:
        """Below this the customers of the largest cluster could not be as unlike as that, each from each."""
        return -(1 - 1e-9) / float(max(n.max() for _, n in self.parts))


def _at(above: Callable[[float], bool], least: float) -> float:
    """The correlation, from `least` to 1, at which a decreasing function of between- over within-variance stops being above."""
    low, high = least, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if above(middle / (1 - middle)) else (low, middle)
    return low
