"""Check a study's tables against the contract: every problem at once, nothing written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from fairlift.errors import InputError, Problem, nearest, pattern
from fairlift.study.cells import Rule, fit
from fairlift.study.clock import moment
from fairlift.study.contract import Table, contract
from fairlift.study.folder import Study
from fairlift.study.settings import Settings
from fairlift.study.source import Raw, Source, open_source, reading, shown

if TYPE_CHECKING:
    import ibis

ROWS_SHOWN = 10
COUNTED = ("exposures", "orders", "sessions")  # a number that is 0 in every row of these leaves nothing to compare
CENT = 0.011  # order and lines may differ by rounding


@dataclass(frozen=True)
class Aside:
    """Rows of a table left out of the study, and why; `which` gives their row numbers."""

    table: str
    reason: str
    count: int
    which: ibis.Table | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Checked:
    """What `check` found: problems, the usable tables as typed expressions, rows left out, and rows read.

    `tables` hold only declared columns, ids as text, times as UTC timestamps, money as floats.
    `latest` is the latest time in each table; `source` is the open connection.
    """

    problems: tuple[Problem, ...]
    tables: Mapping[str, ibis.Table] = field(repr=False)
    set_aside: tuple[Aside, ...]
    rows: Mapping[str, int]
    latest: Mapping[str, datetime | None]
    source: Source = field(repr=False)

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity == "error"]

    @property
    def warnings(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity == "warning"]

    @property
    def columns(self) -> list[str]:
        """Every contract column present, as table.column."""
        return [f"{name}.{column}" for name, table in self.tables.items() for column in table.columns]


def check(study: Study, assigned: bool = True) -> Checked:
    """Check every table of a study against the contract and against each other; writes nothing.

    Problems of severity "error" mean that `prepare` would refuse.  Raises `InputError` only where no connection can be made.
    With `assigned=False` the assignments are not read: a study that is still being planned has none.
    """
    settings, clock = study.settings, study.settings.clock()
    source = open_source(settings, study.folder)
    problems = [problem for problem in source.problems if assigned or problem.where != "assignments"]
    read: dict[str, _Read] = {}
    for name, raw in source.tables.items():
        if name == "assignments" and not assigned:
            continue
        try:
            with reading(source, name):
                table = _Read(raw, contract()[name], source, clock, settings.times_without_zone)
                problems += table.problems()
            if table.fitted.values:
                read[name] = table
        except InputError as error:
            problems += error.problems
    across = _Across(read, settings, clock)
    for step in (across.keys, across.arms, across.factors, across.customers, across.orders_and_lines):
        try:
            with reading(source, "tables"):
                problems += step()
        except InputError as error:
            problems += error.problems
    tables = {name: across.kept.get(name, table.typed) for name, table in read.items()}
    rows = {name: table.count for name, table in read.items()}
    latest = {name: table.latest for name, table in read.items()}
    return Checked(tuple(problems), tables, tuple(across.aside), rows, latest, source)


def latest_outcome(study: Study) -> datetime | None:
    """The latest order, session or click of an assigned customer at or after assignment; None where there is none yet.

    Works before the experiment has begun: missing tables mean that nothing has happened.  Raises `InputError` where a
    table is there and cannot be read.
    """
    import ibis

    source = open_source(study.settings, study.folder, need=False)
    clock, zone = study.settings.clock(), study.settings.times_without_zone
    found: list[datetime] = []
    try:
        if source.problems:  # a table that cannot be read is not one without outcomes
            raise InputError(source.problems)
        read = {name: _Read(raw, contract()[name], source, clock, zone).typed for name, raw in source.tables.items()}
        assigned = read.get("assignments")
        if assigned is None or not {"experiment", "customer_id", "assigned_at"} <= set(assigned.columns):
            return None
        assigned = assigned.filter(ibis._.experiment == study.settings.experiment).select("customer_id", "assigned_at")
        for name, time in (("orders", "ordered_at"), ("sessions", "started_at"), ("exposures", "clicked_at")):
            if name in read and {"customer_id", time} <= set(read[name].columns):
                events = read[name].select("customer_id", at=read[name][time]).inner_join(assigned, "customer_id")
                events = events.filter(events.at >= events.assigned_at)
                with reading(source, name):
                    latest = events.aggregate(latest=events.at.max()).to_pyarrow()["latest"][0].as_py()
                found += [latest.replace(tzinfo=UTC)] if latest else []
    finally:
        source.close()
    return max(found, default=None)


class _Read:
    """One table, cast and counted in a single pass over its rows."""

    def __init__(self, raw: Raw, spec: Table, source: Source, clock: datetime, zone: str | None):
        self.raw, self.spec, self.source = raw, spec, source
        self._how = (spec, raw.origin, clock, zone, source.skills)
        self.fitted = fit(raw.expr, *self._how)
        self.empty: list[str] = []

    @cached_property
    def typed(self) -> ibis.Table:
        """Only the declared columns that hold anything, as their contract types."""
        values = {name: value for name, value in self.fitted.values.items() if name not in self.empty}
        return self.source.named(f"typed_{self.spec.name}", self.raw.expr.select(**values))

    @cached_property
    def numbered(self) -> ibis.Table:
        """The typed table with `row`, the 1-based number of each row; 0 where rows have no order."""
        expr = _numbered(self.raw)
        values = fit(expr, *self._how).values
        return self.source.named(f"numbered_{self.spec.name}", expr.select(**values, row=expr.row))

    @cached_property
    def counts(self) -> dict:
        """Rows, and for every rule and column what one aggregate over the table says."""
        expr, asked = self.raw.expr, {"rows": self.raw.expr.count()}
        for place, rule in enumerate(self.fitted.rules):
            asked[f"rule_{place}"] = expr.count(where=rule.wrong)
        for name, value in self.fitted.values.items():
            asked[f"filled_{name}"] = value.count()
            if self.spec.column(name).type == "time":
                asked[f"latest_{name}"] = value.max()
            elif value.type().is_numeric():
                asked[f"largest_{name}"] = value.abs().max()
        return expr.aggregate(**asked).to_pyarrow().to_pylist()[0]

    @property
    def count(self) -> int:
        return self.counts["rows"]

    @property
    def latest(self) -> datetime | None:
        times = [value for name, value in self.counts.items() if name.startswith("latest_") and value is not None]
        return max(times).replace(tzinfo=UTC) if times else None

    def has(self, *columns: str) -> bool:
        return self.count > 0 and set(columns) <= set(self.fitted.values) - set(self.empty)

    def problem(self, found: str, mend: str, **more) -> Problem:
        return Problem(self.spec.name, found, mend, file=self.raw.origin, **more)

    def at(self, found: str, mend: str, count: int, rows: ibis.Table | None, column: str | None = None) -> Problem:
        """A problem of `count` rows; `rows` has their `row`."""
        numbers = _first_rows(rows) if rows is not None and self.raw.numbered else ()
        found = found if numbers else f"{count:,} row{'s' if count > 1 else ''}: {found}"
        return self.problem(found, mend, column=column, rows=numbers, count=count)

    def problems(self) -> list[Problem]:
        """What the table shows by itself."""
        problems = list(self.fitted.problems)
        if not any(column in self.fitted.values for column in self.spec.columns):
            return [
                self.problem(
                    "no column of the contract is there; is there a header row?",
                    f"name the columns {_names(self.spec)}",
                )
            ]
        if self.fitted.extra:
            problems.append(self._extra())
        if self.count == 0:
            mend = (
                "export its rows"
                if self.spec.required
                else "this reads as `none happened`; remove it where it was not recorded"
            )
            severity = "error" if self.spec.required else "warning"
            return [*problems, self.problem("there are no rows, only a header", mend, severity=severity)]
        broken = [place for place in range(len(self.fitted.rules)) if self.counts[f"rule_{place}"]]
        if broken:
            expr = _numbered(self.raw)
            rules = fit(expr, *self._how).rules
            problems += [self._broken(expr, rules[place], self.counts[f"rule_{place}"]) for place in broken]
        return problems + self._hollow()

    def _broken(self, expr: ibis.Table, rule: Rule, count: int) -> Problem:
        wrong = expr.filter(rule.wrong)
        cells = ""
        if rule.cell is not None:
            seen = expr.select(row=expr.row, wrong=rule.wrong, cell=rule.cell).filter("wrong").limit(ROWS_SHOWN)
            shapes = dict.fromkeys(f"`{pattern(cell)}`" for cell in seen.to_pyarrow()["cell"].to_pylist())
            cells = f" (such as {', '.join(list(shapes)[:3])})"
        return self.at(rule.found + cells, rule.mend, count, wrong, rule.column)

    def _extra(self) -> Problem:
        names = self.fitted.extra
        few = ", ".join(map(shown, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        optional = [
            name for name, column in self.spec.columns.items() if name not in self.fitted.values and "*" not in name
        ]
        hints = [f"{shown(name)}: {hint}" for name in names[:50] if (hint := nearest(name, optional)).startswith("did")]
        found = f"{len(names)} column{'s are' if len(names) > 1 else ' is'} not in the contract and not read: {few}"
        mend = "; ".join(hints[:3]) or "nothing to do, or rename what the contract knows under another name"
        return self.problem(found, mend, severity="warning")

    def _hollow(self) -> list[Problem]:
        """Columns without any content: empty ones count as absent, all-zero ones leave nothing to compare."""
        problems = []
        for name in self.fitted.values:
            column = self.spec.column(name)
            if not column.required and column.type != "time" and self.counts[f"filled_{name}"] == 0:
                self.empty.append(name)
                mend = "fill it, or leave the column out"
                problems.append(
                    self.problem("every cell is empty; it counts as absent", mend, column=name, severity="warning")
                )
            elif self.spec.name in COUNTED and self.counts.get(f"largest_{name}") == 0:
                mend = "check the export; if it is right, there is no effect to find"
                problems.append(
                    self.problem("it is 0 in every row: nothing to compare", mend, column=name, severity="warning")
                )
            elif name in ("cost_of_goods", "fulfilment_cost") and (
                lacking := self.count - self.counts[f"filled_{name}"]
            ):
                found = (
                    f"{lacking:,} of {self.count:,} rows have no cost, which is read as 0 and makes profit look better"
                )
                problems.append(self.problem(found, "fill in the costs", column=name, severity="warning"))
        return problems


class _Across:
    """What only shows when tables are held against each other."""

    def __init__(self, read: Mapping[str, _Read], settings: Settings, clock: datetime):
        self.read, self.settings, self.clock = read, settings, clock
        self.kept: dict[str, ibis.Table] = {}
        self.aside: list[Aside] = []

    def has(self, name: str, *columns: str) -> bool:
        return name in self.read and self.read[name].has(*columns)

    def keys(self) -> list[Problem]:
        """Keys that stand more than once."""
        problems = []
        for name, table in self.read.items():
            key = table.spec.key
            if name != "assignments" and table.has(*key):
                problems += _twice(table, key)
        return problems

    def arms(self) -> list[Problem]:
        """The experiment, its arms, and who stands in them."""
        if not self.has("assignments", "experiment", "customer_id", "variant"):
            return []
        import ibis

        table, name = self.read["assignments"], self.settings.experiment
        problems = _twice(table, ("experiment", "customer_id"), ibis._.experiment != name)
        experiments = table.typed.experiment
        listed = [row["experiment"] for row in _few(table.typed.distinct(on="experiment").select("experiment"), 20)]
        mine = table.typed.filter(experiments == name)
        per_variant = mine.group_by("variant").aggregate(n=mine.count())
        found = {row["variant"]: row["n"] for row in _few(per_variant, 1000) if row["variant"] is not None}
        if not found:
            named = [one for one in listed if one]
            hint = (
                nearest(name, named)
                if all(shown(one) == f"`{one}`" for one in named)
                else "see its column `experiment`"
            )
            what = f"the experiment `{name}` that study.yml names is not there"
            return [
                *problems,
                table.problem(what, f"correct `experiment` in study.yml or in the table; {hint}", column="experiment"),
            ]
        problems += self._variants(table, found)
        return problems + self._assigned_twice(table, name) + self._when_assigned(table, mine)

    def _variants(self, table: _Read, found: Mapping[str, int]) -> list[Problem]:
        problems, known = [], self.settings.arms.of_variant()
        for variant in [one for one in found if one not in known][:5]:
            what = f"the variant {shown(variant)} ({found[variant]:,} rows) is not named under `arms` in study.yml"
            problems.append(
                table.problem(
                    what, f"name it there or correct the table; {nearest(variant, list(known))}", column="variant"
                )
            )
        more = len([one for one in found if one not in known]) - 5
        if more > 0:
            problems.append(
                table.problem(f"{more:,} more variants are unknown", "is this the right column?", column="variant")
            )
        absent = [variant for variant in known if variant not in found]
        for variant in absent:
            what = f"nobody was assigned to `{variant}`, which study.yml names as {known[variant]}"
            problems.append(table.problem(what, "add its rows, or remove it under `arms`", column="variant"))
        if len(found) == 1:
            mend = "bring the customers of the other arms too: without them there is nothing to compare with"
            problems.append(table.problem("there is a single arm", mend, column="variant"))
        return problems

    def _assigned_twice(self, table: _Read, experiment: str) -> list[Problem]:
        rows = table.typed.filter(table.typed.experiment == experiment, table.typed.customer_id.notnull())
        each = rows.group_by("customer_id").aggregate(n=rows.count(), variants=rows.variant.nunique())
        each = each.filter(each.n > 1)
        counted = each.aggregate(
            customers=each.count(),
            mixed=each.count(where=each.variants > 1),
            rows=each.n.sum(),
            mixed_rows=each.n.sum(where=each.variants > 1),
        )
        counts = _few(counted, 1)[0]
        if not counts["customers"]:
            return []
        problems = []
        numbered = table.numbered.filter(table.numbered.experiment == experiment)
        twice = counts["customers"] - counts["mixed"]
        if counts["mixed"]:
            which = numbered.semi_join(each.filter(each.variants > 1), "customer_id")
            found = f"{_customers(counts['mixed'])} in two variants of `{experiment}` at once"
            mend = "keep the variant that was drawn first, or leave these customers out of the experiment and say so"
            problems.append(table.at(found, mend, counts["mixed_rows"], which, "customer_id"))
        if twice:
            which = numbered.semi_join(each.filter(each.variants <= 1), "customer_id")
            rows_twice = counts["rows"] - (counts["mixed_rows"] or 0)
            found = f"{_customers(twice)} in `{experiment}` twice, in the same variant"
            problems.append(table.at(found, "keep the first row of each", rows_twice, which, "customer_id"))
        return problems

    def _when_assigned(self, table: _Read, mine: ibis.Table) -> list[Problem]:
        """Warnings: assignments outside of the period, windows not yet complete."""
        if not table.has("assigned_at"):
            return []
        settings = self.settings
        start = _plain(moment(settings.period.start, settings.timezone))
        end = _plain(moment(settings.period.end, settings.timezone, end_of_day=True))
        due = _plain(self.clock - timedelta(days=settings.outcome_window_days))
        outside = (mine.assigned_at < start) | (mine.assigned_at > end)
        counted = mine.aggregate(
            n=mine.count(), outside=mine.count(where=outside), open=mine.count(where=mine.assigned_at > due)
        )
        counts = _few(counted, 1)[0]
        problems = []
        if counts["outside"]:
            found = f"{counts['outside']:,} of {counts['n']:,} were assigned outside of the period in study.yml"
            mend = "correct `period` or the times; they are read all the same"
            problems.append(table.problem(found, mend, column="assigned_at", severity="warning"))
        if counts["open"]:
            window = f"the outcome window of {settings.outcome_window_days} days"
            found = f"{window} is not over for {counts['open']:,} of {counts['n']:,} customers; they are left out of results"
            problems.append(
                table.problem(found, "wait, or set a later `as_of`", column="assigned_at", severity="warning")
            )
        return problems

    def factors(self) -> list[Problem]:
        """Channels drawn on or off beside the experiment: whether they are there, vary, and were drawn for everybody in time."""
        if not self.has("assignments", "experiment", "customer_id", "variant", "assigned_at"):
            return []
        table, problems = self.read["assignments"], []
        rows = table.typed
        held = rows.variant.isin(self.settings.arms.holdout)
        mine = rows.filter(rows.experiment == self.settings.experiment)
        mine = mine.select("customer_id", "assigned_at", held=held)
        for name, factor in self.settings.factors.items():
            drawn = rows.filter(rows.experiment == factor.experiment)
            found = [row["variant"] for row in _few(drawn.select("variant").distinct(), 1000)]
            mend = "correct `factors` in study.yml or the table"
            if absent := [variant for variant in factor.on if variant not in found]:
                what = f"the channel `{name}` has no variant `{absent[0]}` in the experiment `{factor.experiment}`"
                problems.append(table.problem(what, mend, column="variant"))
                continue
            on, at = drawn.variant.isin(factor.on), drawn.assigned_at
            both = mine.left_join(drawn.select("customer_id", on=on.cast("int64"), drawn_at=at), "customer_id")
            counted = both.aggregate(
                n=both.count(),
                drawn=both.on.count(),
                on=both.on.sum().fill_null(0),
                late=both.count(where=both.drawn_at > both.assigned_at),
                held=both.count(where=both.held & (both.on == 1)),
            )
            problems += self._factor(table, name, _few(counted, 1)[0], mend)
        return problems

    def _factor(self, table: _Read, name: str, counts: Mapping[str, int], mend: str) -> list[Problem]:
        if counts["on"] in (0, counts["drawn"]):
            always = "on" if counts["drawn"] and counts["on"] else "off"
            what = f"the channel `{name}` is {always} for every customer drawn for it: nothing to compare"
            return [table.problem(what, mend, column="variant")]
        problems = []
        if lacking := counts["n"] - counts["drawn"]:
            what = f"{lacking:,} of {counts['n']:,} customers were not drawn for the channel `{name}`; its effect leaves them out"
            way = "nothing to do where that was planned; else add their rows"
            problems.append(table.problem(what, way, column="variant", severity="warning"))
        if counts["late"]:
            what = f"{counts['late']:,} customers were drawn for the channel `{name}` after their outcome window began"
            way = "draw all channels before the window, or the effect is diluted"
            problems.append(table.problem(what, way, column="assigned_at", severity="warning"))
        if counts["held"]:
            what = f"{counts['held']:,} customers of the holdout were drawn to have the channel `{name}` on"
            way = "draw channels only among customers who get offers: a holdout gets none, in any channel"
            problems.append(table.problem(what, way, column="variant", severity="warning"))
        return problems

    def customers(self) -> list[Problem]:
        """Customers that a table names and `customers` does not know; orders from before a customer joined."""
        if not self.has("customers", "customer_id"):
            return []
        customers, problems = self.read["customers"].typed, []
        for name, table in self.read.items():
            if name == "customers" or not table.has("customer_id"):
                continue
            rows = table.typed.filter(table.typed.customer_id.notnull())
            if name == "assignments":
                rows = rows.filter(rows.experiment == self.settings.experiment) if table.has("experiment") else rows
            unknown = _few(rows.anti_join(customers, "customer_id").aggregate(n=ibis_count()), 1)[0]["n"]
            if unknown:
                which = table.numbered.filter(table.numbered.customer_id.notnull()).anti_join(customers, "customer_id")
                if name == "assignments":
                    which = (
                        which.filter(which.experiment == self.settings.experiment) if table.has("experiment") else which
                    )
                    mend = "add them to customers: everyone assigned is counted, whatever became of them"
                    problems.append(
                        table.at("assigned customers are missing from customers", mend, unknown, which, "customer_id")
                    )
                    continue
                problems += self._tolerate(
                    table, "customer unknown", unknown, which, "add the customers, or raise `tolerate` knowingly"
                )
                self.kept[name] = table.typed.semi_join(customers, "customer_id")
        return problems + self._before_joining()

    def _before_joining(self) -> list[Problem]:
        if not (
            self.has("customers", "customer_id", "joined_at")
            and self.has("orders", "customer_id", "ordered_at", "order_id")
        ):
            return []
        table = self.read["orders"]
        joined = self.read["customers"].typed.select("customer_id", "joined_at")

        def early(orders: ibis.Table) -> ibis.Table:
            both = orders.inner_join(joined, "customer_id")
            return both.filter(both.ordered_at < both.joined_at)

        count = _few(early(table.typed).aggregate(n=ibis_count()), 1)[0]["n"]
        if not count:
            return []
        orders = self.kept.get("orders", table.typed)
        self.kept["orders"] = orders.anti_join(early(table.typed).select("order_id"), "order_id")
        mend = "correct `joined_at` (the first contact of any kind) or the time of the order"
        return self._tolerate(table, "ordered before the customer joined", count, early(table.numbered), mend)

    def orders_and_lines(self) -> list[Problem]:
        """Lines without their order, and lines that do not add up to the order's revenue."""
        if not (self.has("orders", "order_id", "revenue") and self.has("order_lines", "order_id")):
            return []
        orders, lines = self.read["orders"], self.read["order_lines"]
        rows = lines.typed.filter(lines.typed.order_id.notnull())
        problems = []
        unknown = _few(rows.anti_join(orders.typed, "order_id").aggregate(n=ibis_count()), 1)[0]["n"]
        if unknown:
            which = lines.numbered.filter(lines.numbered.order_id.notnull()).anti_join(orders.typed, "order_id")
            problems += self._tolerate(
                lines, "order unknown", unknown, which, "add the orders, or raise `tolerate` knowingly"
            )
            self.kept["order_lines"] = lines.typed.semi_join(orders.typed, "order_id")
        if lines.has("quantity", "price"):
            problems += _disagreeing(orders, rows)
        return problems

    def _tolerate(self, table: _Read, reason: str, count: int, which: ibis.Table, mend: str) -> list[Problem]:
        """Set rows aside where they are few; refuse them where they are many."""
        if count <= self.settings.tolerate * table.count:
            self.aside.append(
                Aside(table.spec.name, reason, count, which.select("row") if table.raw.numbered else None)
            )
            return []
        share = f"{count:,} of {table.count:,} rows ({100 * count / table.count:.2g} %), more than `tolerate` ({100 * self.settings.tolerate:g} %)"
        return [table.at(f"{reason} in {share}", mend, count, which)]


