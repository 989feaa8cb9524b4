"""Is the holdout still a holdout: who in it got personalised offers, when, and what that does to the effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from fairlift.errors import InputError, Problem, Refusal
from fairlift.evidence import Evidence
from fairlift.format import interval as between
from fairlift.format import number
from fairlift.method.effect import Effect, effect
from fairlift.method.interval import clopper_pearson
from fairlift.method.metric import Mean
from fairlift.method.moments import moments

OFFERS = "personalised_exposures"
LIMIT = 0.01  # with nobody contaminated, 299 customers are enough to say "under one in a hundred"
HARD_LIMIT = 0.05


@dataclass(frozen=True)
class Contamination:
    """How many customers of an arm got what only another arm should get.

    `share` is `contaminated` over `n`; each of `low` and `high` alone holds at `level` (exact, one-sided).
    """

    arm: str
    n: int
    contaminated: int
    share: float
    low: float
    high: float
    level: float

    def __str__(self) -> str:
        seen = f"{number(self.contaminated, 'count')} of {number(self.n, 'count')} customers"
        limit = f"at most {number(self.high, 'share')} (exact, one-sided {100 * self.level:.4g} %)"
        return f"contamination of {self.arm}: {seen}, {number(self.share, 'share')}; {limit}"


@dataclass(frozen=True)
class Bounds:
    """A range in which the effect of full separation lies, given `assumption`: bounds, not an estimate.

    `lowest` and `highest` are the ends of the range for the customers seen, `low` and `high` its limits with the sampling
    error on top, at `level`.
    """

    arm: str
    versus: str
    assumption: str
    lowest: float
    highest: float
    low: float
    high: float
    level: float

    def __str__(self) -> str:
        seen = between(self.lowest, self.highest, signed=True)
        limits = f"{100 * self.level:.4g} % limits {between(self.low, self.high, signed=True)}"
        return f"{self.arm} against {self.versus}, fully separated: {seen}; {limits}\n  if {self.assumption}"


def contamination(units, arm: str, column: str = OFFERS, *, by: str = "arm", alpha: float = 0.05) -> Contamination:
    """Count the customers of `arm` who have anything in `column`, with exact one-sided bounds (Clopper and Pearson 1934).

    `units` is a pandas DataFrame or an Ibis table with one row a customer; `by` names its column of arms, and `column`
    counts what that arm should never get.  Raises InputError where columns are missing or a count is missing or negative,
    and Refusal where the arm has no customers.

    >>> units = pd.DataFrame({"arm": ["holdout"] * 300, "personalised_exposures": 0})
    >>> print(contamination(units, "holdout"))
    contamination of holdout: 0 of 300 customers, 0.00 %; at most 0.99 % (exact, one-sided 95 %)
    """
    _need(units, (by, column))
    if isinstance(units, pd.DataFrame):
        here = units.loc[units[by] == arm, column]
        n, wrong, hits = len(here), int((here.isna() | (here < 0)).sum()), int((here > 0).sum())
    else:
        here = units.filter(units[by] == arm)
        found = here.aggregate(
            n=here.count(),
            wrong=(here[column].isnull() | (here[column] < 0)).cast("int64").sum(),
            hits=(here[column] > 0).cast("int64").sum(),
        )
        n, wrong, hits = (int(value or 0) for value in found.to_pyarrow().to_pylist()[0].values())
    if wrong:
        found = f"{wrong:,} of {n:,} customers of {arm} have no count, or one below 0"
        raise InputError(Problem("units", found, "who was shown nothing has 0", column=column, count=wrong))
    if not n:
        raise Refusal(
            f"contamination: arm {arm} has no customers, so there is nothing to count; name an arm with some."
        )
    low, high = clopper_pearson(hits, n, alpha, sides=1)
    return Contamination(arm, n, hits, hits / n, low, high, 1 - alpha)


def separated(seen: Effect, leak: Contamination, reach: float = 1.0) -> Bounds:
    """The effect had nobody leaked, if a leaked offer does no more than an offer does to those it was meant for.

    Let a share c of the other arm be contaminated and a share `reach` of the personalised arm be reached.  If the offers
    did to the contaminated, on average, something between nothing and what they did to those reached, the effect of full
    separation lies between the effect seen and that effect over 1 − c / reach: contamination dilutes, and cannot turn the
    sign.  c is counted in the very customers who are compared, so it adds no sampling error of its own.

    Raises Refusal where the other arm is contaminated as much as the arm is reached: the two then do not differ.

    >>> units = pd.DataFrame({"arm": ["p", "h"] * 500, "spend": [3.0, 1.0, 2.0, 1.0] * 250})
    >>> units["personalised_exposures"] = [1, 0] * 450 + [1, 1] * 50
    >>> seen = effect(moments(units, Mean("spend"), "arm"), Mean("spend"), "p", "h", interval="welch")
    >>> print(separated(seen, contamination(units, "h")))
    p against h, fully separated: +1.500 to +1.667; 95 % limits +1.456 to +1.716
      if a leaked offer does no more than one that was meant
    """
    if not 0 < reach <= 1:
        raise InputError(Problem("reach", f"is {reach}", "give the share of the personalised arm that was reached"))
    if leak.arm != seen.versus:
        found = f"contamination is of {leak.arm}, the effect is against {seen.versus}"
        raise InputError(Problem("contamination", found, f"count the contaminated of {seen.versus}"))
    if leak.share >= reach:
        raise Refusal(
            f"{seen.arm} against {seen.versus}: {number(leak.share, 'share')} of {seen.versus} got personalised offers and "
            f"{number(reach, 'share')} of {seen.arm}, so the two do not differ; only a new draw would separate them."
        )
    factor = 1 / (1 - leak.share / reach)
    return Bounds(
        arm=seen.arm,
        versus=seen.versus,
        assumption="a leaked offer does no more than one that was meant",
        lowest=min(seen.value, seen.value * factor),
        highest=max(seen.value, seen.value * factor),
        low=min(seen.low, seen.low * factor),
        high=max(seen.high, seen.high * factor),
        level=seen.level,
    )


def worst_case(
    units: pd.DataFrame,
    outcome: str,
    arm: str,
    versus: str,
    limits: tuple[float, float],
    column: str = OFFERS,
    *,
    by: str = "arm",
    alpha: float = 0.05,
) -> Bounds:
    """The effect had nobody leaked, whatever the leaked offers did (Manski 1990).

    Without the leak, each contaminated customer of `versus` would have had some outcome within `limits`: once all are set
    to the lower limit and once all to the upper.  The sampling error is added at the outer ends.  For a capped outcome the
    limits are 0 and the cap.  Raises InputError where an outcome lies outside the limits, or a count of `versus` is missing.

    >>> units = pd.DataFrame({"arm": ["p", "h"] * 500, "spend": [3.0, 1.0, 2.0, 1.5] * 250})
    >>> units["personalised_exposures"] = [1, 0] * 450 + [1, 1] * 50
    >>> bounds = worst_case(units, "spend", "p", "h", limits=(0, 5))
    >>> round(bounds.lowest, 4), round(bounds.highest, 4), bounds.assumption
    (0.875, 1.375, 'without the leak each contaminated customer had between 0 and 5')
    """
    _need(units, (by, column, outcome))
    lower, upper = limits
    here = units[units[by].isin([arm, versus])]
    outside = int((~here[outcome].between(lower, upper)).sum())
    if outside:
        found = f"{outside:,} customers lie outside {lower:g} to {upper:g}, or have no value"
        raise InputError(Problem("units", found, "cap the outcome, or widen the limits", column=outcome, count=outside))
    contamination(here, versus, column, by=by)  # who has no count would pass for one without a leak
    leaked = (here[by] == versus) & (here[column] > 0)
    metric, ends = Mean(outcome), []
    for end in (upper, lower):
        replaced = pd.DataFrame({"arm": here[by], outcome: here[outcome].where(~leaked, end)})
        ends.append(effect(moments(replaced, metric, "arm"), metric, arm, versus, alpha=alpha))
    return Bounds(
        arm=arm,
        versus=versus,
        assumption=f"without the leak each contaminated customer had between {number(lower)} and {number(upper)}",
        lowest=ends[0].value,
        highest=ends[1].value,
        low=ends[0].low,
        high=ends[1].high,
        level=1 - alpha,
    )


def leak_log(
    events: pd.DataFrame, by: Sequence[str], *, unit: str = "unit", column: str = OFFERS, minimum: int = 10
) -> pd.DataFrame:
    """Customers and offers that leaked, per week, channel or whatever `by` names; never who they were.

    `events` are rows of the contaminated arm with `unit`, the count `column` and the columns of `by`.  A cell with fewer
    than `minimum` customers keeps its place and loses its numbers.  Raises InputError where `by` names the unit.

    >>> events = pd.DataFrame({"unit": range(30), "week": [1] * 25 + [2] * 5, "personalised_exposures": 2})
    >>> print(leak_log(events, ["week"]).reset_index().to_string(index=False))
     week  customers  offers
        1         25      50
        2       <NA>    <NA>
    """
    by = [by] if isinstance(by, str) else list(by)
    if unit in by:
        raise InputError(Problem("leaks", f"`{unit}` would list single customers", "group by week or channel"))
    _need(events, (unit, column, *by))
    leaked = events[events[column] > 0]
    grouped = leaked.groupby(by, observed=True, dropna=False)
    log = pd.DataFrame({"customers": grouped[unit].nunique(), "offers": grouped[column].sum()}).astype("Int64")
    return log.mask(log["customers"] < minimum)


def contamination_evidence(units, window_days: int, column: str = OFFERS, *, by: str = "arm") -> list[Evidence]:
    """One row for each arm that should get no personalised offers; none where the units do not know who was shown what.

    The row is exact and passes when the one-sided 95 % upper bound is at most one in a hundred.
    """
    if column not in units.columns:
        return []
    if isinstance(units, pd.DataFrame):
        arms = sorted(units[by].unique())
    else:
        arms = sorted(units.select(by).distinct().to_pyarrow()[by].to_pylist())
    rows = []
    for arm in arms:
        if arm.startswith("personalised"):
            continue
        seen = contamination(units, arm, column, by=by)
        rows.append(
            Evidence(
                id="method.contamination.share",
                requirement="design.spillover",
                statement=(
                    f"Of {number(seen.n, 'count')} customers of {arm}, {number(seen.share, 'share')} were shown a personalised "
                    f"offer all the same; at most {number(seen.high, 'share')} (exact, one-sided)."
                ),
                kind="exact",
                design="descriptive",
                arm=arm,
                value=seen.share,
                low=seen.low,
                high=seen.high,
                level=seen.level,
                unit="share",
                n=seen.n,
                threshold=LIMIT,
                threshold_from="checklist",
                hard_limit=HARD_LIMIT,
                better="down",
                family="validity",
                tables=("assignments", "exposures"),
                window_start="day 0",
                window_end=f"day {window_days}",
            )
        )
    return rows


def _need(table, columns: Sequence[str]) -> None:
    absent = [name for name in columns if name not in table.columns]
    if absent:
        known = ", ".join(f"`{name}`" for name in list(table.columns)[:8])
        raise InputError([Problem("units", "there is no such column", f"known: {known}", column=c) for c in absent])
