"""Aggregate checked tables into the two tables of the mart: events to unit-days in the backend, unit-days to units."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from fairlift.study.check import Checked
from fairlift.study.clock import stamp
from fairlift.study.folder import Study
from fairlift.study.outcomes import FLAGS, Outcome, available
from fairlift.study.settings import Settings
from fairlift.study.source import beside, reading

if TYPE_CHECKING:
    import ibis

DAY = 86_400_000_000  # microseconds
BANDS = ((25, "under 25"), (35, "25-34"), (45, "35-44"), (55, "45-54"), (65, "55-64"))
OLDEST = "65 and over"
ATTRIBUTES = ("sex", "ethnicity", "income_band", "region", "segment", "loyalty_member")
CODES = {"cluster": "cluster", "household": "household_id", "store": "store_id"}
BEGIN = {
    "orders": "ordered_at",
    "sessions": "started_at",
    "exposures": "clicked_at",
}  # times that say outcomes have begun
BEFORE = ("orders", "revenue")  # outcomes also counted in the period before assignment


def write_mart(study: Study, checked: Checked, draft: Path) -> dict:
    """Write units.parquet and unit_days.parquet into `draft`, and out/set_aside.csv; returns what mart.json says of them.

    Everything that touches events runs in the study's own backend and is streamed; a database sees SELECT alone.
    """
    settings, clock = study.settings, study.settings.clock()
    groups = list(_groups(available(checked.columns, settings.margin)))
    booked = _booked(checked)
    local = _Local(checked, study.folder)
    try:
        with reading(checked.source, "assignments"):
            local.people(_people(checked, settings))
        for place, (table, time, group) in enumerate(groups):
            with reading(checked.source, table):
                local.daily(place, _events(checked, table, time, group), group, settings)
        with reading(checked.source, "mart"):
            local.run(_days_sql([[one.name for one in group] for *_, group in groups]))
            outcomes = [one for *_, group in groups for one in group]
            first, last = local.begin_and_end(
                [place for place, (table, time, _) in enumerate(groups) if BEGIN.get(table) == time]
            )
            known = {f"pre_{name}" for name in BEFORE} & set(checked.tables["customers"].columns)
            before = [name for name in BEFORE if f"pre_{name}" not in known] if local.any_before() else []
            local.write(_unit_days_sql(outcomes), draft / "unit_days.parquet")
            local.write(_units_sql(checked, settings, clock, outcomes, before), draft / "units.parquet")
            arms = local.arms(settings, clock)
            counts = {"units": local.one("SELECT count(*) FROM fairlift_people")}
            counts["unit_days"] = local.one("SELECT count(*) FROM fairlift_days")
            _file_aside(checked, study.out)
    finally:
        local.close()
    return {
        "as_of": stamp(clock),
        "experiment": settings.experiment,
        "window_days": settings.outcome_window_days,
        "tables": counts,
        "columns": checked.columns,
        "source_rows": dict(checked.rows),
        "set_aside": [{"table": row.table, "reason": row.reason, "rows": row.count} for row in checked.set_aside],
        "warnings": [str(problem) for problem in checked.warnings],
        "first_outcome": first,
        "last_outcome": last,
        "arms": arms,
        "synthetic": (study.folder / "truth.json").exists(),
        "customers": checked.rows["customers"],
        "costs": booked,
    }


def _booked(checked: Checked) -> list[dict]:
    """The bookings of the costs table summed by kind, with the time they cover."""
    if "costs" not in checked.tables:
        return []
    with reading(checked.source, "costs"):
        table = checked.tables["costs"]
        kinds = table.group_by("kind").aggregate(
            amount=table.amount.sum(),
            from_at=table.from_at.min().epoch_seconds(),
            until_at=table.until_at.max().epoch_seconds(),
        )
        rows = kinds.order_by("kind").to_pyarrow().to_pylist()
    times = {name: [stamp(datetime.fromtimestamp(row[name], UTC)) for row in rows] for name in ("from_at", "until_at")}
    return [
        {"kind": row["kind"], "amount": float(row["amount"]), "from_at": begin, "until_at": end}
        for row, begin, end in zip(rows, times["from_at"], times["until_at"], strict=True)
    ]


class _Local:
    """The DuckDB that numbers the units and writes the mart: the source itself, or one beside a database."""

    def __init__(self, checked: Checked, folder: Path):
        self.source = checked.source
        self.con, self.close = (self.source.con, lambda: None) if self.source.is_duckdb else beside(folder)
        self.assigned: ibis.Table | None = None

    def run(self, sql: str):
        return self.con.raw_sql(sql)

    def one(self, sql: str):
        return self.run(sql).fetchone()[0]

    def keep(self, name: str, expr: ibis.Table, columns: str = "*") -> None:
        """Run an expression where the tables are, and keep its result here, streamed."""
        if self.source.is_duckdb:
            self.run(f"CREATE TEMP TABLE {name} AS SELECT {columns} FROM ({self.con.compile(expr)})")
            return
        batches = expr.to_pyarrow_batches(chunk_size=100_000)
        self.con.con.register("fairlift_stream", batches)
        try:
            self.run(f"CREATE TEMP TABLE {name} AS SELECT {columns} FROM fairlift_stream")
        finally:
            self.con.con.unregister("fairlift_stream")

    def people(self, expr: ibis.Table) -> None:
        """Keep everyone assigned, numbered from 0 in the order of their ids."""
        self.keep("fairlift_people", expr, "row_number() OVER (ORDER BY customer_id) - 1 AS unit, *")
        table = self.con.table("fairlift_people") if self.source.is_duckdb else expr
        self.assigned = table.select(
            *(name for name in ("unit", "customer_id", "assigned_at") if name in table.columns)
        )

    def daily(self, place: int, events: ibis.Table, group: Sequence[Outcome], settings: Settings) -> None:
        """Sum one table's events to rows of unit and day."""
        name, key = f"fairlift_daily_{place}", "unit" if self.source.is_duckdb else "customer_id"
        summed = _summed(events, self.assigned, key, group, settings.pre_period_days, self.source.is_duckdb)
        if key == "unit":
            self.keep(name, summed)
            return
        self.keep(f"{name}_named", summed)
        self.run(
            f"CREATE TEMP TABLE {name} AS SELECT unit, n.* EXCLUDE (customer_id) FROM {name}_named n JOIN fairlift_people USING (customer_id)"
        )
        self.run(f"DROP TABLE {name}_named")

    def begin_and_end(self, places: Sequence[int]) -> tuple[str | None, str | None]:
        """The earliest and latest outcome at or after assignment, as stamps."""
        if not places:
            return None, None
        union = " UNION ALL ".join(f"SELECT first, last FROM fairlift_daily_{place}" for place in places)
        first, last = self.run(f"SELECT min(first), max(last) FROM ({union})").fetchone()
        return tuple(stamp(at.replace(tzinfo=UTC)) if at else None for at in (first, last))

    def any_before(self) -> bool:
        """Whether any order was placed before its customer's assignment."""
        names = {row[0] for row in self.run("DESCRIBE fairlift_days").fetchall()}
        return "orders" in names and bool(self.one("SELECT count(*) FROM fairlift_days WHERE day < 0 AND orders > 0"))

    def arms(self, settings: Settings, clock: datetime) -> dict[str, dict[str, int]]:
        """How many were assigned to each arm, and how many of their windows are complete."""
        sql = f"SELECT arm, count(*), count(*) FILTER (WHERE {_complete(settings, clock)}) FROM fairlift_people GROUP BY arm ORDER BY arm"
        return {
            arm: {"assigned": assigned, "complete": complete} for arm, assigned, complete in self.run(sql).fetchall()
        }

    def write(self, sql: str, path: Path) -> None:
        self.run(f"COPY ({sql}) TO {_text(str(path.resolve()))} (FORMAT parquet, COMPRESSION zstd)")


