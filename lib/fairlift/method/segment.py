"""The effect by segment, as a diagnostic: differences between segments are spoken of only after one test over all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from fairlift.errors import InputError, Problem, Refusal
from fairlift.evidence import Evidence
from fairlift.format import interval as between
from fairlift.format import number, p_value
from fairlift.method.effect import MIN_NONZERO, Effect, effect
from fairlift.method.metric import Mean, Metric, Proportion
from fairlift.method.moments import Moments, moments

MIN_N = 200  # units of each arm in a segment


@dataclass(frozen=True)
class Heterogeneity:
    """Whether effects differ between segments beyond chance: Welch's F, and the spread of the true effects it implies.

    `mean` is the weighted mean effect, `tau` the estimated standard deviation of the true effects around it.
    """

    statistic: float
    df: float
    df_rest: float
    p: float
    mean: float
    tau: float


@dataclass(frozen=True)
class Segment:
    """One segment: its effect with limits that hold for all segments together, or why it has none.

    `p` is adjusted alike; `shrunken` is the effect drawn towards the mean of all segments by as much as chance explains the
    spread.  A suppressed segment has no number at all.
    """

    name: str
    effect: Effect | None
    shrunken: float | None = None
    refusal: str = ""


@dataclass(frozen=True)
class Segments:
    """Effects by segment.  `differ` says whether a difference between segments may be spoken of."""

    metric: Metric
    arm: str
    versus: str
    rows: tuple[Segment, ...]
    heterogeneity: Heterogeneity | None
    level: float

    @property
    def shown(self) -> tuple[Segment, ...]:
        return tuple(row for row in self.rows if row.effect)

    @property
    def differ(self) -> bool:
        return self.heterogeneity is not None and self.heterogeneity.p < 1 - self.level

    def __str__(self) -> str:
        unit = "points" if isinstance(self.metric, Proportion) else ""
        wide = max(len(row.name) for row in self.rows)
        lines = [f"{self.metric} by segment: {self.arm} against {self.versus}, {100 * self.level:.4g} % together"]
        for row in self.rows:
            if row.effect is None:
                lines.append(f"  {row.name:<{wide}}  not shown: {row.refusal}")
                continue
            seen = row.effect
            shown = f"{number(seen.value, unit, signed=True)} ({between(seen.low, seen.high, unit, signed=True)})"
            lines.append(f"  {row.name:<{wide}}  {shown}, shrunken {number(row.shrunken, unit, signed=True)}")
        if self.heterogeneity is None:
            return "\n".join([*lines, "  fewer than two segments can be shown, so they are not compared"])
        verdict = "segments differ" if self.differ else "no difference between segments is shown"
        return "\n".join([*lines, f"  one test over all: {p_value(self.heterogeneity.p)}: {verdict}"])


def by_segment(
    table,
    metric: Metric,
    arm_column: str,
    segment_column: str,
    arm: str,
    versus: str,
    *,
    alpha: float = 0.05,
    min_n: int = MIN_N,
    min_nonzero: int = MIN_NONZERO,
    **reading,
) -> Segments:
    """Estimate the effect within each value of `segment_column`, which must have been known before assignment.

    `table` is a pandas frame or an Ibis table with one row per randomised unit.  See `read_segments`.

    >>> import pandas as pd
    >>> rows = pd.DataFrame({"arm": ["new", "old"] * 2000, "buys": [1, 0, 0, 1, 0, 0, 0, 0] * 500})
    >>> rows["region"] = ["north"] * 1000 + ["south"] * 2900 + ["isle"] * 100
    >>> print(by_segment(rows, Proportion("buys"), "arm", "region", "new", "old"))
    share with buys by segment: new against old, 95 % together
      isle   not shown: fewer than 200 customers in an arm
      north  0.00 points (−6.14 to +6.14 points), shrunken 0.00 points
      south  0.00 points (−3.60 to +3.60 points), shrunken 0.00 points
      one test over all: p = 1.0000: no difference between segments is shown
    """
    found = moments(table, metric, arm=arm_column, stratum=segment_column)
    return read_segments(found, metric, arm, versus, alpha=alpha, min_n=min_n, min_nonzero=min_nonzero, **reading)


def read_segments(
    moments: Moments,
    metric: Metric,
    arm: str,
    versus: str,
    *,
    alpha: float = 0.05,
    min_n: int = MIN_N,
    min_nonzero: int = MIN_NONZERO,
    **reading,
) -> Segments:
    """Estimate the effect in every stratum of the moments, and test once whether the effects differ at all.

    The limits hold for all shown segments together (Šidák 1967: segments share no customer, so they are independent).  The
    test is Welch's for means of unequal variance (1951), Cochran's Q corrected for variances that are estimated.  The
    shrunken effects are empirical Bayes with the variance of DerSimonian and Laird (1986): where chance explains the whole
    spread, all of them are the mean.  Scanning the segments for the best one finds a "winner" where nothing differs.

    A segment with fewer than `min_n` units in an arm, or fewer than `min_nonzero` outcomes other than 0 in an arm, is
    suppressed: it has neither number nor count.  A segment that only one arm has is suppressed too.  `reading` is what
    `effect` takes.

    Raises InputError for thresholds below 2, Refusal where neither arm has a unit.
    """
    if min_n < 2 or min_nonzero < 2:
        raise InputError(Problem("segments", "a threshold is below 2", "show no segment of a single customer"))
    cells = moments.cells
    parts = {
        str(name): Moments(part.assign(stratum=""), moments.metrics, moments.missing)
        for name, part in cells[cells["arm"].isin((arm, versus))].groupby("stratum", sort=True)
    }
    if not parts:
        raise Refusal(f"{metric}: no segment has units of {arm} or {versus}; check the names of the arms.")
    refused = {name: _why_not(part, metric, arm, versus, min_n, min_nonzero) for name, part in parts.items()}
    seen, many = {}, sum(not why for why in refused.values())
    each = 1 - (1 - alpha) ** (1 / max(many, 1))
    for name in [name for name, why in refused.items() if not why]:
        try:
            options = reading | ({"min_nonzero": min_nonzero} if isinstance(metric, Mean) else {})
            found = effect(parts[name], metric, arm, versus, alpha=each, **options)
        except Refusal as refusal:
            refused[name] = str(refusal)
        else:
            seen[name] = _together(found, alpha, many)
    spread = None
    if len(seen) > 1:
        spread = heterogeneity(
            *zip(*((found.value, found.se, found.df_limits) for found in seen.values()), strict=True)
        )
    rows = tuple(
        Segment(name, seen.get(name), _shrunken(seen[name], spread) if name in seen else None, why)
        for name, why in refused.items()
    )
    return Segments(metric, arm, versus, rows, spread, 1 - alpha)


def heterogeneity(values, ses, dfs) -> Heterogeneity:
    """Test whether independent estimates differ by more than chance (Welch 1951), from values, standard errors and df.

    >>> test = heterogeneity([1.0, 2.0, 4.5], [0.5, 0.5, 1.0], [50, 50, 50])
    >>> round(test.statistic, 3), round(test.df_rest, 1), round(test.p, 3)
    (4.965, 94.7, 0.009)
    """
    values, ses, dfs = (np.asarray(each, dtype=float) for each in (values, ses, dfs))
    weights = 1 / ses**2
    share = weights / weights.sum()
    mean = float(share @ values)
    q, k = float(weights @ (values - mean) ** 2), len(values)
    unsure = float(((1 - share) ** 2 / dfs).sum())
    statistic = q / (k - 1) / (1 + 2 * (k - 2) / (k**2 - 1) * unsure)
    rest = (k**2 - 1) / (3 * unsure) if unsure > 0 else math.inf
    p = float(special.fdtrc(k - 1, rest, statistic)) if rest < 1e12 else float(special.chdtrc(k - 1, q))
    between_ = (q - (k - 1)) / (weights.sum() - (weights**2).sum() / weights.sum())
    return Heterogeneity(statistic, k - 1, rest, p, mean, math.sqrt(max(between_, 0.0)))


def segment_evidence(found: Segments, column: str, unit: str, window_days: int) -> Evidence:
    """The one test over all segments of a column as evidence that is only reported; `value` is the spread of the effects."""
    test, many = found.heterogeneity, len(found.shown)
    head = f"Effects of {found.arm} against {found.versus} by {column}"
    if test is None:
        statement = f"{head}: fewer than two segments can be shown, so they are not compared."
    else:
        verdict = "differ" if found.differ else "are not shown to differ"
        statement = f"{head} {verdict} (p {number(test.p, 'p')}, {many} of {len(found.rows)} segments shown)."
    return Evidence(
        id="method.reading.heterogeneity",
        statement=statement,
        kind="test",
        design="randomised",
        requirement="method.ab",
        segment=column,
        arm=found.arm,
        versus=found.versus,
        unit=unit,
        value=test.tau if test else None,
        p=test.p if test else None,
        n=sum(row.effect.n_arm + row.effect.n_versus for row in found.shown),
        window_start="day 0",
        window_end=f"day {window_days}",
        tables=("assignments", "customers", "orders"),
    )


def _why_not(part: Moments, metric: Metric, arm: str, versus: str, min_n: int, min_nonzero: int) -> str:
    counts = part.counts
    if min(counts.get(arm, 0), counts.get(versus, 0)) < min_n:
        return f"fewer than {min_n} customers in an arm"
    counted = isinstance(metric, Mean | Proportion)
    if counted and min(part.arm(name).nonzero(metric.column) for name in (arm, versus)) < min_nonzero:
        return f"fewer than {min_nonzero} customers of an arm with a value other than 0"
    return ""


def _together(found: Effect, alpha: float, many: int) -> Effect:
    """The effect with the level and the p of all segments together; the limits are already theirs."""
    return replace(found, level=1 - alpha, p=float(-math.expm1(many * math.log1p(-min(found.p, 1 - 1e-16)))))


def _shrunken(found: Effect, spread: Heterogeneity | None) -> float:
    if spread is None:
        return found.value
    kept = spread.tau**2 / (spread.tau**2 + found.se**2)
    return spread.mean + kept * (found.value - spread.mean)
