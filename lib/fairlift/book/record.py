"""The decision as pages of a book: a badge, the reasons, page one without statistics, and the annex behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from fairlift.book.markup import anchor, badge, code, page, plain, table
from fairlift.errors import InputError, Problem
from fairlift.format import number

KINDS = {
    "harm": "something bad was shown",
    "missing": "proof is missing",
    "not_shown": "the evidence is not strong enough yet",
}
NO_REASON = "Nothing stands in the way."


def read_decision(out: Path) -> dict:
    """The decision record of a study, STUDY/out/decision.json."""
    try:
        return json.loads((out / "decision.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        study = out.parent.name
        raise InputError(Problem(study, "nothing was decided in it", f"run `fairlift decide {study}`")) from None
    except ValueError:
        raise InputError(Problem("decision.json", "not a decision record", "decide again")) from None


def badge_line(record: Mapping) -> str:
    """The decision as one line: the badge, and for a no the kind of it."""
    kind = KINDS.get(record.get("kind", ""))
    return '<p class="fl-decision">' + badge(record["decision"]) + (f" {kind}" if kind else "") + "</p>"


def reasons(record: Mapping) -> str:
    """What stands in the way, one line each: what, and whose task to do what."""
    lines = []
    for item in record["items"]:
        if item["stops"]:
            owner = f" *{plain(item['owner'])}:* {plain(item['to_do'])}" if item.get("to_do") else ""
            lines.append(f"- {plain(item['plain'] or item['title'])}{owner}")
    return "\n".join(lines) or NO_REASON


def conditions(record: Mapping) -> str:
    """The conditions of a launch as a table; empty where there are none."""
    rows = [
        [plain(c["what"]), plain(c["owner"]), plain(c["due"]), number(c["ramp_cap"], "share"), plain(c["rollback"])]
        for c in record.get("conditions", [])
    ]
    return table(["Condition", "Owner", "Due", "Up to", "Go back when"], rows) if rows else ""


def annex(record: Mapping, checklist: str = "checklist.md") -> str:
    """Every item walked, with its state and the technical reason."""
    rows = [
        [
            f"[{plain(i['title'])}]({checklist}#{anchor(i['item'])})",
            i["severity"],
            i["state"].replace("_", " "),
            plain(i["technical"]),
        ]
        for i in record["items"]
    ]
    return table(["Item", "Weight", "State", "Why"], rows)


def record_page(record: Mapping, page_one: str, title: str = "The decision") -> str:
    """The decision page: page one for whoever signs, then all items and the hashes of what was read."""
    hashes = [[plain(name), code(str(digest)[:12])] for name, digest in record.get("hashes", {}).items()]
    total = f"Checklist {record['catalogue_version']} with {number(record['catalogue_size'], 'count')} items, "
    total += f"{number(record['planned'], 'count')} of them planned and not walked. Decided {record['at']}."
    return page(
        title,
        badge_line(record),
        page_one,
        conditions(record),
        "## Annex: every item",
        annex(record),
        total,
        "## Annex: what was read",
        table(["What", "Hash"], hashes) if hashes else "",
    )