def _groups(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, str, list[Outcome]]]:
    """Outcomes that come from the same rows at the same time, together: each table is read as few times as can be."""
    for (table, time), group in groupby(
        sorted(outcomes, key=lambda one: (one.table, one.time)), lambda one: (one.table, one.time)
    ):
        yield table, time, list(group)


def _people(checked: Checked, settings: Settings) -> ibis.Table:
    """Everyone assigned in the experiment, with the arm, and with what was known of them before."""
    import ibis

    assignments, customers = checked.tables["assignments"], checked.tables["customers"]
    mine = assignments.filter(assignments.experiment == settings.experiment)
    arm = ibis.cases(*((mine.variant == variant, arm) for variant, arm in settings.arms.of_variant().items()))
    optional = [name for name in ("stratum", "cluster") if name in mine.columns]
    mine = mine.select("customer_id", "variant", "assigned_at", *optional, arm=arm)
    known = [
        name
        for name in customers.columns
        if name in (*ATTRIBUTES, *CODES.values(), "birth_year") or name.startswith("pre_")
    ]
    people = mine.left_join(customers.select("customer_id", *known), "customer_id").select(*mine.columns, *known)
    for name, factor in settings.factors.items():
        drawn = assignments.filter(assignments.experiment == factor.experiment)
        drawn = drawn.select("customer_id", **{f"factor_{name}": drawn.variant.isin(factor.on).cast("int32")})
        people = people.left_join(drawn, "customer_id").select(*people.columns, f"factor_{name}")
    return people


