"""Make a study folder whose files explain themselves, with a proposal of how the reader's CSV files fit."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

from fairlift.errors import InputError, Problem
from fairlift.study.clock import now
from fairlift.study.contract import contract
from fairlift.study.mapping import Proposal, propose, safe_categories
from fairlift.study.source import shown

IGNORED = "# what holds personal data, or is made from it\nout/\ntables/\nexports/\n"
HOLDOUT = re.compile(r"(?i)\b(holdout|hold-out|no|none|nothing|without|untreated)\b|^no[_ -]")
CONTROL = re.compile(r"(?i)\b(control|default|standard|bestsellers?|today|current|business[ _-]as[ _-]usual|bau|a)\b")
ARMS = {"personalised": ["personalised"], "control": ["control"], "holdout": ["holdout"]}


def new(folder: Path, from_csv: Sequence[Path] = ()) -> list[str]:
    """Write study.yml, plan.yml, answers.yml, README.md and .gitignore into a new folder; returns lines to show.

    With CSV files, study.yml gets a query for each table they are taken for.  Nothing that exists is overwritten.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "it is not empty" if folder.is_dir() else "it is a file"
        raise InputError(Problem(folder.name, what, "name a folder that is not there yet; nothing is ever overwritten"))
    proposals, unlike = _proposals([Path(path) for path in from_csv])
    name = folder.resolve().name
    mapped = {one.table: one for one in proposals}
    arms, experiment = _arms(mapped.get("assignments")), _experiment(mapped.get("assignments")) or name
    today = now().date()
    end = today + timedelta(days=27)
    zoneless = any(one.zoneless for one in proposals)
    arm, versus, *_ = [*_names(arms, "personalised"), *_names(arms, "holdout"), *_names(arms, "control")]
    named = [one for kind in arms for one in _names(arms, kind)]
    values = {
        "folder": _quoted(name),
        "retailer": _quoted(name),
        "experiment": _quoted(experiment),
        "arms": "".join(f"\n  {kind}: {json.dumps(variants, ensure_ascii=False)}" for kind, variants in arms.items()),
        "start": today,
        "end": end,
        "times_without_zone": "times_without_zone: UTC                  # check this"
        if zoneless
        else "# times_without_zone: Europe/Berlin",
        "tables": _queries(proposals, folder, experiment),
        "arm": json.dumps(arm),
        "versus": json.dumps(next(iter([*_names(arms, "holdout"), *_names(arms, "control")]), versus)),
        "weights": ", ".join(f"{json.dumps(one)}: {1 / len(named):.4g}" for one in named),
        "planned_n": ", ".join(f"{json.dumps(one)}: 10000" for one in named),
        "ends_at": end + timedelta(days=28),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tables").mkdir()
    for file in ("study.yml", "plan.yml", "answers.yml", "README.md"):
        text = files("fairlift.study").joinpath("templates", file).read_text(encoding="utf-8")
        text = text.format_map(values) if file != "answers.yml" else text
        (folder / file).write_text(text, encoding="utf-8")
    (folder / ".gitignore").write_text(IGNORED, encoding="utf-8")
    lines = [f"Made {folder.as_posix()}/ with study.yml, plan.yml, answers.yml and README.md."]
    lines += [line for one in proposals for line in _told(one)]
    lines += [f"{path.name}: no table of the contract resembles it; map it by hand or leave it out." for path in unlike]
    if unlike:
        lines.append(
            "  One file with a whole test, a row a customer, becomes four tables in examples/hillstrom/study.yml."
        )
    absent = (
        [table.name for table in contract().values() if table.required and table.name not in mapped]
        if proposals
        else []
    )
    lines += [f"Still needed: {', '.join(absent)}."] if absent else []
    if "assignments" in absent:
        lines += [line for one in proposals for line in _flag(one)]
    typed = folder.as_posix() if " " not in str(folder) else f'"{folder.as_posix()}"'
    return [*lines, f"Next: fill in study.yml, then fairlift check {typed}"]


def _proposals(paths: Sequence[Path]) -> tuple[list[Proposal], list[Path]]:
    """One proposal a table, and the files that resemble none; every file that cannot be read at once."""
    problems: list[Problem] = []
    found: dict[str, Proposal] = {}
    unlike: list[Path] = []
    for path in paths:
        if not path.is_file():
            what = "it is a folder" if path.is_dir() else "there is no such file"
            way = "list its files" if path.is_dir() else "check the path"
            problems.append(Problem(path.name, what, way, file=path.name))
            continue
        try:
            one = propose(path)
        except InputError as error:
            problems += error.problems
            continue
        if one is None:
            unlike.append(path)
        elif one.table in found:
            what = f"it looks like {one.table}, as does {found[one.table].path.name}"
            way = "give one of them to --from, and join the other in its query in study.yml by hand"
            problems.append(Problem(path.name, what, way, file=path.name))
        else:
            found[one.table] = one
    if problems:
        raise InputError(problems)
    return list(found.values()), unlike


def _queries(proposals: Sequence[Proposal], folder: Path, experiment: str) -> str:
    if not proposals:
        return "# tables:\n#   orders: SELECT receipt AS order_id, cust AS customer_id, … FROM read_csv('exports/sales_*.csv', all_varchar = true)"
    lines = ["tables:"]
    for one in proposals:
        sql = one.sql(_beside(one.path, folder), experiment.replace("'", "''"))
        lines += [f"  {one.table}: |", *(f"    {line}" for line in sql.splitlines())]
    return "\n".join(lines)


def _beside(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive
        return path.resolve().as_posix()


def _arms(assignments: Proposal | None) -> dict[str, list[str]]:
    """The variants found, each in the arm its name suggests; the template's where there are none to show."""
    match = assignments.match("variant") if assignments else None
    variants = safe_categories(match.seen) if match else []
    arms: dict[str, list[str]] = {"personalised": [], "control": [], "holdout": []}
    for variant in variants:
        kind = "holdout" if HOLDOUT.search(variant) else "control" if CONTROL.search(variant) else "personalised"
        arms[kind].append(variant)
    fits = arms["personalised"] and (arms["control"] or arms["holdout"])
    return {kind: named for kind, named in arms.items() if named} if fits else ARMS


def _experiment(assignments: Proposal | None) -> str | None:
    match = assignments.match("experiment") if assignments else None
    names = safe_categories(match.seen) if match else []
    return names[0] if len(names) == 1 else None


def _names(arms: Mapping[str, Sequence[str]], kind: str) -> list[str]:
    """The names of the arms of one kind, as settings give them: ARM, or ARM/VARIANT where there are several."""
    variants = arms.get(kind, [])
    return [kind] if len(variants) == 1 else [f"{kind}/{variant}" for variant in variants]


def _told(one: Proposal) -> list[str]:
    """What the reader should look at; names of columns only, never values."""
    pairs = [
        f"{match.column} ← {shown(match.seen.name)}{'' if match.sure else ' (check this)'}" for match in one.matches
    ]
    lines = [f"{one.path.name} is taken for {one.table}: {', '.join(pairs)}."]
    lacking = [name for name in one.missing if name != "experiment"]
    if lacking:
        lines.append(f"  nothing fits {', '.join(lacking)}: write it into the query.")
    if one.left:
        few = ", ".join(map(shown, one.left[:10])) + (f" and {len(one.left) - 10} more" if len(one.left) > 10 else "")
        lines.append(f"  not mapped: {few}.")
    if one.zoneless:
        lines.append("  its times have no zone: `times_without_zone` in study.yml says which one they are in.")
    return lines


def _flag(one: Proposal) -> list[str]:
    """Where the variant may hide when no file is the assignments: a flag beside the customers."""
    return [
        f"  {shown(name)} in {one.path.name} may say who was in which arm: write a query for assignments over that file."
        for name in one.flags
    ]


def _quoted(text: str) -> str:
    """A text as YAML writes it, quoted only where it must be."""
    return (
        text
        if re.fullmatch(r"[A-Za-z][\w -]*", text) and text.lower() not in ("yes", "no", "true", "false", "null")
        else json.dumps(text, ensure_ascii=False)
    )
