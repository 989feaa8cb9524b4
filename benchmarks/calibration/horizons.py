"""Horizons: effects added up over weeks, whether they fade, and curves of a cohort that stays or changes."""

from __future__ import annotations

import math

import numpy as np
from benchmarks.calibration import Case

from fairlift.errors import Refusal
from fairlift.method.calibration import Row, alarmed, scored
from fairlift.method.horizon import Panel, by_horizon, fading

WEEKS = 8
NEW, OLD = 1_200, 600  # customers of each arm
RATE = 0.3  # orders a week of an average customer, for exponential amounts with mean 1
SHAPE = 0.8  # gamma shape of how customers differ
SEASON = np.linspace(1.0, 1.6, WEEKS)
FLAT = np.ones(WEEKS)
NOVELTY = 1 + 0.6 * np.exp2(-np.arange(WEEKS))  # the extra halves every week


def spend(draws: np.random.Generator, n: int, level: np.ndarray) -> np.ndarray:
    """Spend by customer and week; `level` multiplies the orders of each week (one row, or one row a customer)."""
    rate = RATE * draws.standard_gamma(SHAPE, (n, 1)) / SHAPE
    return draws.standard_gamma(draws.poisson(rate * level))


def cohort(draws: np.random.Generator, season: np.ndarray, lift: np.ndarray | float) -> Panel:
    """One experiment in which everybody is followed."""
    weeks = np.concatenate([spend(draws, NEW, season * lift), spend(draws, OLD, season)])
    return panel_of(weeks, NEW)


def panel_of(weeks: np.ndarray, new: int) -> Panel:
    """A panel whose first `new` customers were personalised."""
    arm = np.where(np.arange(len(weeks)) < new, "new", "old").astype(object)
    sizes = {"new": new, "old": len(weeks) - new}
    return Panel("spend", arm, weeks, sizes, sizes)


def added_up(reps: int, seed: int) -> list[Row]:
    """The effect over eight weeks, for a lift that lasts and for one that fades."""
    rows = []
    for place, (lift, case) in enumerate(
        ((1.1 * FLAT, "a lift of 10 % that lasts"), (NOVELTY, "a lift of 60 % that halves weekly"))
    ):
        draws = np.random.default_rng([seed, place])
        truth = RATE * float((lift - 1).sum())
        found: dict[str, list] = {"right": [], "weeks": [], "first": []}
        for _ in range(reps):
            one = cohort(draws, FLAT, lift)
            row = by_horizon(one, "new", "old", [7 * WEEKS]).iloc[0]
            found["right"].append((row.alone_low, row.alone_high))
            found["weeks"].append(_scaled(one.weeks.ravel(), WEEKS))
            found["first"].append(_scaled(one.weeks[:, :2].sum(axis=1), WEEKS / 2))
        limits = {name: np.array(pairs).T for name, pairs in found.items()}
        rows.append(scored("effect to day 56, one cohort", case, "closed", *limits["right"], truth))
        rows.append(
            scored("weeks of customers taken as customers", case, "closed", *limits["weeks"], truth, naive=True)
        )
        rows.append(scored("first two weeks times four", case, "closed", *limits["first"], truth, naive=True))
    return rows


def _scaled(values: np.ndarray, times: float) -> tuple[float, float]:
    """A plain interval of the difference, multiplied; the new arm comes first."""
    new = len(values) * NEW // (NEW + OLD)
    one, two = values[:new], values[new:]
    gap = one.mean() - two.mean()
    half = 1.96 * math.sqrt(one.var(ddof=1) / len(one) + two.var(ddof=1) / len(two))
    return times * (gap - half), times * (gap + half)