def _events(checked: Checked, table: str, time: str, group: Sequence[Outcome]) -> ibis.Table:
    """One row an event: who, when, and what it adds to each outcome."""
    rows = checked.tables[table]
    if table == "order_lines":
        orders = checked.tables["orders"].select("order_id", "customer_id", "ordered_at")
        rows = rows.select("order_id", "quantity").inner_join(orders, "order_id")
    rows = rows.filter(rows[time].notnull())
    return rows.select("customer_id", at=rows[time], **{one.name: one.amount(rows) for one in group})


def _summed(
    events: ibis.Table, assigned: ibis.Table, key: str, group: Sequence[Outcome], before: int, exact: bool
) -> ibis.Table:
    both = events.inner_join(assigned, "customer_id")
    micros = _micros if exact else lambda time: time.epoch_seconds().cast("int64") * 1_000_000
    day = ((micros(both.at) - micros(both.assigned_at)) / DAY).floor().cast("int32")
    both = both.select(key, "at", *(one.name for one in group), day=day)
    both = both.filter(both.day >= -before)
    sums = {one.name: both[one.name].sum().cast("int64" if one.whole else "float64") for one in group}
    after = both.day >= 0
    sums |= {"first": both.at.min(where=after), "last": both.at.max(where=after)}
    summed = both.group_by([key, "day"]).aggregate(**sums)
    something = summed[group[0].name] != 0
    for one in group[1:]:
        something = something | (summed[one.name] != 0)
    return summed.filter(something)


def _micros(time: ibis.Value) -> ibis.Value:
    import ibis

    @ibis.udf.scalar.builtin(name="epoch_us", signature=(("timestamp",), "int64"))
    def epoch_us(time): ...

    return epoch_us(time)


def _days_sql(groups: Sequence[Sequence[str]]) -> str:
    if not groups:
        return "CREATE TEMP TABLE fairlift_days (unit BIGINT, day INTEGER)"
    union = " UNION ALL BY NAME ".join(
        f"SELECT unit, day, {', '.join(names)} FROM fairlift_daily_{place}" for place, names in enumerate(groups)
    )
    names = [name for group in groups for name in group]
    if len(groups) == 1:
        return f"CREATE TEMP TABLE fairlift_days AS {union}"
    sums = ", ".join(f"sum({name}) AS {name}" for name in names)
    return f"CREATE TEMP TABLE fairlift_days AS SELECT unit, day, {sums} FROM ({union}) GROUP BY unit, day"


def _unit_days_sql(outcomes: Sequence[Outcome]) -> str:
    columns = "".join(f", {_filled(one)}" for one in outcomes)
    return f"SELECT unit, day{columns} FROM fairlift_days ORDER BY unit, day"


