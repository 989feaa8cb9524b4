"""The contract: which tables and columns a study may hold, typed, with units and one sentence a column."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

TYPES = ("id", "category", "text", "time", "integer", "number", "money", "boolean")


@dataclass(frozen=True)
class Column:
    """One column: type, unit, whether a study needs it, and what it means.

    `low`, `high` bound numbers (inclusive); `values` lists the allowed categories; `need` is key, required or optional.
    A name ending in `*` stands for every column that starts so.
    """

    name: str
    type: str
    unit: str
    need: str
    sentence: str
    low: float | None = None
    high: float | None = None
    values: tuple[str, ...] = ()

    @property
    def required(self) -> bool:
        return self.need in ("key", "required")


@dataclass(frozen=True)
class Table:
    """One table: its columns by name, its key, and whether a study can do without it."""

    name: str
    sentence: str
    required: bool
    columns: dict[str, Column]

    @property
    def key(self) -> tuple[str, ...]:
        return tuple(name for name, column in self.columns.items() if column.need == "key")

    def column(self, name: str) -> Column | None:
        """The declared column of that name, `pre_*` included; None where the contract has none."""
        if name in self.columns:
            return self.columns[name]
        return next((c for c in self.columns.values() if c.name.endswith("*") and name.startswith(c.name[:-1])), None)


@cache
def contract() -> dict[str, Table]:
    """Every table by name.

    >>> tables = contract()
    >>> [name for name, table in tables.items() if table.required]
    ['customers', 'assignments', 'orders']
    >>> tables["customers"].column("pre_revenue").type
    'number'
    """
    text = files("fairlift.study").joinpath("contract.yml").read_text(encoding="utf-8")
    return {
        name: Table(
            name,
            " ".join(spec["sentence"].split()),
            spec.get("required", False),
            {column: _column(column, *row) for column, row in spec["columns"].items()},
        )
        for name, spec in yaml.safe_load(text).items()
    }


def _column(name: str, kind: str, unit: str, need: str, sentence: str) -> Column:
    base, rule = re.fullmatch(r"(\w+)(.*)", kind).groups()
    if base not in TYPES or need not in ("key", "required", "optional"):
        raise ValueError(f"contract.yml: {name} has type {kind!r} and need {need!r}")
    low = high = None
    values: tuple[str, ...] = ()
    if rule.startswith(">="):
        low = float(rule[2:])
    elif "|" in rule:
        values = tuple(rule.strip("[]").split("|"))
    elif rule:
        low, high = map(float, rule.strip("[]").split(","))
    return Column(name, base, unit, need, sentence, low, high, values)