def lasting(reps: int, seed: int) -> list[Row]:
    """A constant lift of 30 % while the season rises by 60 %: the effect in money grows, the lift does not."""
    draws = np.random.default_rng([seed, 10])
    case = "a lift of 30 % that lasts, in a rising season"
    right, naive = [], []
    week = np.arange(WEEKS) - (WEEKS - 1) / 2
    for _ in range(reps):
        one = cohort(draws, SEASON, 1.3)
        seen = _limits(one)
        right.append(seen)
        slope = one.weeks @ (week / (week**2).sum())
        gap = slope[:NEW].mean() - slope[NEW:].mean()
        half = 1.96 * math.sqrt(slope[:NEW].var(ddof=1) / NEW + slope[NEW:].var(ddof=1) / OLD)
        naive.append((gap - half, gap + half))
    power = np.mean([_limits(cohort(draws, SEASON, NOVELTY))[1] < 0 for _ in range(max(reps // 20, 50))])
    return [
        scored("does the lift change", case, "closed", *np.array(right).T, 0.0, power=float(power)),
        scored("does the effect in money change", case, "closed", *np.array(naive).T, 0.0, naive=True),
    ]


def _limits(one: Panel) -> tuple[float, float]:
    try:
        seen = fading(one, "new", "old").change
    except Refusal:
        return math.nan, math.nan
    return seen.low, seen.high


def changing(reps: int, seed: int) -> list[Row]:
    """Early entrants gain 40 % and were followed for eight weeks, late ones gain nothing and were followed for three."""
    draws = np.random.default_rng([seed, 20])
    case = "a constant lift, larger in early entrants"
    right, naive = [], []
    late_new, late_old = NEW * 2 // 3, OLD * 2 // 3
    for _ in range(reps):
        early = cohort(draws, FLAT, 1.4)
        right.append(_limits(early))
        late = spend(draws, late_new, FLAT[:3]), spend(draws, late_old, FLAT[:3])
        naive.append(_weeks_of_whoever(early.weeks, *late))
    return [
        scored("change in the cohort that stays", case, "closed", *np.array(right).T, 0.0),
        scored("change in whoever has data", case, "closed", *np.array(naive).T, 0.0, naive=True),
    ]


def _weeks_of_whoever(early: np.ndarray, late_new: np.ndarray, late_old: np.ndarray) -> tuple[float, float]:
    """The naive trend: each week's effect among whoever was followed so far, and a line through the weeks."""
    gaps, variances = [], []
    for week in range(WEEKS):
        one, two = early[:NEW, week], early[NEW:, week]
        if week < late_new.shape[1]:
            one, two = np.concatenate([one, late_new[:, week]]), np.concatenate([two, late_old[:, week]])
        gaps.append(one.mean() - two.mean())
        variances.append(one.var(ddof=1) / len(one) + two.var(ddof=1) / len(two))
    week = np.arange(WEEKS) - (WEEKS - 1) / 2
    weight = week / (week**2).sum()
    slope, half = float(weight @ gaps), 1.96 * math.sqrt(weight**2 @ np.array(variances))
    return slope - half, slope + half


def curve(reps: int, seed: int) -> list[Row]:
    """A whole curve under no effect: the band of all horizons, and each horizon read alone."""
    draws = np.random.default_rng([seed, 30])
    band, alone = [], []
    for _ in range(reps):
        rows = by_horizon(cohort(draws, FLAT, 1.0), "new", "old")
        band.append(((rows.low > 0) | (rows.high < 0)).any())
        alone.append(((rows.alone_low > 0) | (rows.alone_high < 0)).any())
    shown = []
    for _ in range(max(reps // 10, 20)):
        rows = by_horizon(cohort(draws, FLAT, 1.15), "new", "old")
        shown.append((rows.low > 0).any())
    case = "four horizons, no effect"
    return [
        alarmed("band over all horizons", case, "conservative", band, power=float(np.mean(shown))),
        alarmed("each horizon alone, best taken", case, "conservative", alone, naive=True),
    ]


CASES = (
    Case("added up", 10_000, added_up),
    Case("lasting", 10_000, lasting),
    Case("changing", 10_000, changing),
    Case("curve", 1_000, curve),
)
