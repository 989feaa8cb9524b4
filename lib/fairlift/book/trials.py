"""How often the launch gate is wrong, from its trials on scenarios whose right decision is known."""

from __future__ import annotations

import json
from pathlib import Path

from fairlift.book.markup import code, page, plain, table
from fairlift.format import interval, number
from fairlift.method import clopper_pearson
from fairlift.simulate import read_scenario

INTRO = (
    "Each scenario is a retailer whose truth is known. It is drawn again and again; each draw goes through the evidence and the "
    "gate of this book. A wrong GO is a GO, with or without conditions, where the truth is NO-GO; in a scenario that should go, a "
    "NO-GO is wrong. The interval is exact (Clopper and Pearson 1934) and says what the number of draws leaves open."
)


def trials_page(results: Path) -> str:
    """The page of the trials recorded in benchmarks/results/decisions.json."""
    found = json.loads(results.read_text(encoding="utf-8"))
    rows, told = [], []
    for row in found["rows"]:
        low, high = clopper_pearson(row["wrong"], row["seeds"])
        said = [number(row[word], "count") for word in ("go", "conditions", "no_go", "wrong")]
        told.append(f"- {code(row['scenario'])}: {plain(read_scenario(row['scenario']).sentence)}")
        truth = row["truth"].replace("_", "-").upper()
        rows.append([code(row["scenario"]), truth, *said, interval(low, high, "share")])
    head = ["Scenario", "Right", "GO", "With conditions", "NO-GO", "Wrong", "Wrong share"]
    return page(
        "How often the gate is wrong",
        INTRO,
        table(head, rows),
        "## What is true in each",
        "\n".join(told),
        f"Computed on {found['date']} with {code(found['command'])} ({plain(found['machine'])}).",
    )
