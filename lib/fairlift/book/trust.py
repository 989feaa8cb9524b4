"""How far to trust these numbers: every method on experiments with a known truth, beside the naive method."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

from fairlift.book.markup import code, page, plain, table
from fairlift.format import number

INTRO = (
    "You decide here which of the numbers in this book you may lean on. Each method was tried on experiments whose truth is known, "
    "and beside it, on the same experiments, the answer a naive analysis would give."
)
READING = (
    "**Holds the truth**: how often the interval holds the true effect; it should be nineteen in twenty. **Below, above**: how often "
    "the whole interval lies on that side of the truth; an honest interval misses on both sides alike, about one time in forty. "
    "**False alarms**: how often something is found where nothing is. **Power**: how often a true effect is found. **Refused**: how "
    "often the method says that it cannot answer, which is the right answer where the promised rate cannot be kept. A method called "
    "conservative promises only that its false alarms stay below the rate; it may have far fewer."
)
HEAD = ["Experiments", "Method", "Holds the truth", "Below, above", "False alarms", "Power", "Refused", "How many"]


def trust_page(results: Path) -> str:
    """The page of the calibration recorded in benchmarks/results/calibration.json."""
    found = json.loads(results.read_text(encoding="utf-8"))
    parts = []
    for topic, rows in groupby(found["rows"], key=lambda row: row["topic"]):
        title, _, sentence = found["topics"][topic].partition(": ")
        parts += [f"## {plain(title)}", plain(sentence), table(HEAD, _lines(list(rows)))]
    made = f"Computed on {found['date']} with {code(found['command'])} ({plain(found['machine'])})."
    return page("How far to trust these numbers", INTRO, READING, *parts, made)


def _lines(rows: list[dict]) -> list[list[str]]:
    """One line a method; experiments are named at the first of their methods, the right method comes before the naive."""
    lines = []
    for case, methods in groupby(rows, key=lambda row: row["case"]):
        for place, row in enumerate(sorted(methods, key=lambda row: row["naive"])):
            sides = ", ".join(_share(row[name]) for name in ("miss_low", "miss_high"))
            lines.append(
                [
                    plain(case) if place == 0 else "",
                    f"*naive:* {plain(row['method'])}" if row["naive"] else f"**{plain(row['method'])}**",
                    _share(row["coverage"]),
                    sides if row["miss_low"] is not None else "",
                    _share(row["false_positive"]),
                    _share(row["power"]),
                    _share(row["refused"]) if row["refused"] else "",
                    number(row["reps"], "count"),
                ]
            )
    return lines


def _share(value: float | None) -> str:
    return "" if value is None else number(value, "share")
