"""Pages made from a run: its evidence, what was not assessed, rows set aside, notebooks, versions and times."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from fairlift.book.manifest import DONE, Manifest, require_manifest, sha
from fairlift.book.markup import badge, breakable, code, page, plain, table
from fairlift.errors import InputError, Problem
from fairlift.evidence import Evidence, from_json
from fairlift.format import number
from fairlift.study import Study, contract

NOTHING = "Nothing is missing: every notebook could be run."
SHOWN = ("pandas", "numpy", "scipy", "duckdb", "ibis-framework", "statsmodels", "jupyter-book", "papermill")


def counted(out: Path) -> list[Evidence]:
    """The evidence that the manifest vouches for; refuses a file that was changed since."""
    rows, problems = [], []
    for name, entry in require_manifest(out).by_status(DONE).items():
        if entry.evidence is None:
            continue
        path = out / "evidence" / entry.evidence
        if not path.exists() or sha(path) != entry.evidence_sha:
            problems.append(Problem(f"evidence of {name}", "it was changed or removed after the run", "run again"))
            continue
        rows += from_json(path.read_text(encoding="utf-8"), path.name)
    if problems:
        raise InputError(problems)
    return rows


def evidence_page(rows: Sequence[Evidence], currency: str) -> str:
    """Every result, by part: in a sentence, with its interval, threshold and verdict."""
    blocks = [
        "Every result of this run. *Registered* results come from a plan that stood before the outcomes; others are exploratory."
    ]
    for part in dict.fromkeys(row.id.split(".")[0] for row in rows):
        lines = []
        for row in (row for row in rows if row.id.split(".")[0] == part):
            unit = "p" if row.kind == "test" else row.unit
            threshold = "" if row.threshold is None else number(row.threshold, unit, currency)
            people = "" if row.n is None else number(row.n, "count")
            lines.append(
                [badge(row.verdict), plain(row.statement), people, threshold, row.status, breakable(row.label)]
            )
        head = ["Verdict", "In words", "Customers", "Threshold", "Status", "Result"]
        blocks += [f"## {part.capitalize()}", table(head, lines)]
    return page("Evidence", *blocks)


def missing_page(manifest: Manifest) -> str:
    """Each question that could not be assessed: what is missing and how to supply it; and what failed."""
    absent = manifest.by_status("not_assessed")
    lines = [[plain(entry.title), _names(entry.missing), _supply(entry.missing)] for entry in absent.values()]
    blocks = [table(["Question", "What is missing", "How to supply it"], lines) if lines else NOTHING]
    if manifest.failed:
        failed = [[plain(entry.title), code(name), plain(entry.reason)] for name, entry in manifest.failed.items()]
        blocks += [
            "## Failed",
            "These could be run but did not end well.",
            table(["Question", "Notebook", "Reason"], failed),
        ]
    return page("Not assessed", "What a study lacks is not assessed. It is never passed in silence.", *blocks)


def quality_page(study: Study) -> str:
    """What arrived and what was set aside, by table."""
    mart = study.mart
    arrived = [[code(name), number(rows, "count")] for name, rows in sorted(mart.get("source_rows", {}).items())]
    aside = [
        [code(row["table"]), plain(row["reason"]), number(row["rows"], "count")] for row in mart.get("set_aside", [])
    ]
    blocks = ["## Rows that arrived", table(["Table", "Rows"], arrived), "## Rows set aside"]
    blocks.append(table(["Table", "Why", "Rows"], aside) if aside else "No row was set aside.")
    if aside:
        blocks.append("The row numbers are filed in `out/set_aside.csv`.")
    if mart.get("warnings"):
        blocks += ["## Warnings", "\n".join(f"- {plain(text)}" for text in mart["warnings"])]
    return page("The data: what came, what was set aside", *blocks)


def notebooks_page(manifest: Manifest) -> str:
    """Every notebook that ran, by its question."""
    lines = [
        [f"[{plain(entry.title)}](../notebooks/{name}.ipynb)", code(name), number(entry.seconds, "seconds")]
        for name, entry in manifest.by_status(DONE).items()
    ]
    return page("All notebooks", "Each answers one question.", table(["Question", "Notebook", "Time"], lines))


def versions_page(manifest: Manifest) -> str:
    """With what, on what and how fast the results of this book were computed."""
    tools = [["Python", ".".join(map(str, sys.version_info[:3]))], ["fairlift", version("fairlift")]]
    tools += [[name, version(name)] for name in SHOWN]
    prints = [
        ["Library", manifest.code],
        ["Mart", manifest.mart[:12]],
        ["Lock", manifest.lock[:12]],
        ["Run", manifest.run],
    ]
    prints += [[name, digest[:12]] for name, digest in sorted(manifest.study.items())]
    times = [
        [code(name), number(entry.seconds, "seconds"), number(entry.warnings, "count")]
        for name, entry in manifest.by_status(DONE).items()
    ]
    total = sum(entry.seconds for entry in manifest.notebooks.values())
    return page(
        "Versions and run times",
        "## Tools",
        table(["Tool", "Version"], [[plain(name), code(text)] for name, text in tools]),
        "## Fingerprints",
        table(["What", "Hash"], [[plain(name), code(text)] for name, text in prints if text]),
        "## Run times",
        f"The notebooks took {number(total, 'seconds')} one by one, the start of their kernels and their imports included.",
        table(["Notebook", "Time", "Warnings"], times),
    )


def _names(needs: Sequence[Sequence[str]]) -> str:
    return "; ".join(" or ".join(map(code, need)) for need in needs)


def _supply(needs: Sequence[Sequence[str]]) -> str:
    sentences = (" or ".join(map(_how, need)) for need in needs)
    return " ".join(f"{text[0].upper()}{text[1:]}." for text in sentences)


def _how(name: str) -> str:
    if name.startswith("study.yml:"):
        return f"write {code(name.split(':')[1])} in study.yml"
    if name.endswith(".yml"):
        return f"write {code(name)}"
    table_name, _, column = name.partition(".")
    known = contract().get(table_name)
    if known is None:
        return f"bring {code(name)}"
    found = known.column(column) if column else None
    if known.required and found:  # the table is there for certain, only the column is not
        return f"add the column {code(column)} to the table {code(table_name)} ({_lower(found.sentence)})"
    with_column = f", with the column {code(column)}" if column else ""
    return f"bring the table {code(table_name)} ({_lower(known.sentence)}){with_column}"


def _lower(sentence: str) -> str:
    """A sentence as it stands in brackets."""
    text = plain(sentence.rstrip("."))
    return text[0].lower() + text[1:]
