"""The cells of a table: each declared column as its contract type, and the rules a cell may break."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fairlift.errors import Problem, nearest
from fairlift.study.contract import Column, Table

if TYPE_CHECKING:
    import ibis

COMMA = r"^\s*[-+]?(\d+|\d{1,3}([. ]\d{3})+),\d+\s*$"
ZONE = r"(?i)\d:\d\d.*([zZ]|[+-]\d\d(:?\d\d)?|utc|gmt|[a-z_]+/[a-z_/]+)\s*$"
LARGEST = sys.float_info.max  # only infinity is larger
TRUE, FALSE = ("true", "t", "yes", "y", "1", "1.0"), ("false", "f", "no", "n", "0", "0.0")

# Costs are booked for periods that may end after `as_of`; every other time has happened.
MAY_BE_AHEAD = {"from_at", "until_at"}


@dataclass(frozen=True)
class Rule:
    """One way in which cells of a column are wrong: where, what to say, how to mend; `cell` is shown as a pattern."""

    column: str
    wrong: ibis.BooleanValue
    found: str
    mend: str
    cell: ibis.Value | None = None


@dataclass(frozen=True)
class Fitted:
    """A table with only its declared columns, typed; the rules its cells may break; what is wrong with whole columns."""

    values: dict[str, ibis.Value]
    rules: list[Rule]
    problems: list[Problem]
    extra: list[str]


@dataclass(frozen=True)
class Skills:
    """What the backend can do: try a text as a number or time (DuckDB alone), and hold numbers that are none (NaN)."""

    cast: bool
    nan: bool


def fit(raw: ibis.Table, spec: Table, origin: str, clock: datetime, zone: str | None, skills: Skills) -> Fitted:
    """Cast every declared column of `raw` to its contract type; `zone` is the zone of times written without one."""
    values: dict[str, ibis.Value] = {}
    rules: list[Rule] = []
    problems: list[Problem] = []
    extra = [name for name in raw.columns if spec.column(name) is None]
    for name, kind in raw.schema().items():
        column = spec.column(name)
        if column is None:
            continue
        try:
            values[name], found = _cast(raw[name], name, column, kind, zone, skills)
            rules += found
            rules += _bounds(values[name], raw[name], name, column, clock)
        except TypeError as error:
            found, mend = error.args
            problems.append(Problem(spec.name, found, mend, column=name, file=origin))
    for name, column in spec.columns.items():
        if column.required and name not in raw.columns:
            hint = nearest(name, extra) if extra and len(extra) <= 20 else ""
            mend = f"add it ({column.sentence.rstrip('.').lower()})" + (f"; {hint}" if hint.startswith("did") else "")
            problems.append(Problem(spec.name, "the column is missing and required", mend, column=name, file=origin))
    return Fitted(values, rules, problems, extra)


def _cast(cell, name: str, column: Column, kind, zone: str | None, skills: Skills) -> tuple[ibis.Value, list[Rule]]:
    """The typed value of a column and the rules of its type; TypeError(found, mend) where the whole column is wrong."""
    if kind.is_null():
        kind = kind.__class__(nullable=True)
        return cell.cast(_KIND[column.type]), [_empty(cell.isnull(), name)] if column.required else []
    if kind.is_string() and column.type not in ("id", "category", "text") and not skills.cast:
        raise TypeError(
            f"it holds text, not {_NOUN[column.type]}", f"cast it in the query: CAST({name} AS {_SQL[column.type]})"
        )
    match column.type:
        case "id":
            value, rules = _id(cell, name, kind)
        case "category" | "text":
            value, rules = _text(cell, kind), []
        case "time":
            value, rules = _time(cell, name, kind, zone, skills.cast)
        case "boolean":
            value, rules = _boolean(cell, name, kind, skills.nan)
        case _:
            value, rules = _number(cell, name, kind, column.type == "integer", skills.nan)
    if column.required:
        broken = rules[0].wrong.fill_null(False) if rules else None
        for rule in rules[1:]:
            broken = broken | rule.wrong.fill_null(False)
        rules.append(_empty(value.isnull() if broken is None else value.isnull() & ~broken, name))
    return value, rules


def _empty(wrong, name: str) -> Rule:
    return Rule(name, wrong, "the cell is empty or not a number (NaN)", "fill it in, or leave the row out of the table")


def _text(cell, kind):
    return (cell if kind.is_string() else cell.cast("string")).nullif("")


def _id(cell, name: str, kind) -> tuple[ibis.Value, list[Rule]]:
    whole = kind.is_integer() or (kind.is_decimal() and kind.scale == 0)
    if not (kind.is_string() or whole or kind.is_uuid()):
        noun = "decimal numbers, so that 1 reads 1.0" if kind.is_floating() or kind.is_decimal() else f"{kind}"
        raise TypeError(f"it holds {noun}; an id is text", f"export it as text or whole number: CAST({name} AS BIGINT)")
    value = _text(cell, kind)
    if not kind.is_string():
        return value, []
    decimal = value.re_search(r"^\d+\.0+$")
    return value, [
        Rule(name, decimal, "the id was turned into a decimal number (it ends in .0)", "export ids as text", value)
    ]


def _number(cell, name: str, kind, whole: bool, nan: bool) -> tuple[ibis.Value, list[Rule]]:
    noun = "a whole number" if whole else "a number"
    rules = []
    if kind.is_string():
        text = cell.strip().nullif("")
        value = text.try_cast("float64")
        unread = text.notnull() & value.isnull()
        comma = unread & text.re_search(COMMA)
        mend = f"write 12.50, or cast with replace({name}, ',', '.') in the query"
        rules += [
            Rule(name, comma, "decimal comma", mend, text),
            Rule(
                name,
                unread & ~text.re_search(COMMA),
                f"not {noun}",
                "write digits with a point, without unit or grouping",
                text,
            ),
        ]
    elif kind.is_numeric():
        value = cell.cast("float64")
    else:
        raise TypeError(
            f"it holds {kind}, not {noun}", f"cast it in the query: CAST({name} AS {'BIGINT' if whole else 'DOUBLE'})"
        )
    if kind.is_string() or kind.is_floating():
        value = value.isnan().ifelse(None, value) if nan else value
        rules.append(Rule(name, value.abs() > LARGEST, "the number is infinite", "correct it, or leave the cell empty"))
    if whole and not kind.is_integer():
        rules.append(
            Rule(
                name,
                (value != value.floor()) & (value.abs() <= LARGEST),
                "not a whole number",
                "round it where it is made",
            )
        )
    return value, rules


def _boolean(cell, name: str, kind, nan: bool) -> tuple[ibis.Value, list[Rule]]:
    if kind.is_boolean():
        return cell, []
    if kind.is_string():
        text = cell.strip().lower().nullif("")
        yes, no = text.isin(TRUE), text.isin(FALSE)
    elif kind.is_numeric():
        text, yes, no = cell, cell == 1, cell == 0
        if kind.is_floating() and nan:
            text = cell.isnan().ifelse(None, cell)
    else:
        raise TypeError(f"it holds {kind}, not true or false", f"cast it in the query: CAST({name} AS BOOLEAN)")
    import ibis

    value = ibis.cases((yes, True), (no, False), else_=ibis.null("boolean"))
    return value, [
        Rule(
            name, text.notnull() & value.isnull(), "neither true nor false", "write true or false", text.cast("string")
        )
    ]


def _time(cell, name: str, kind, zone: str | None, castable: bool) -> tuple[ibis.Value, list[Rule]]:
    found = "the time has no zone"
    mend = (
        "write times as 2026-03-29T08:00:00+02:00, or state `times_without_zone: Europe/Berlin` (or UTC) in study.yml"
    )
    if kind.is_string():
        text = cell.strip().nullif("")
        value = text.try_cast("timestamp('UTC')").cast("timestamp")
        zoned = text.re_search(ZONE)
        unread = Rule(
            name,
            text.notnull() & value.isnull(),
            "not a time",
            f"{mend.partition(',')[0]}, or cast it with strptime()",
            text,
        )
        if zone:
            return zoned.ifelse(value, _in_zone(value, zone)), [unread]
        return value, [unread, Rule(name, value.notnull() & ~zoned, found, mend, text)]
    if kind.is_date() or (kind.is_timestamp() and kind.timezone is None):
        value = cell.cast("timestamp")
        if zone == "UTC":
            return value, []
        if zone and castable:
            return _in_zone(value, zone), []
        if zone:
            raise TypeError(found, f"convert it in the query: {name} AT TIME ZONE '{zone}'")
        return value, [Rule(name, value.notnull(), found, mend)]
    if kind.is_timestamp():
        return (cell if kind.timezone == "UTC" or castable else cell.cast("timestamp('UTC')")).cast("timestamp"), []
    raise TypeError(f"it holds {kind}, not a time", f"cast it in the query, for example to_timestamp({name})")


def _in_zone(value, zone: str):
    """Local wall-clock times as UTC; DuckDB knows the zones."""
    return _timezone()(zone, value).cast("timestamp")


def _timezone():
    import ibis

    @ibis.udf.scalar.builtin(name="timezone", signature=(("string", "timestamp"), "timestamp('UTC')"))
    def timezone(zone, value): ...

    return timezone


def _bounds(value, cell, name: str, column: Column, clock: datetime) -> Iterator[Rule]:
    import ibis

    if column.low is not None:
        least = f"{column.low:g}"
        if column.low == 0 and column.high is None:
            found, mend = "the number is negative", "make it 0 or more; money paid back belongs in `refund`"
        else:
            found, mend = f"less than {least}", f"correct it; the least is {least}"
        yield Rule(name, value < column.low, found, mend, cell.cast("string"))
    if column.high is not None:
        yield Rule(
            name,
            value > column.high,
            f"more than {column.high:g}",
            f"correct it; the most is {column.high:g}",
            cell.cast("string"),
        )
    if column.values:
        wrong = value.notnull() & ~value.isin(column.values)
        yield Rule(name, wrong, "not one of the known values", f"use {', '.join(column.values)}", value)
    if column.type == "time" and name not in MAY_BE_AHEAD:
        now = ibis.timestamp(clock.astimezone(UTC).replace(tzinfo=None))
        mend = "correct the times, leave out what came after, or set a later `as_of` in study.yml"
        yield Rule(name, value > now, f"the time is after the study's `as_of` ({clock:%Y-%m-%d %H:%M} UTC)", mend)


_KIND = {
    "id": "string",
    "category": "string",
    "text": "string",
    "time": "timestamp",
    "boolean": "boolean",
} | dict.fromkeys(("integer", "number", "money"), "float64")
_NOUN = {
    "time": "times",
    "boolean": "true or false",
    "integer": "whole numbers",
    "number": "numbers",
    "money": "numbers",
}
_SQL = {
    "time": "TIMESTAMP",
    "boolean": "BOOLEAN",
    "integer": "BIGINT",
    "number": "DOUBLE PRECISION",
    "money": "DOUBLE PRECISION",
}
