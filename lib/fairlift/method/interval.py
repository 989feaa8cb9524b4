"""Intervals for counts, and p-values of a family."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from fairlift.errors import InputError, Problem


def wilson(events: int, n: int, alpha: float = 0.05) -> tuple[float, float]:
    """Score interval for a proportion (Wilson 1927).

    `events` of `n` units; answers (low, high) as fractions.  Raises InputError unless 0 ≤ events ≤ n and n > 0.

    >>> [round(limit, 4) for limit in wilson(81, 263)]
    [0.2553, 0.3662]
    """
    _check(events, n)
    z = -float(special.ndtri(alpha / 2))
    centre = (events + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * math.sqrt(events * (n - events) / n + z**2 / 4)
    return (0.0 if events == 0 else centre - half), (1.0 if events == n else centre + half)


def newcombe(events: int, n: int, events_versus: int, n_versus: int, alpha: float = 0.05) -> tuple[float, float]:
    """Interval for a difference of two proportions from their Wilson limits (Newcombe 1998, method 10).

    Answers (low, high) of events/n − events_versus/n_versus, as fractions.

    >>> [round(limit, 4) for limit in newcombe(56, 70, 48, 80)]
    [0.0524, 0.3339]
    """
    low, high = wilson(events, n, alpha)
    low_versus, high_versus = wilson(events_versus, n_versus, alpha)
    p, q = events / n, events_versus / n_versus
    return p - q - math.hypot(p - low, high_versus - q), p - q + math.hypot(high - p, q - low_versus)


def fieller(
    top: float, bottom: float, se_top: float, se_bottom: float, covariance: float, quantile: float
) -> tuple[float, float] | None:
    """The interval of a ratio of two uncertain numbers (Fieller 1954); None where it has no end.

    `quantile` is the t or normal quantile.  The interval is a set without ends when `bottom` cannot be told from 0.

    >>> [round(limit, 4) for limit in fieller(3.0, 2.0, 0.1, 0.1, 0.0, 1.96)]
    [1.3364, 1.6927]
    >>> fieller(3.0, 0.1, 0.1, 0.1, 0.0, 1.96) is None
    True
    """
    t2 = quantile**2
    a, b, c = bottom**2 - t2 * se_bottom**2, top * bottom - t2 * covariance, top**2 - t2 * se_top**2
    if a <= 0:
        return None
    root = math.sqrt(max(b**2 - a * c, 0.0))  # never negative while a > 0, but for rounding
    return (b - root) / a, (b + root) / a


def clopper_pearson(events: int, n: int, alpha: float = 0.05, sides: int = 2) -> tuple[float, float]:
    """Exact interval for a proportion (Clopper and Pearson 1934).

    With `sides=1` each limit alone holds with confidence 1 − alpha: no event among 10,000 bounds the rate at 3.0 per
    10,000, where the two-sided interval says 3.7.

    >>> [round(1e4 * clopper_pearson(0, 10_000, sides=sides)[1], 1) for sides in (1, 2)]
    [3.0, 3.7]
    """
    _check(events, n)
    if sides not in (1, 2):
        raise InputError(Problem("interval", f"sides is {sides!r}", "say 1 or 2"))
    tail = alpha / sides
    low = 0.0 if events == 0 else float(special.betaincinv(events, n - events + 1, tail))
    high = 1.0 if events == n else float(special.betainccinv(events + 1, n - events, tail))
    return low, high


def holm(pvalues: Sequence[float]) -> np.ndarray:
    """P-values adjusted for a family so that the chance of any false alarm is held (Holm 1979), in the order given.

    >>> holm([0.01, 0.04, 0.03]).round(4).tolist()
    [0.03, 0.06, 0.06]
    """
    given = _pvalues(pvalues)  # by hand: statsmodels takes 0.2 s a call to collect garbage
    order = np.argsort(given)
    stepped = np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1))
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def benjamini_hochberg(pvalues: Sequence[float]) -> np.ndarray:
    """P-values adjusted so that the share of false alarms among alarms is held (Benjamini and Hochberg 1995).

    >>> benjamini_hochberg([0.01, 0.04, 0.03]).round(4).tolist()
    [0.03, 0.04, 0.04]
    """
    from statsmodels.stats.multitest import multipletests  # late: a slow import

    given = _pvalues(pvalues)
    return multipletests(given, method="fdr_bh")[1] if len(given) else given


def _pvalues(pvalues: Sequence[float]) -> np.ndarray:
    given = np.asarray(pvalues, dtype=float)
    if not ((given >= 0) & (given <= 1)).all():
        raise InputError(Problem("p-values", "some are not between 0 and 1", "leave out what was not tested"))
    return given


def _check(events: int, n: int) -> None:
    if not (n > 0 and 0 <= events <= n):
        raise InputError(Problem("interval", f"{events} events of {n} units", "events are 0 to n, and n is above 0"))