def ibis_count():
    """The number of rows, whatever table it is asked of."""
    import ibis

    return ibis._.count()


def _numbered(raw: Raw) -> ibis.Table:
    import ibis

    # The order of a file is the order in which it is read; a window without an order keeps it.
    number = ibis.row_number() + 1 if raw.numbered else ibis.literal(0)
    return raw.expr.mutate(row=number.cast("int64"))


def _twice(table: _Read, key: tuple[str, ...], where=None) -> list[Problem]:
    rows = table.typed.filter(*(table.typed[name].notnull() for name in key))
    rows = rows if where is None else rows.filter(where)
    each = rows.group_by(key).aggregate(n=rows.count())
    each = each.filter(each.n > 1)
    counts = _few(each.aggregate(keys=each.count(), rows=each.n.sum()), 1)[0]
    if not counts["keys"]:
        return []
    which = table.numbered.semi_join(each, key)
    found = f"{counts['keys']:,} {' + '.join(key)} stand more than once"
    mend = "leave each once; if rows repeat, the export or a join in the query doubled them"
    return [table.at(found, mend, counts["rows"], which, key[-1])]


def _disagreeing(orders: _Read, lines: ibis.Table) -> list[Problem]:
    net = lines.quantity * lines.price - (lines.discount.fill_null(0) if "discount" in lines.columns else 0)
    total = lines.mutate(net=net).group_by("order_id").aggregate(net=lambda t: t.net.sum())
    both = orders.typed.inner_join(total, "order_id")
    paid = both.revenue + (both.reward.fill_null(0) if "reward" in both.columns else 0)
    off = _few(both.aggregate(n=both.count(), off=both.count(where=(paid - both.net).abs() > CENT)), 1)[0]
    if not off["off"]:
        return []
    found = f"in {off['off']:,} of {off['n']:,} orders the lines do not add up to revenue plus reward"
    mend = "check tax, shipping and discounts on one such order: prices are before discount and without tax, discount is per line"
    return [orders.problem(found, mend, column="revenue", severity="warning")]


def _first_rows(rows: ibis.Table) -> tuple[int, ...]:
    return tuple(row["row"] for row in _few(rows.select("row").order_by("row"), ROWS_SHOWN))


def _few(table: ibis.Table, most: int) -> list[dict]:
    return table.limit(most).to_pyarrow().to_pylist()


def _customers(count: int) -> str:
    return f"{count:,} customer{'s stand' if count > 1 else ' stands'}"


def _names(spec: Table) -> str:
    return ", ".join(name for name, column in spec.columns.items() if column.required)


def _plain(at: datetime):
    import ibis

    return ibis.timestamp(at.astimezone(UTC).replace(tzinfo=None))
