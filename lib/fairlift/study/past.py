"""The past of a study: what its customers did in a window before the start, from which an experiment is sized."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pandas as pd

from fairlift.errors import InputError, Refusal
from fairlift.study.check import Checked, check
from fairlift.study.clock import moment
from fairlift.study.costs import booked
from fairlift.study.folder import Study
from fairlift.study.mart import write_mart
from fairlift.study.outcomes import FLAGS
from fairlift.study.settings import Cost

if TYPE_CHECKING:
    import ibis

BEFORE = ("orders", "revenue", "contribution", "sessions")  # also counted in the window before, to adjust for
ARRIVAL = ("orders", "sessions")  # who did one of these is there to be enrolled
CLUSTERS = ("household", "store")
LATE = 0.1  # of the window; orders that begin later than this do not cover it


@dataclass(frozen=True)
class Past:
    """What happened before the start: one row a customer, with outcomes over a window as long as the study's own.

    `units` has the outcomes of the mart, household and store (a number, or nothing), and pre_NAME for the window before (`covered` days of it hold orders).
    `first` and `last` are the window's days, local; None where each customer's own assignment ends it.  `arrivals` counts,
    week by week, customers who were seen for the first time in the window; `customers` are all the study has.
    """

    units: pd.DataFrame = field(repr=False)
    days: int
    covered: int
    first: date | None
    last: date | None
    arrivals: tuple[int, ...]
    customers: int
    costs: tuple[Cost, ...] | None

    @property
    def when(self) -> str:
        """The window, as a reader is told."""
        span = f"the {self.days} days"
        return (
            f"{span} before each customer's assignment"
            if self.first is None
            else f"{span} from {self.first} to {self.last}"
        )

    def has(self, *columns: str) -> bool:
        """Whether all of these outcomes were recorded, and happened at all."""
        return all(name in self.units and self.units[name].any() for name in columns)


def past(study: Study) -> Past:
    """The past of a study: from its mart where that reaches far enough, else from its tables, assigned or not.

    The window is the last `outcome_window_days` before the start (or before `as_of`, if earlier); with a mart, before each
    customer's own assignment.  Customers count who had joined by its first day.  All sums are made where the tables are.
    Raises InputError for tables that cannot be read, and Refusal where there are no orders in the window, or only some.
    """
    return _from_mart(study) or _from_tables(study)


def _from_mart(study: Study) -> Past | None:
    folder, settings = study.out / "mart", study.settings
    if not (folder / "mart.json").exists() or settings.pre_period_days < settings.outcome_window_days:
        return None
    noted = study.mart
    if (noted["experiment"], noted["window_days"]) != (settings.experiment, settings.outcome_window_days):
        return None
    days = settings.outcome_window_days
    return _read(folder, noted, study, start=-days, before=settings.pre_period_days - days, first=None)


def _from_tables(study: Study) -> Past:
    settings = study.settings
    days = settings.outcome_window_days
    end = min(moment(settings.period.start, settings.timezone), settings.clock())
    begin = end - timedelta(days=days)
    checked = check(study, assigned=False)
    with closing(checked.source):
        absent = [name for name in ("customers", "orders") if name not in checked.source.tables]
        unread = any(problem.file for problem in checked.errors)  # a file is there, and cannot be read
        if absent and not unread and all(problem.where in absent for problem in checked.errors):
            raise Refusal(
                f"There is no table of {' and none of '.join(absent)} yet, so no size can be computed. Put them into tables/, "
                f"with the orders of at least {days} days before the start; assignments are not needed yet."
            )
        if checked.errors:
            raise InputError(checked.errors)
        with TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "out").mkdir()
            alone = Study(folder, settings.model_copy(update={"pre_period_days": min(days, 730)}), None)
            noted = write_mart(alone, _as_if_assigned(checked, study, begin), folder / "out")
            (folder / "out" / "mart.json").write_text(json.dumps(noted), encoding="utf-8")
            first = begin.astimezone(settings.zone()).date()
            return _read(folder / "out", noted, study, start=0, before=min(days, 730), first=first)


def _as_if_assigned(checked: Checked, study: Study, begin: datetime) -> Checked:
    """The tables with everybody assigned on the first day of the window: the past is then read as the study will be."""
    import ibis

    customers = checked.tables["customers"]
    at = ibis.timestamp(begin.replace(tzinfo=None))
    there = (
        customers.filter(customers.joined_at.isnull() | (customers.joined_at < at))
        if "joined_at" in customers.columns
        else customers
    )
    assignments = there.select(
        "customer_id",
        experiment=ibis.literal(study.settings.experiment),
        variant=ibis.literal(study.settings.arms.personalised[0]),
        assigned_at=at,
    )
    return replace(checked, tables={**checked.tables, "assignments": assignments}, set_aside=())


def _read(folder: Path, noted: Mapping, study: Study, start: int, before: int, first: date | None) -> Past:
    """Sum the unit-days of a mart over the window that begins on day `start`, and over `before` days ahead of it."""
    import ibis

    days, settings = study.settings.outcome_window_days, study.settings
    con = ibis.duckdb.connect()
    try:
        daily = con.read_parquet(folder / "unit_days.parquet")
        names = [name for name in daily.columns if name not in ("unit", "day")]
        daily = daily.mutate(day=daily.day - start)
        inside, ahead = (daily.day >= 0) & (daily.day < days), (daily.day < 0) & (daily.day >= -before)
        sums = {name: daily[name].sum(where=inside).fill_null(0) for name in names}
        sums |= {f"pre_{name}": daily[name].sum(where=ahead).fill_null(0) for name in BEFORE if name in names}
        per_unit = daily.group_by("unit").aggregate(**sums)
        people = con.read_parquet(folder / "units.parquet").select("unit", *CLUSTERS)
        found = people.left_join(per_unit, "unit").drop("unit_right").order_by("unit").to_pyarrow().to_pandas()
        reach = daily.filter(daily.orders > 0).day.min().to_pyarrow().as_py() if "orders" in names else None
        arrivals = _arrivals(daily.filter(inside), days)
    finally:
        con.disconnect()
    summed = found.columns.difference(["unit", *CLUSTERS])
    units = found.drop(columns="unit").fillna(dict.fromkeys(summed, 0))
    for flag in FLAGS:
        if flag.of in names:
            units[flag.name] = (units[flag.of] > 0).astype("int64")
    _refuse_without_orders(units, reach, days, first, settings.period.start)
    return Past(
        units=units,
        days=days,
        covered=max(0, min(before, -int(reach))),
        first=first,
        last=first + timedelta(days=days - 1) if first else None,
        arrivals=arrivals,
        customers=noted["customers"],
        costs=_costs(study, noted),
    )


def _arrivals(inside: ibis.Table, days: int) -> tuple[int, ...]:
    """How many customers were seen for the first time in each whole week of the window."""
    seen = None
    for name in (name for name in ARRIVAL if name in inside.columns):
        seen = inside[name] > 0 if seen is None else seen | (inside[name] > 0)
    if seen is None:
        return ()
    firsts = inside.filter(seen).group_by("unit").aggregate(week=lambda t: (t.day.min() / 7).floor().cast("int64"))
    counted = firsts.group_by("week").aggregate(n=firsts.count()).to_pyarrow().to_pylist()
    found = {row["week"]: row["n"] for row in counted}
    return tuple(found.get(week, 0) for week in range(days // 7))


def _refuse_without_orders(units: pd.DataFrame, reach, days: int, first: date | None, start: date) -> None:
    since = first or start - timedelta(days=days)
    need = f"bring the orders since {since}, at least {days} days before the start."
    if "orders" not in units or not units["orders"].any():
        raise Refusal(f"There are no orders in the {days} days before the start, so no size can be computed: {need}")
    if reach > LATE * days:
        raise Refusal(
            f"The orders begin {int(reach)} days into the {days} days before the start, so a whole outcome window is not "
            f"covered and every figure would be too small: {need}"
        )


def _costs(study: Study, noted: Mapping) -> tuple[Cost, ...] | None:
    if study.settings.costs is not None:
        return tuple(study.settings.costs)
    return tuple(booked(noted["costs"])) if noted.get("costs") else None
