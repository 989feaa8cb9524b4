"""Does the gain last: the effect by whole week since assignment, on one cohort that never changes.

Everybody in the cohort was followed to the end of the longest horizon, so a curve that bends shows customers who change and not
other customers.  Weeks are whole, counted from each unit's own assignment, so weekdays cancel.  A unit's weeks are alike; the
unit is the observation, its week or day never is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache

import numpy as np
import pandas as pd
from scipy import special

from fairlift.errors import InputError, Problem, Refusal, nearest
from fairlift.evidence import Evidence
from fairlift.format import estimate, interval, number
from fairlift.method.effect import Effect, effect
from fairlift.method.interval import fieller
from fairlift.method.kpi import measured
from fairlift.method.metric import Mean, Proportion, Ratio
from fairlift.method.moments import Moments, moments

LEAST_FOLLOWED = 0.5  # a smaller part of the units would speak for the early entrants alone
DRAWS = 40_000  # of the largest of several normal deviates, for a band that holds at every horizon at once


@dataclass(frozen=True, eq=False)
class Panel:
    """One outcome by unit and week since assignment, of the units that were followed to the last week.

    `weeks` is unit × week, `arm` and `entry` one text a unit (`entry` is None where the arms' shares never changed);
    `assigned` and `followed` count units by arm, before and after those not followed to the end were left out.
    """

    outcome: str
    arm: np.ndarray
    weeks: np.ndarray
    assigned: dict[str, int]
    followed: dict[str, int]
    entry: np.ndarray | None = None

    @property
    def length(self) -> int:
        """How many weeks."""
        return self.weeks.shape[1]

    def __str__(self) -> str:
        width = max(map(len, self.assigned))
        rows = [
            f"  {arm:<{width}}  {self.followed[arm]:>9,} of {n:>9,} followed for {self.length} weeks"
            for arm, n in self.assigned.items()
        ]
        return "\n".join([f"{self.outcome}: one cohort", *rows])


@dataclass(frozen=True)
class Fading:
    """Whether the effect changes from week to week, beyond what moves the versus arm too.

    `change` is the effect's change a week in the outcome's unit; `early` and `late` are the effect a week in the first weeks
    and in those after them; `ratio` is late ÷ early with Fieller's limits, None where early cannot be told from 0.
    """

    change: Effect
    early: Effect
    late: Effect
    first_weeks: int
    ratio: tuple[float, float, float] | None

    @property
    def verdict(self) -> str:
        """ "fades", "grows" or "no change shown"."""
        return "fades" if self.change.high < 0 else "grows" if self.change.low > 0 else "no change shown"

    @property
    def detectable(self) -> float:
        """The change a week that would be shown in 80 % of such experiments."""
        alpha = 1 - self.change.level
        return float(-special.ndtri(alpha / 2) + special.ndtri(0.8)) * self.change.se

    def __str__(self) -> str:
        rows = [
            f"{self.change.arm} against {self.change.versus}: {self.verdict}",
            f"  change of the effect a week   {_shown(self.change)}",
            f"  effect a week, first {self.first_weeks} weeks  {_shown(self.early)}",
            f"  effect a week, after that     {_shown(self.late)}",
        ]
        if self.ratio:
            value, low, high = self.ratio
            rows.append(f"  late ÷ early                  {number(value)} ({interval(low, high)})")
        return "\n".join(rows)


@dataclass(frozen=True, eq=False)
class LongTerm:
    """The reading of one outcome over the weeks since assignment; `refusal` says why where there is none."""

    outcome: str
    arm: str
    versus: str
    weeks: int
    cohort: Panel | None = None
    curve: pd.DataFrame | None = None
    fading: Fading | None = None
    refusal: str = ""


def followed_days(units: pd.DataFrame, as_of: date, window_days: int = 0) -> pd.Series:
    """For how many whole days since assignment each unit is surely in the data, which end on the local day `as_of`.

    `units` needs `enrolled`, a local day; a unit marked `complete` was followed for `window_days` at least.

    >>> units = pd.DataFrame({"enrolled": [date(2026, 1, 1), date(2026, 1, 20)], "complete": [True, False]})
    >>> followed_days(units, date(2026, 1, 29), window_days=28).tolist()
    [28, 8]
    """
    days = (pd.Timestamp(as_of) - pd.to_datetime(units["enrolled"])).dt.days - 1  # the day of `as_of` may be half over
    if "complete" in units:
        days = days.where(~units["complete"].astype(bool), np.maximum(days, window_days))
    return days.clip(lower=0)


def panel(
    units: pd.DataFrame,
    unit_days,
    outcome: str,
    weeks: int,
    followed: pd.Series | np.ndarray | None = None,
    entry: str | None = None,
    least_followed: float = LEAST_FOLLOWED,
) -> Panel:
    """One outcome by unit and week since assignment, for the units that were followed for all `weeks`.

    `units` has one row a randomised unit with `unit` and `arm`; `unit_days` (a frame or an Ibis table) has `unit`, `day` (0 is
    the day that starts with the assignment) and the outcome, with rows only where something happened; days before the
    assignment and after the last week are ignored.  `followed` is the number of days each unit is in the data; None says that all were followed to
    the end.  `entry` names the column of the cells within which the arms are compared, where their shares changed.

    Raises InputError for absent columns and missing values, Refusal where less than `least_followed` of the units of an arm were followed, or where
    follow-up differs between the arms more than chance allows (p < .001): the cohort would be another in each arm.

    >>> units = pd.DataFrame({"unit": [0, 1, 2], "arm": ["new", "old", "old"]})
    >>> days = pd.DataFrame({"unit": [0, 0, 2, 1], "day": [3, 8, 0, -5], "revenue": [5.0, 1.0, 2.0, 9.0]})
    >>> panel(units, days, "revenue", weeks=2).weeks.tolist()
    [[5.0, 1.0], [0.0, 0.0], [2.0, 0.0]]
    """
    _check(units, unit_days, outcome, weeks, entry)
    here = np.ones(len(units), dtype=bool) if followed is None else np.asarray(followed) >= 7 * weeks
    assigned = units["arm"].value_counts().to_dict()
    kept = units["arm"][here].value_counts().reindex(list(assigned), fill_value=0).to_dict()
    _refuse_followed(assigned, kept, weeks, least_followed, entry is not None)
    cohort = units[here]
    totals = _weekly(unit_days, outcome, weeks)
    if lacking := int((~np.isfinite(totals["total"].to_numpy(dtype=float))).sum()):
        found = f"{lacking:,} have no value, or an infinite one"
        raise InputError(Problem("unit_days", found, "leave out days without one", column=outcome, count=lacking))
    place = pd.Series(np.arange(len(cohort)), index=cohort["unit"]).reindex(totals["unit"])
    known = place.notna().to_numpy()
    cell = place.to_numpy()[known].astype(np.int64) * weeks + totals["week"].to_numpy()[known]
    sums = np.bincount(cell, totals["total"].to_numpy(dtype=float)[known], minlength=len(cohort) * weeks)
    cells = cohort[entry].to_numpy(dtype=object) if entry else None
    return Panel(outcome, cohort["arm"].to_numpy(dtype=object), sums.reshape(len(cohort), weeks), assigned, kept, cells)


def by_week(cohort: Panel, arm: str, versus: str, alpha: float = 0.05) -> pd.DataFrame:
    """The effect in each single week since assignment: week, value, se, low, high, and the versus arm's mean.

    The limits hold in all weeks at once (see `by_horizon`).  A week with too few buyers has a value and no limits.
    """
    columns = {week + 1: cohort.weeks[:, week] for week in range(cohort.length)}
    return _banded(cohort, columns, arm, versus, alpha).rename_axis("week").reset_index()


def by_horizon(
    cohort: Panel, arm: str, versus: str, horizons: Sequence[int] | None = None, alpha: float = 0.05
) -> pd.DataFrame:
    """The effect added up from assignment to each horizon (days, whole weeks; by default 7, 14, 28, 56, 84, … and the last).

    One row a horizon: days, value, se, low and high (simultaneous), alone_low and alone_high (for who fixed this one horizon
    beforehand), and the versus arm's mean.  The simultaneous limits take the quantile of the largest of all horizons' correlated
    deviations (sup-t; Montiel Olea and Plagborg-Møller 2019), so that the whole curve is held with 1 − alpha, inside Hall's
    interval of each.  Raises Refusal where the longest horizon cannot be read, InputError for a horizon that is not in whole weeks
    or lies outside the panel.

    >>> draws = np.random.default_rng(1)
    >>> spend = draws.gamma(1, 1, (400, 4)) + np.where(np.arange(400) < 200, 0.5, 0)[:, None]
    >>> cohort = Panel("spend", np.repeat(["new", "old"], 200), spend, {}, {})
    >>> curve = by_horizon(cohort, "new", "old")
    >>> curve["days"].tolist(), bool((curve.low < curve.alone_low).all())
    ([7, 14, 28], True)
    """
    days = list(horizons) if horizons is not None else standard_horizons(cohort.length)
    wrong = [day for day in days if day % 7 or not 0 < day <= 7 * cohort.length]
    if wrong or not days:
        found = f"{', '.join(map(str, wrong)) or 'none'} of 7 to {7 * cohort.length} days in whole weeks"
        raise InputError(Problem("horizons", found, "give horizons in whole weeks that everybody was followed for"))
    columns = {day: cohort.weeks[:, : day // 7].sum(axis=1) for day in sorted(set(days))}
    return _banded(cohort, columns, arm, versus, alpha, alone=True).rename_axis("days").reset_index()


def standard_horizons(weeks: int) -> list[int]:
    """Horizons in days that a cohort followed for so many weeks can show.

    >>> standard_horizons(8), standard_horizons(14)
    ([7, 14, 28, 56], [7, 14, 28, 56, 84, 98])
    """
    steps = [7, 14, 28, 56, 84, 112, 168, 252, 364]
    return sorted({day for day in steps if day <= 7 * weeks} | {7 * weeks})


def fading(cohort: Panel, arm: str, versus: str, first_weeks: int = 2, alpha: float = 0.05) -> Fading:
    """Test whether the effect fades (novelty) or grows (learning) over the weeks since assignment (Hohnhold et al. 2015).

    Each unit's own weekly slope is one observation.  A season lets both arms rise and with them the effect of a constant lift;
    so the versus arm's slope, in proportion to its level, is taken off both arms, and its sampling error goes into the interval
    (delta method).  A constant lift then has a change of 0 in any season.  Raises Refusal for fewer than four weeks, fewer than
    100 buyers in an arm, or a versus arm that sold nothing.
    """
    _refuse_short(cohort.length)
    if not 1 <= first_weeks < cohort.length:
        found = f"the first {first_weeks} of {cohort.length}"
        raise InputError(Problem("weeks", found, "leave at least one week after the first"))
    week = np.arange(cohort.length) - (cohort.length - 1) / 2
    slope, level = cohort.weeks @ (week / (week**2).sum()), cohort.weeks.mean(axis=1)
    means = {name: [_mean(cohort, values, name) for values in (slope, level)] for name in (arm, versus)}
    (_, level_arm), (slope_versus, level_versus) = means[arm], means[versus]
    if level_versus <= 0:
        raise Refusal(f"fading: {versus} has nothing of {cohort.outcome}, so there is no season to take off.")
    own = slope - slope_versus / level_versus * level
    change = np.where(cohort.arm == versus, level_arm / level_versus * own, own)
    early, late = cohort.weeks[:, :first_weeks].mean(axis=1), cohort.weeks[:, first_weeks:].mean(axis=1)
    columns = {"change": change, "early": early, "late": late}
    found = list(_effect(cohort, columns, arm, versus, alpha).values())
    for seen in found:
        if isinstance(seen, Refusal):
            raise seen
    ratio = _ratio(cohort, early, late, *found[1:], alpha)
    return Fading(*found, first_weeks, ratio)


def short_beside_long(
    orders: Panel, money: Panel, arm: str, versus: str, first_weeks: int = 2, last_weeks: int = 4, alpha: float = 0.05
) -> pd.DataFrame:
    """What shows at once beside what shows late, for the same customers: one row a measure.

    Early: conversion (the share who bought) and order value (money ÷ orders) in the first weeks.  Late: retention (the share who
    bought in the last weeks) and value (money a customer over all weeks).  `orders` and `money` are panels of the same units.
    Columns: measure, weeks, value, low, high, mean_arm, mean_versus, unit (of the difference).  A measure that cannot be read has
    no limits.  An early gain is no substitute for a late one: it stands in for it only where both were seen to move together in
    experiments that ran to the end (Athey et al. 2019).
    """
    length = money.length
    if orders.length != length or not np.array_equal(orders.arm, money.arm):
        raise InputError(Problem("panels", "they hold other units or weeks", "make both from the same units"))
    if first_weeks > length - last_weeks:
        found = f"the first {first_weeks} and the last {last_weeks} of {length} weeks overlap"
        raise InputError(Problem("weeks", found, "choose fewer, or follow the cohort longer"))
    frame = pd.DataFrame(
        {
            "arm": money.arm,
            "conversion": (orders.weeks[:, :first_weeks].sum(axis=1) > 0).astype(float),
            "orders": orders.weeks[:, :first_weeks].sum(axis=1),
            "money": money.weeks[:, :first_weeks].sum(axis=1),
            "retention": (orders.weeks[:, -last_weeks:].sum(axis=1) > 0).astype(float),
            "value": money.weeks.sum(axis=1),
        }
    )
    if money.entry is not None:
        frame["entry"] = money.entry
    first, last = f"1 to {first_weeks}", f"{length - last_weeks + 1} to {length}"
    measures = (
        ("conversion", first, Proportion("conversion"), "points"),
        ("order value", first, Ratio("money", "orders"), "money"),
        ("retention", last, Proportion("retention"), "points"),
        ("value", f"1 to {length}", Mean("value"), "money"),
    )
    day, by = (None, ()) if money.entry is None else ("entry", ("day",))
    found = moments(frame, [metric for *_, metric, _ in measures], arm="arm", day=day)
    rows = []
    for name, weeks, metric, unit in measures:
        try:
            seen = effect(found, metric, arm, versus, alpha=alpha, by=by)
            limits = (seen.value, seen.low, seen.high, seen.mean_arm, seen.mean_versus)
        except Refusal:
            limits = (math.nan,) * 5
        rows.append((name, weeks, *limits, unit))
    return pd.DataFrame(rows, columns=["measure", "weeks", "value", "low", "high", "mean_arm", "mean_versus", "unit"])


def detectable(
    cohort: Panel,
    arm: str,
    versus: str,
    sizes: tuple[int, int] | None = None,
    horizons: Sequence[int] | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
) -> pd.DataFrame:
    """What a holdout can show by each horizon, from how the outcome of `versus` spreads as it adds up.

    One row a horizon: days, the mean and standard deviation of what a customer's outcome adds up to, the smallest effect shown
    with this power in the outcome's unit, and as a share of the mean.  `sizes` are the customers of `arm` and of `versus` in a
    plan; None takes the cohort's own, cell by cell where its shares changed.  The absolute effect grows with time, because
    customers' differences add up; the share falls, and stops falling once lasting differences between customers outweigh chance.

    >>> spend = np.random.default_rng(2).gamma(0.2, 5, (4000, 8))
    >>> rows = detectable(Panel("spend", np.repeat("old", 4000), spend, {}, {}), "new", "old", (40_000, 10_000))
    >>> bool(rows.detectable_lift.is_monotonic_decreasing and rows.detectable.is_monotonic_increasing)
    True
    """
    here = cohort.arm == versus
    if here.sum() < 2:
        raise Refusal(f"detectable: {int(here.sum())} customers of {versus} do not show how much customers differ.")
    quantile = float(-special.ndtri(alpha / 2) + special.ndtri(power))
    rows = []
    for day in horizons or standard_horizons(cohort.length):
        total = cohort.weeks[:, : day // 7].sum(axis=1)
        spread, mean = float(total[here].std(ddof=1)), _mean(cohort, total, versus)
        if sizes:
            variance = spread**2 * (1 / sizes[0] + 1 / sizes[1])
        else:
            counts = [(share, total[cell & here], (cell & (cohort.arm == arm)).sum()) for cell, share in _cells(cohort)]
            variance = sum(share**2 * part.var(ddof=1) * (1 / n + 1 / len(part)) for share, part, n in counts)
        smallest = quantile * math.sqrt(variance)
        rows.append((day, mean, spread, smallest, smallest / mean if mean > 0 else math.nan))
    return pd.DataFrame(rows, columns=["days", "mean", "sd", "detectable", "detectable_lift"])


def forgone(curve: pd.DataFrame, customers: int) -> pd.DataFrame:
    """What `customers` kept in a holdout would have brought by each horizon, from `by_horizon`: days, value, low, high in total."""
    return curve[["days"]].join(curve[["value", "low", "high"]] * customers)


def still_active(cohort: Panel, block: int = 4) -> pd.DataFrame:
    """The share of each arm with any of the outcome in each block of weeks: who leaves shows as a falling line.

    One row a block (its weeks as text), one column an arm; where the arms' shares changed, over the same cells in every arm.
    """
    starts = range(0, cohort.length, block)
    rows = {
        f"weeks {start + 1} to {min(start + block, cohort.length)}": {
            arm: _mean(cohort, (cohort.weeks[:, start : start + block] != 0).any(axis=1).astype(float), arm)
            for arm in sorted(set(cohort.arm))
        }
        for start in starts
    }
    return pd.DataFrame(rows).T


def long_term(
    units: pd.DataFrame,
    unit_days,
    outcome: str,
    weeks: int,
    arm: str,
    versus: str,
    followed: pd.Series | np.ndarray | None = None,
    entry: str | None = None,
    alpha: float = 0.05,
) -> LongTerm:
    """Everything this module reads of one outcome and contrast, or why it cannot be read; arguments as for `panel`."""
    try:
        _refuse_short(weeks)
        cohort = panel(units, unit_days, outcome, weeks, followed, entry)
        curve = by_horizon(cohort, arm, versus, alpha=alpha)
        return LongTerm(outcome, arm, versus, weeks, cohort, curve, fading(cohort, arm, versus, alpha=alpha))
    except Refusal as refusal:
        return LongTerm(outcome, arm, versus, weeks, refusal=str(refusal))


def horizon_evidence(reading: LongTerm, currency: str, threshold: float = 0.0) -> list[Evidence]:
    """Evidence that the gain lasts: the effect a week after the first weeks, against `threshold`; beside it the early effect and
    the change a week, which are only reported.
    """
    seen, last = reading.fading, 7 * reading.weeks
    common = {
        "requirement": "design.horizons",
        "kind": "interval",
        "design": "randomised",
        "arm": reading.arm,
        "versus": reading.versus,
        "unit": "money",
        "better": "up",
        "window_end": f"day {last}",
        "tables": ("assignments", "orders"),
    }
    asked = {"threshold": threshold, "threshold_from": "checklist"}
    if seen is None:
        said = f"Whether the gain lasts: {reading.refusal}"
        return [Evidence(id="method.horizons.late", statement=said, window_start="day 0", **asked, **common)]
    first = 7 * seen.first_weeks
    rows = (
        ("late", seen.late, f"a week from day {first} to day {last}", {"window_start": f"day {first}"} | asked),
        (
            "early",
            seen.early,
            f"a week in the first {first} days",
            {"window_start": "day 0", "window_end": f"day {first}"},
        ),
        ("change", seen.change, f"change of the effect from week to week ({seen.verdict})", {"window_start": "day 0"}),
    )
    who = f"{reading.outcome.capitalize()} per customer, {reading.arm} against {reading.versus}"
    return [
        Evidence(
            id=f"method.horizons.{name}",
            statement=f"{who}, {said}: {estimate(one.value, one.low, one.high, 'money', currency)}.",
            **(common | own | measured(one)),
        )
        for name, one, said, own in rows
    ]


# --- from columns to effects ----------------------------------------------------------------------------------------


def _banded(
    cohort: Panel, columns: Mapping[int, np.ndarray], arm: str, versus: str, alpha: float, alone: bool = False
) -> pd.DataFrame:
    single = _effect(cohort, columns, arm, versus, alpha)
    last = list(single.values())[-1]
    if alone and isinstance(last, Refusal):
        raise last
    wide = _effect(cohort, columns, arm, versus, simultaneous(_covariance(cohort, columns, arm, versus), alpha))
    rows = {}
    for name, values in columns.items():
        one, band = single[name], wide[name]
        if isinstance(one, Refusal):
            value = _mean(cohort, values, arm) - _mean(cohort, values, versus)
            rows[name] = {"value": value, "versus_mean": _mean(cohort, values, versus)}
            continue
        rows[name] = {"value": one.value, "se": one.se, "low": band.low, "high": band.high}
        rows[name] |= {"alone_low": one.low, "alone_high": one.high} if alone else {}
        rows[name] |= {"versus_mean": one.mean_versus}
    names = ["value", "se", "low", "high", *(["alone_low", "alone_high"] if alone else []), "versus_mean"]
    return pd.DataFrame(rows).T.reindex(columns=names)


def simultaneous(covariance: np.ndarray, alpha: float = 0.05) -> float:
    """The alpha at which single intervals must be drawn so that all of them hold together with 1 − `alpha`.

    From the quantile of the largest absolute value of normal deviates with this covariance; between `alpha`, where all
    are one, and Bonferroni's share of it.

    >>> round(simultaneous(np.ones((3, 3))), 2), round(simultaneous(np.eye(2)), 3)
    (0.05, 0.025)
    """
    if len(covariance) == 1:
        return alpha
    spread = np.sqrt(np.diag(covariance))
    spread = np.where(spread > 0, spread, np.inf)
    values, vectors = np.linalg.eigh(covariance / np.outer(spread, spread))
    root = vectors * np.sqrt(np.maximum(values, 0))
    largest = np.abs(_normal(len(spread)) @ root.T).max(axis=1)
    return float(np.clip(2 * special.ndtr(-np.quantile(largest, 1 - alpha)), alpha / len(spread), alpha))


@cache
def _normal(columns: int) -> np.ndarray:
    return np.random.default_rng(20260101).standard_normal((DRAWS, columns))


def _effect(cohort: Panel, columns: Mapping, arm: str, versus: str, alpha: float) -> dict[object, Effect | Refusal]:
    """The effect on each column, or why there is none; units of other arms only weigh the cells of a ramp."""
    metrics = [Mean(f"x{place}") for place in range(len(columns))]
    found = _moments(cohort, list(columns.values()), metrics)
    seen: dict[object, Effect | Refusal] = {}
    for name, metric in zip(columns, metrics, strict=True):
        try:
            by = () if cohort.entry is None else ("day",)
            seen[name] = effect(found, metric, arm, versus, alpha=alpha, by=by)
        except Refusal as refusal:
            text = str(refusal).replace(str(metric), f"mean of {cohort.outcome}", 1)
            seen[name] = Refusal(text)
    return seen


def _moments(cohort: Panel, columns: Sequence[np.ndarray], metrics: Sequence[Mean]) -> Moments:
    """What `moments` would gather of these columns, which are in memory already."""
    entry = np.full(len(cohort.arm), "") if cohort.entry is None else cohort.entry
    rows = []
    for arm in sorted(set(cohort.arm)):
        mine = cohort.arm == arm
        for cell in sorted(set(entry[mine])):
            here = mine & (entry == cell)
            row = {"arm": arm, "stratum": "", "day": cell, "n": float(here.sum())}
            for metric, values in zip(metrics, columns, strict=True):
                name, part = metric.column, values[here]
                away = part - part.mean()
                row |= {f"nonzero {name}": float(np.count_nonzero(part)), f"mean {name}": float(part.mean())}
                row |= {
                    f"sum {name} × {name}": float(away @ away),
                    f"sum {name} × {name} × {name}": float(away**2 @ away),
                }
            rows.append(row)
    return Moments(pd.DataFrame(rows), tuple(metrics))


def _covariance(cohort: Panel, columns: Mapping, arm: str, versus: str) -> np.ndarray:
    """The covariance of the differences, within the cells of a ramp where there are any."""
    values = np.column_stack(list(columns.values()))
    total = np.zeros((len(columns), len(columns)))
    for cell, share in _cells(cohort):
        for name in (arm, versus):
            here = cell & (cohort.arm == name)
            if here.sum() > 1:
                total += share**2 * np.atleast_2d(np.cov(values[here], rowvar=False)) / here.sum()
    return total


def _mean(cohort: Panel, values: np.ndarray, arm: str) -> float:
    parts = [(share, values[cell & (cohort.arm == arm)]) for cell, share in _cells(cohort)]
    return float(sum(share * part.mean() for share, part in parts if len(part)))


def _cells(cohort: Panel) -> list[tuple[np.ndarray, float]]:
    if cohort.entry is None:
        return [(np.ones(len(cohort.arm), dtype=bool), 1.0)]
    cells = [cohort.entry == name for name in sorted(set(cohort.entry))]
    return [(cell, float(cell.mean())) for cell in cells]


def _ratio(cohort: Panel, early, late, first: Effect, then: Effect, alpha: float) -> tuple[float, float, float] | None:
    both = _covariance(cohort, {"late": late, "early": early}, first.arm, first.versus)
    quantile = float(-special.ndtri(alpha / 2))
    limits = fieller(then.value, first.value, then.se, first.se, float(both[0, 1]), quantile)
    return (then.value / first.value, *limits) if limits else None


def _weekly(unit_days, outcome: str, weeks: int) -> pd.DataFrame:
    """Totals by unit and week: unit, week, total."""
    if isinstance(unit_days, pd.DataFrame):
        here = unit_days["day"].between(0, 7 * weeks - 1)
        found = unit_days.loc[here, ["unit", "day", outcome]]
        return pd.DataFrame({"unit": found["unit"], "week": found["day"] // 7, "total": found[outcome]})
    inside = unit_days.filter((unit_days.day >= 0) & (unit_days.day < 7 * weeks))
    weekly = inside.mutate(week=(inside.day / 7).floor().cast("int64"))
    found = weekly.group_by(["unit", "week"]).aggregate(total=weekly[outcome].sum()).to_pyarrow()
    return pd.DataFrame({name: found[name].to_numpy() for name in found.column_names})


def _check(units: pd.DataFrame, unit_days, outcome: str, weeks: int, entry: str | None) -> None:
    wanted = (
        ("units", units, ["unit", "arm", *([entry] if entry else [])]),
        ("unit_days", unit_days, ["unit", "day", outcome]),
    )
    problems = [
        Problem(where, "there is no such column", nearest(name, list(map(str, frame.columns))), column=name)
        for where, frame, names in wanted
        for name in names
        if name not in frame.columns
    ]
    if weeks < 1:
        problems.append(Problem("weeks", f"is {weeks}", "give 1 or more"))
    if not problems and units["unit"].duplicated().any():
        problems.append(Problem("units", "a unit stands twice", "give one row a unit", column="unit"))
    if problems:
        raise InputError(problems)


def _refuse_short(weeks: int) -> None:
    if weeks < 4:
        raise Refusal(
            f"horizon: {weeks} whole weeks are too few to tell a change from chance; follow the cohort for four weeks at least."
        )


def _refuse_followed(assigned: dict, kept: dict, weeks: int, least: float, staged: bool) -> None:
    for arm, n in assigned.items():
        if kept[arm] < least * n or not kept[arm]:
            raise Refusal(
                f"horizon: {kept[arm]:,} of {n:,} units of {arm} were followed for {weeks} weeks, and a cohort of so few speaks for "
                "early entrants alone; choose a shorter horizon, or wait."
            )
    counts = np.array([[kept[arm], assigned[arm] - kept[arm]] for arm in assigned], dtype=float)
    if staged or len(counts) < 2 or not counts[:, 1].any():  # in a ramp late entrants fill some arms by design
        return
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
    p = special.chdtrc(len(counts) - 1, ((counts - expected) ** 2 / expected).sum())
    if p < 0.001:
        raise Refusal(
            f"horizon: units of some arms were followed for {weeks} weeks less often than those of others (p {number(float(p), 'p')}), "
            "so the cohort differs by arm; find what ends the follow-up, or compare within stages of a ramp."
        )


def _shown(seen: Effect) -> str:
    return estimate(seen.value, seen.low, seen.high)
