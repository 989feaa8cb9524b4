"""How far to trust these numbers: every method on experiments with a known truth, beside the naive method."""

from __future__ import annotations

import html
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
    "**False alarms**: how often something is found where nothing is. **Power**: how often a true effect is found. A method may also "
    "**refuse**, which is the right answer where the promised rate cannot be kept. Some methods promise only that false alarms stay "
    "below one in twenty, and may have far fewer: draws of few stores, exact counts, and whatever may be read on any day."
)
HEAD = ("Method", "Holds the truth", "Below, above", "False alarms", "Power")


def trust_page(results: Path) -> str:
    """The page of the calibration recorded in benchmarks/results/calibration.json."""
    found = json.loads(results.read_text(encoding="utf-8"))
    topics = {topic: list(rows) for topic, rows in groupby(found["rows"], key=lambda row: row["topic"])}
    titles = {topic: found["topics"][topic].partition(": ") for topic in topics}
    overview = [[plain(titles[topic][0]), *_overview(rows)] for topic, rows in topics.items()]
    head = ["Experiments on", "Kinds", "Ours: false alarms at most", "Naive: false alarms up to"]
    parts = [table(head, overview), "## How to read the tables", READING]
    for topic, rows in topics.items():
        title, _, sentence = titles[topic]
        parts += [
            f"## {plain(title)}",
            plain(sentence[:1].upper() + sentence[1:]) + "." if sentence else "",
            _table(rows),
        ]
    made = f"Computed on {found['date']} with {code(found['command'])} ({plain(found['machine'])})."
    return page("How far to trust these numbers", INTRO, *parts, made)


def _overview(rows: list[dict]) -> list[str]:
    """How many kinds of experiments, and the most false alarms of our methods and of the naive ones."""
    most = [
        max(
            (row["false_positive"] for row in rows if row["naive"] is naive and row["false_positive"] is not None),
            default=None,
        )
        for naive in (False, True)
    ]
    return [number(len({row["case"] for row in rows}), "count"), *map(_share, most)]


def _table(rows: list[dict]) -> str:
    """One block a kind of experiment, named in a row of its own; the right method comes before the naive one."""
    lines = ['<div class="pst-scrollable-table-container"><table class="table"><thead><tr>']
    lines += [f'<th scope="col">{name}</th>' for name in HEAD]
    lines.append("</tr></thead>")
    for case, methods in groupby(rows, key=lambda row: row["case"]):
        listed = sorted(methods, key=lambda row: row["naive"])
        many = number(max(row["reps"] for row in listed), "count")
        said = f"{html.escape(case)} ({many} experiments)"
        lines.append(f'<tbody><tr><th colspan="{len(HEAD)}" scope="rowgroup">{said}</th></tr>')
        lines += [_line(row) for row in listed]
        lines.append("</tbody>")
    return "\n".join([*lines, "</table></div>"])


def _line(row: dict) -> str:
    name = html.escape(row["method"])
    named = f"<em>naive:</em> {name}" if row["naive"] else f"<strong>{name}</strong>"
    sides = [_share(row[side]) for side in ("miss_low", "miss_high")]
    cells = [
        _share(row["coverage"]),
        ", ".join(sides) if any(sides) else "",
        _share(row["false_positive"]),
        _share(row["power"]),
    ]
    if row["refused"] == 1:
        return f'<tr><td>{named}</td><td colspan="{len(cells)}">refuses, every time</td></tr>'
    if row["refused"]:
        named += f" (refuses {_share(row['refused'])})"
    return f"<tr><td>{named}</td>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _share(value: float | None) -> str:
    return "" if value is None else number(value, "share").replace(" ", "\N{NO-BREAK SPACE}")
