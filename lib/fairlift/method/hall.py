"""Hall's transformation of t, which takes the skewness of an estimate off its interval (Hall 1992)."""

from __future__ import annotations

import math


def transformed(t: float, skew: float) -> float:
    """The monotone cubic transformation of t; with no skew it is t itself.

    >>> transformed(2.0, 0.0), round(transformed(2.0, 0.3), 4)
    (2.0, 2.4767)
    """
    return t + skew * t**2 / 3 + skew**2 * t**3 / 27 + skew / 6


def studentised(quantile: float, skew: float) -> float:
    """The inverse: the t that the transformed quantile belongs to.

    >>> round(studentised(transformed(2.0, 0.3), 0.3), 12)
    2.0
    """
    if skew == 0:
        return quantile
    shift = skew * (quantile - skew / 6)
    root = math.expm1(math.log1p(shift) / 3) if abs(shift) < 0.5 else math.cbrt(1 + shift) - 1
    return 3 / skew * root
