"""Evidence: one schema for every result that may reach the launch decision."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import pandas as pd

from fairlift.errors import InputError, Problem, nearest
from fairlift.format import interval, number

KINDS = ("interval", "test", "exact", "attested")
DESIGNS = ("randomised", "quasi", "descriptive", "attested")
VERDICTS = ("pass", "fail", "inconclusive", "reported")
STATUSES = ("registered", "exploratory")
VALIDITIES = ("end", "look", "always")
KEY = ("id", "segment", "arm", "versus", "population", "window_start", "window_end")
NUMBERS = ("value", "se", "low", "high", "level", "p", "n", "planned_n", "min_n", "threshold", "hard_limit")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One result: what was measured, for whom, how sure, against which threshold.

    The columns of `KEY` are the key.  `id` is PART.TOPIC.METRIC.  `better` is "up" or "down".
    kind "interval": low and high are the limits at `level`; "test": p against `threshold` (alpha), with `high` the
    smallest deviation detectable at this n and `hard_limit` the tolerated one; "exact": low = high = value, or an exact
    bound; "attested": a person vouches.  Without a threshold the row is only "reported".
    `validity` says when an interval may be read: "end" (once, at the planned end), "look" (at looks agreed beforehand, this
    being one of them) or "always".

    >>> row = Evidence(id="sales.incremental.revenue", kind="interval", design="randomised", statement="Revenue rose.",
    ...     arm="personalised", versus="holdout", value=.77, low=.48, high=1.05, unit="money", better="up", threshold=0, n=42000)
    >>> row.verdict, row.label
    ('pass', 'sales.incremental.revenue@all:personalised-vs-holdout')
    """

    id: str
    statement: str
    kind: str
    design: str
    segment: str = "all"
    arm: str = ""
    versus: str = ""
    population: str = "assigned"
    window_start: str = ""
    window_end: str = ""
    requirement: str = ""
    value: float | None = None
    unit: str = ""
    se: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    p: float | None = None
    n: int | None = None
    planned_n: int | None = None
    min_n: int | None = None
    threshold: float | None = None
    threshold_from: str = ""
    hard_limit: float | None = None
    better: str = "up"
    family: str = ""
    status: str = "exploratory"
    validity: str = "end"
    notebook: str = ""
    tables: tuple[str, ...] = ()
    data_hash: str = ""
    code_version: str = ""
    expires_at: str | None = None
    run: str = ""

    def __post_init__(self) -> None:
        wrong = [
            f"{name} is {got!r}, not one of {', '.join(allowed)}"
            for name, got, allowed in (
                ("kind", self.kind, KINDS),
                ("design", self.design, DESIGNS),
                ("status", self.status, STATUSES),
                ("validity", self.validity, VALIDITIES),
                ("better", self.better, ("up", "down")),
            )
            if got not in allowed
        ]
        if self.id.count(".") != 2:
            wrong.append(f"id is {self.id!r}, not PART.TOPIC.METRIC")
        for name in NUMBERS:
            number = getattr(self, name)
            if number is not None and math.isnan(number):
                wrong.append(f"{name} is not a number; leave it out instead")
            elif number is not None:  # numpy scalars would not survive JSON
                object.__setattr__(self, name, int(number) if name in ("n", "planned_n", "min_n") else float(number))
        object.__setattr__(self, "tables", tuple(self.tables))
        if wrong:
            raise InputError(
                [Problem(f"evidence {self.id}", text, "correct the row where it is made") for text in wrong]
            )

    @property
    def key(self) -> tuple[str, ...]:
        return tuple(getattr(self, name) for name in KEY)

    @property
    def label(self) -> str:
        """The display form; derived, never parsed."""
        versus = f":{self.arm}" + (f"-vs-{self.versus}" if self.versus else "") if self.arm else ""
        return f"{self.id}@{self.segment}{versus}"

    @property
    def verdict(self) -> str:
        """What the row says of its threshold: pass, fail, inconclusive, or only reported."""
        if self.threshold is None:
            return "reported"
        if self.min_n is not None and (self.n is None or self.n < self.min_n):
            return "inconclusive"
        if self.kind == "test":
            return self._verdict_of_test()
        low, high = self.low, self.high
        if self.kind == "exact" and low is None and high is None:
            low = high = self.value
        if low is None or high is None:
            return "inconclusive"
        if self.better == "down":  # mirror, so that one rule serves both
            low, high, threshold = -high, -low, -self.threshold
        else:
            threshold = self.threshold
        if low > threshold or (low == threshold and self.kind in ("exact", "attested")):
            return "pass"
        return "fail" if high < threshold else "inconclusive"

    def _verdict_of_test(self) -> str:
        if self.p is None:
            return "inconclusive"
        if self.p < self.threshold:
            return "fail"
        blind = self.hard_limit is None or self.high is None or self.high > self.hard_limit
        return "inconclusive" if blind else "pass"


@dataclass(frozen=True)
class Target:
    """What the plan asks of one metric in one contrast: a benefit above zero, or no harm beyond a margin.

    `margin` and `limit` are sizes in the metric's unit, without sign; `planned_n` counts both arms.
    """

    role: str
    margin: float = 0.0
    limit: float | None = None
    planned_n: int | None = None
    source: str = "plan.yml"

    def signed(self, better: str) -> tuple[float, float | None]:
        """Threshold and hard limit of a difference, on the side that harms.

        >>> Target("guardrail", margin=.5, limit=1.0).signed("down")
        (0.5, 1.0)
        """
        side = -1 if better == "up" else 1
        return side * self.margin + 0.0, None if self.limit is None else side * self.limit