def _filled(one: Outcome) -> str:
    return f"coalesce({one.name}, 0)::{'BIGINT' if one.whole else 'DOUBLE'} AS {one.name}"


def _units_sql(
    checked: Checked, settings: Settings, clock: datetime, outcomes: Sequence[Outcome], before: Sequence[str]
) -> str:
    customers, assignments = checked.tables["customers"].columns, checked.tables["assignments"].columns
    local_time = f"timezone({_text(settings.timezone)}, timezone('UTC', assigned_at))"
    columns = ["unit", "arm", "variant", "stratum" if "stratum" in assignments else "NULL::VARCHAR AS stratum"]
    joins = []
    for name, column in CODES.items():
        if column in (assignments if name == "cluster" else customers):
            codes = f"SELECT {column}, row_number() OVER (ORDER BY {column}) - 1 AS code FROM (SELECT DISTINCT {column} FROM fairlift_people WHERE {column} IS NOT NULL)"
            joins.append(f"LEFT JOIN ({codes}) code_{name} ON p.{column} = code_{name}.{column}")
            columns.append(f"code_{name}.code AS {name}")
        else:
            columns.append(f"NULL::BIGINT AS {name}")
    columns += [f"({local_time})::DATE AS enrolled", f"{_complete(settings, clock)} AS complete"]
    if "birth_year" in customers:
        age = f"year({local_time}) - birth_year"
        cases = " ".join(f"WHEN {age} < {limit} THEN {_text(band)}" for limit, band in BANDS)
        columns.append(f"CASE WHEN birth_year IS NULL THEN NULL {cases} ELSE {_text(OLDEST)} END AS age_band")
    columns += [f"p.{name}" for name in ATTRIBUTES if name in customers]
    columns += [f'p."{name}"::DOUBLE AS "{name}"' for name in customers if name.startswith("pre_")]
    columns += [f"coalesce(pre_{name}, 0)::DOUBLE AS pre_{name}" for name in before]
    columns += [f"p.factor_{name}::INTEGER AS factor_{name}" for name in settings.factors]
    flags = {flag.name: flag for flag in FLAGS}
    named = {one.name for one in outcomes}
    columns += [_filled(one) for one in outcomes if one.name not in flags]
    columns += [f"(coalesce({flag.of}, 0) > 0)::INTEGER AS {name}" for name, flag in flags.items() if flag.of in named]
    within = f"day >= 0 AND day < {settings.outcome_window_days}"
    sums = [f"sum({one.name}) FILTER (WHERE {within}) AS {one.name}" for one in outcomes]
    sums += [f"sum({name}) FILTER (WHERE day < 0) AS pre_{name}" for name in before]
    window = f"SELECT {', '.join(['unit', *sums])} FROM fairlift_days GROUP BY unit"
    return f"SELECT {', '.join(columns)} FROM fairlift_people p LEFT JOIN ({window}) w USING (unit) {' '.join(joins)} ORDER BY unit"


def _complete(settings: Settings, clock: datetime) -> str:
    due = clock.astimezone(UTC) - timedelta(days=settings.outcome_window_days)
    return f"assigned_at <= TIMESTAMP '{due:%Y-%m-%d %H:%M:%S.%f}'"


def _file_aside(checked: Checked, out: Path) -> None:
    """Write which rows were set aside, by number alone; no file where there are none."""
    path = out / "set_aside.csv"
    if not checked.set_aside:
        path.unlink(missing_ok=True)
        return
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["table", "row", "reason"])
        for aside in checked.set_aside:
            if aside.which is None:  # the rows of a database have no numbers
                writer.writerow([aside.table, "", f"{aside.reason} ({aside.count:,} rows)"])
                continue
            rows = checked.source.con.raw_sql(checked.source.con.compile(aside.which.order_by("row")))
            while some := rows.fetchmany(10_000):
                writer.writerows([aside.table, row, aside.reason] for (row,) in some)
    os.replace(part, path)


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
