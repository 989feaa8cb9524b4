"""A KPI: one definition from which the number, its effect by arm, the dictionary and the test are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import pandas as pd

from fairlift.errors import Refusal
from fairlift.evidence import Evidence, Look, Target
from fairlift.format import estimate, number
from fairlift.method.effect import Effect, effect
from fairlift.method.looks import at_look, boundary_at
from fairlift.method.metric import Metric
from fairlift.method.moments import Moments, moments
from fairlift.method.sequence import BURN_IN, multiple, sequence


@dataclass(frozen=True)
class Kpi:
    """What is measured, how it reads, which way is better, and what goes wrong with it.

    `id` is the evidence id; `metric` says which columns of the units are averaged or divided; `unit` is one of
    `fairlift.format.UNITS`; `requirement` is a row of data/requirements.yml.
    """

    id: str
    name: str
    metric: Metric
    unit: str
    better: str
    requirement: str
    formula: str
    pitfall: str

    @property
    def unit_of_difference(self) -> str:
        """Shares differ by percentage points, everything else in its own unit."""
        return "points" if self.unit == "share" else self.unit

    def assessable(self, columns: Sequence[str]) -> bool:
        """Whether all columns it needs are there."""
        return set(self.metric.outcomes) <= set(columns)


@dataclass(frozen=True)
class Reading:
    """One KPI read in one contrast: its effect, or why there is none to show."""

    kpi: Kpi
    arm: str
    versus: str
    effect: Effect | None
    refusal: str = ""


def read_kpis(
    units: pd.DataFrame,
    kpis: Sequence[Kpi],
    contrasts: Sequence[tuple[str, str]],
    alpha: float = 0.05,
    entry: str | None = None,
    looks: Mapping[tuple[str, str], Look] | None = None,
) -> list[Reading]:
    """Every KPI that the units allow, in every contrast, from one pass over the units.

    `units` has one row a randomised unit with a column `arm`; a contrast is (arm, versus).  A KPI whose columns are missing
    is left out; one that would mislead comes back with its refusal.  `entry` names the column of the cells within which the
    arms are compared, where their shares changed (see `fairlift.method.ramp.within_stages`).  `looks` says of a contrast how
    the plan lets it be read before the end; one that it does not name is read once.
    """
    present = [kpi for kpi in kpis if kpi.assessable(units.columns)]
    found = moments(units, [kpi.metric for kpi in present], arm="arm", day=entry) if present else None
    by = ("day",) if entry else ()
    looks = looks or {}
    return [
        _read(found, kpi, arm, versus, alpha, by, looks.get((arm, versus)))
        for arm, versus in contrasts
        for kpi in present
    ]


def _read(
    found: Moments, kpi: Kpi, arm: str, versus: str, alpha: float, by: tuple[str, ...], look: Look | None
) -> Reading:
    try:
        seen = effect(found, kpi.metric, arm, versus, alpha=alpha, by=by)
        return Reading(kpi, arm, versus, as_planned(seen, look))
    except Refusal as refusal:
        return Reading(kpi, arm, versus, None, str(refusal))


def as_planned(seen: Effect, look: Look | None) -> Effect:
    """The effect with the interval that the plan allows at this moment: the sequence's, the present look's, or its own.

    Raises Refusal before the burn-in of a sequence, and where a look has no alpha.
    """
    if look is None:
        return seen
    if look.validity == "always":
        return sequence(seen, look.planned_n, burn_in=max(look.burn_in or 0, BURN_IN))
    return at_look(seen, look.seen, look.planned_n, looks=look.looks, spending=look.spending)


def stricter(look: Look | None, alpha: float = 0.05) -> float:
    """The alpha whose fixed interval is as wide as the one that the plan allows at this moment.

    >>> round(stricter(Look("always", planned_n=10_000, seen=(10_000,))), 4)
    0.0024
    """
    if look is None:
        return alpha
    if look.validity == "always":
        reach = multiple(look.seen[-1], look.planned_n, alpha)
    else:
        reach = boundary_at(look.seen, look.planned_n, look.looks, alpha, look.spending)
    return max(2 * NormalDist().cdf(-reach), 1e-12)


def kpi_evidence(
    readings: Sequence[Reading],
    targets: Mapping[tuple[str, str, str], Target],
    window_days: int,
    currency: str,
    tables: Sequence[str] = (),
) -> list[Evidence]:
    """Readings as evidence: one row a contrast with its threshold where the plan sets one, and one row a KPI and arm."""
    window = {"window_start": "day 0", "window_end": f"day {window_days}"}
    rows = [
        _difference(reading, targets.get((reading.kpi.id, reading.arm, reading.versus)), currency)
        for reading in readings
    ]
    levels = {}
    for reading in readings:
        if reading.effect:
            seen = reading.effect
            for arm, mean, n in ((seen.arm, seen.mean_arm, seen.n_arm), (seen.versus, seen.mean_versus, seen.n_versus)):
                levels[reading.kpi.id, arm] = _level(reading.kpi, arm, mean, n, currency)
    common = {"tables": tuple(tables), **window}
    return [Evidence(**common, **row) for row in (*rows, *levels.values())]


def _difference(reading: Reading, target: Target | None, currency: str) -> dict:
    kpi, seen = reading.kpi, reading.effect
    row = {
        "id": kpi.id,
        "requirement": kpi.requirement,
        "kind": "interval",
        "design": "randomised",
        "arm": reading.arm,
        "versus": reading.versus,
        "unit": kpi.unit_of_difference,
        "better": kpi.better,
        "family": "exploratory",
    }
    if target:
        threshold, hard_limit = target.signed(kpi.better)
        row |= {"threshold": threshold, "threshold_from": target.source, "hard_limit": hard_limit}
        row |= {"planned_n": target.planned_n, "family": target.role}
    if seen is None:
        return row | {"statement": f"{kpi.name}: {reading.refusal}"}
    shown = estimate(seen.value, seen.low, seen.high, kpi.unit_of_difference, currency)
    levels = " against ".join(number(mean, kpi.unit, currency) for mean in (seen.mean_arm, seen.mean_versus))
    statement = f"{kpi.name}, {reading.arm} against {reading.versus}: {levels}; difference {shown}."
    return row | {"statement": statement, **measured(seen)}


def measured(seen: Effect) -> dict:
    """The numbers of an effect, under the names that evidence gives them."""
    return {
        "value": seen.value,
        "se": seen.se,
        "low": seen.low,
        "high": seen.high,
        "level": seen.level,
        "p": seen.p,
        "n": seen.n_arm + seen.n_versus,
        "validity": {"sequence": "always", "look": "look"}.get(seen.interval, "end"),
    }


def _level(kpi: Kpi, arm: str, mean: float, n: int, currency: str) -> dict:
    return {
        "id": kpi.id,
        "requirement": kpi.requirement,
        "kind": "exact",
        "design": "descriptive",
        "arm": arm,
        "unit": kpi.unit,
        "better": kpi.better,
        "value": mean,
        "n": n,
        "statement": f"{kpi.name} in {arm}: {number(mean, kpi.unit, currency)}.",
    }