@dataclass(frozen=True)
class Look:
    """How one comparison may be read at this moment, as the plan fixed it.

    `validity` is "look" or "always".  `planned_n` counts both arms, as does `seen`: the complete customers at every look so
    far, the present one last.  For "look": `looks` is how many there will have been, `spending` how alpha is spread over
    them.  For "always": `burn_in` is a size of the smaller arm before which nothing is read, where the plan asks for a
    later start than the method's own.
    """

    validity: str
    planned_n: int
    seen: tuple[int, ...] = ()
    looks: int = 1
    spending: str = "obrien_fleming"
    burn_in: int | None = None


def suppress(row: Evidence, minimum: int) -> Evidence:
    """Drop the numbers of a row that rests on fewer than `minimum` people, so that no small cell is stored."""
    if row.n is None or row.n >= minimum:
        return row
    return replace(row, value=None, se=None, low=None, high=None, p=None, n=None, min_n=row.min_n or minimum)


def frame(rows: Iterable[Evidence], truth: Mapping[str, float] | None = None, currency: str = "EUR") -> pd.DataFrame:
    """Rows as a table for reading: every number formatted, the known truth beside the estimate where there is one.

    Columns that would say nothing are left out; numbers do not break over lines.
    """
    table = []
    for row in rows:
        shown = {
            "result": row.id,
            "for": row.segment.replace("=", " ") if row.segment != "all" else "",
            "comparison": f"{row.arm} − {row.versus}" if row.versus else row.arm,
            "estimate": number(row.value, row.unit, currency, signed=bool(row.versus)),
            "interval": "",
            "truth": number(truth[row.label], row.unit, currency, signed=bool(row.versus))
            if truth and row.label in truth
            else "",
            "verdict": row.verdict if row.verdict != "reported" else "",
        }
        if row.kind == "interval":
            shown["interval"] = interval(row.low, row.high, row.unit, currency, signed=bool(row.versus))
        table.append({name: _whole(text) if name in _NUMERIC else text for name, text in shown.items()})
    columns = pd.DataFrame(table)
    telling = [name for name in columns if (columns[name] != "").any()]
    for name in ("result", "comparison"):
        if len(columns) > 1 and name in telling and columns[name].nunique() == 1:
            telling.remove(name)
    return columns[telling].set_index(telling[0]).rename_axis(index=None, columns=telling[0])


_NUMERIC = ("estimate", "interval", "truth")


def _whole(text: str) -> str:
    """A text that does not break over lines."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def to_json(rows: Iterable[Evidence]) -> str:
    """Rows as a JSON list, each with its verdict beside it for readers of the file."""
    return json.dumps(
        [asdict(row) | {"verdict": row.verdict} for row in rows], indent=1, allow_nan=False, ensure_ascii=False
    )


def from_json(text: str, where: str = "evidence") -> list[Evidence]:
    """Rows from a JSON list; refuses unknown columns and a verdict that its own numbers contradict."""
    names = [field.name for field in fields(Evidence)]
    try:
        listed = json.loads(text)
        if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
            raise ValueError("a list of rows is expected")
    except ValueError as error:
        raise InputError(Problem(where, f"not an evidence list: {error}", "run the notebook again")) from error
    problems, rows = [], []
    for row in listed:
        stated = row.pop("verdict", None)
        unknown = [name for name in row if name not in names]
        if unknown:
            problems += [Problem(where, f"unknown column `{name}`", nearest(name, names)) for name in unknown]
            continue
        try:
            rows.append(Evidence(**row))
        except TypeError as error:
            problems.append(Problem(where, f"incomplete row: {error}", "run the notebook again"))
            continue
        if stated is not None and stated != rows[-1].verdict:
            found = f"{rows[-1].label} states {stated!r} but its numbers say {rows[-1].verdict!r}"
            problems.append(Problem(where, found, "the file was edited: run the notebook again"))
    if problems:
        raise InputError(problems)
    return rows


def duplicates(rows: Sequence[Evidence]) -> list[Problem]:
    """Problems for keys that stand more than once."""
    counts = Counter(row.key for row in rows)
    labels = {row.key: row for row in rows}
    return [
        Problem(f"evidence {labels[key].label}", f"stands {times} times", "leave each result once")
        for key, times in counts.items()
        if times > 1
    ]


def write(path: Path, rows: Sequence[Evidence]) -> Path:
    """Write one notebook's evidence whole or not at all; returns the path."""
    problems = duplicates(rows)
    if problems:
        raise InputError(problems)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    draft.write_text(to_json(rows) + "\n", encoding="utf-8")
    os.replace(draft, path)
    return path


def read(folder: Path) -> list[Evidence]:
    """Every row under `folder`, sorted by file; refuses duplicates across files."""
    rows = [
        row for path in sorted(folder.glob("*.json")) for row in from_json(path.read_text(encoding="utf-8"), path.name)
    ]
    problems = duplicates(rows)
    if problems:
        raise InputError(problems)
    return rows
