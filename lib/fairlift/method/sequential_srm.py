"""Did the randomisation hold, asked every day: a sample-ratio test that may be looked at as often as one likes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from fairlift.errors import InputError, Problem, Refusal
from fairlift.format import number

CONCENTRATION = 500.0  # puts an arm's share within about two points of the planned one


@dataclass(frozen=True)
class SequentialSrm:
    """A running sample-ratio test: the evidence against the planned shares after each look.

    `e` is how many times likelier the counts so far are under other shares than under the planned ones, one value a look;
    `running` its maximum so far; `crossed` the place of the first look at which it reached 1/alpha, None where it never did.
    """

    counts: dict[str, int]
    weights: dict[str, float]
    e: tuple[float, ...]
    alpha: float
    crossed: int | None

    @property
    def failed(self) -> bool:
        """Whether the shares were shown not to be as planned at any look."""
        return self.crossed is not None

    @property
    def running(self) -> np.ndarray:
        """The largest e-value so far, look by look."""
        return np.maximum.accumulate(np.array(self.e))

    @property
    def p(self) -> float:
        """The p-value that holds at any time: 1 over the largest e-value, at most 1."""
        return min(1.0, 1 / float(self.running[-1]))

    def __str__(self) -> str:
        width, n = max(map(len, self.counts)), sum(self.counts.values())
        rows = [
            f"  {arm:<{width}}  {k:>12,}  planned {n * self.weights[arm]:>14,.1f}" for arm, k in self.counts.items()
        ]
        said = f"the shares are not as planned, seen at look {self.crossed + 1}" if self.failed else "no mismatch found"
        largest = float(self.running[-1])
        shown = "above 1,000,000" if largest > 1e6 else number(largest)
        looks = f"{number(len(self.e), 'count')} looks, largest e-value {shown}"
        return "\n".join(["sequential sample ratio", *rows, f"  {looks} against {number(1 / self.alpha)}: {said}"])


def sequential_srm(
    counts: Mapping[str, Sequence[int]],
    weights: Mapping[str, float],
    alpha: float = 0.001,
    concentration: float = CONCENTRATION,
) -> SequentialSrm:
    """Test at every look whether the arms' sizes fit the planned weights: the Dirichlet-multinomial test.

    `counts` are the units that each arm gained between looks (a day, say), one list an arm and all of one length; `weights`
    planned shares on any common scale.  The e-value sets a Dirichlet mixture of shares around the planned ones against them;
    if those hold, the chance that it ever reaches 1/alpha is at most alpha, however often it is looked at (Lindon and Malek
    2022).  `concentration` says how near to the plan errors are expected: higher finds smaller ones, later.

    Raises InputError for arms that do not match and for counts that are none, Refusal where nobody was counted.

    >>> print(sequential_srm({"a": [600] * 28, "b": [540] * 28}, {"a": 1, "b": 1}))
    sequential sample ratio
      a        16,800  planned       15,960.0
      b        15,120  planned       15,960.0
      28 looks, largest e-value above 1,000,000 against 1,000: the shares are not as planned, seen at look 6
    """
    _check(counts, weights, alpha, concentration)
    arms = list(weights)
    shares = np.array([weights[arm] for arm in arms], dtype=float)
    shares /= shares.sum()
    total = np.array([counts[arm] for arm in arms], dtype=float).T.cumsum(axis=0)
    if not total.size or not total[-1].sum():
        raise Refusal("sequential sample ratio: nobody was counted yet, so there is nothing to test.")
    log_e = e_values(total, shares, concentration)
    hit = log_e >= -math.log(alpha)
    return SequentialSrm(
        counts=dict(zip(arms, total[-1].astype(int).tolist(), strict=True)),
        weights=dict(zip(arms, shares.tolist(), strict=True)),
        e=tuple(np.exp(np.minimum(log_e, 700.0)).tolist()),
        alpha=alpha,
        crossed=int(hit.argmax()) if hit.any() else None,
    )


def e_values(totals, shares, concentration: float = CONCENTRATION) -> np.ndarray:
    """The logarithm of the e-value of cumulated counts; the last axis of `totals` are the arms, `shares` sum to 1.

    >>> e_values([[0, 0], [1, 0], [1, 1]], [0.5, 0.5], concentration=2).round(4).tolist()
    [0.0, 0.0, -0.4055]
    """
    totals, shares = np.asarray(totals, dtype=float), np.asarray(shares, dtype=float)
    prior, n = concentration * shares, totals.sum(axis=-1)
    whole = special.gammaln(concentration) - special.gammaln(concentration + n)
    apart = (special.gammaln(prior + totals) - special.gammaln(prior) - totals * np.log(shares)).sum(axis=-1)
    return whole + apart


def _check(counts: Mapping, weights: Mapping, alpha: float, concentration: float) -> None:
    where, problems = "sequential sample ratio", []
    for arm in weights:
        if arm not in counts:
            problems.append(Problem(where, f"arm `{arm}` is planned but has no counts", "count its units; nobody is 0"))
        if not 0 < weights[arm] < math.inf:
            problems.append(
                Problem(where, f"arm `{arm}` has the planned weight {weights[arm]}", "give a number above 0")
            )
    for arm, gained in counts.items():
        if arm not in weights:
            problems.append(Problem(where, f"arm `{arm}` has units but no planned weight", "state its planned share"))
        found = np.asarray(gained, dtype=float)
        if not (np.isfinite(found) & (found >= 0) & (found == np.floor(found))).all():
            problems.append(
                Problem(where, f"arm `{arm}` has a count that is none", "a count is a whole number, 0 or more")
            )
    if len({len(gained) for gained in counts.values()}) > 1:
        problems.append(Problem(where, "the arms have different numbers of looks", "give each arm one count a look"))
    if len(weights) < 2:
        problems.append(Problem(where, "a single arm has no ratio to test", "name two arms or more"))
    if not 0 < alpha < 1:
        problems.append(Problem(where, f"alpha is {alpha}", "choose a fraction such as 0.001"))
    if not concentration > 0:
        problems.append(Problem(where, f"the concentration is {concentration}", "choose a number above 0, such as 500"))
    if problems:
        raise InputError(problems)
