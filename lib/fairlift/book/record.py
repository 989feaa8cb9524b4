"""The decision as pages of a book: a badge, the reasons, page one without statistics, and the annex behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from fairlift.book.markup import anchor, badge, breakable, code, page, plain, table
from fairlift.errors import InputError, Problem
from fairlift.launch import PageOne
from fairlift.launch.page import Section, because

NO_REASON = "Nothing stands in the way."


def read_decision(out: Path) -> dict:
    """The decision record of a study, from STUDY/out/decision.json."""
    try:
        return json.loads((out / "decision.json").read_text(encoding="utf-8"))["record"]
    except FileNotFoundError:
        study = out.parent.name
        raise InputError(Problem(study, "nothing was decided in it", f"run `fairlift decide {study}`")) from None
    except (ValueError, KeyError, TypeError):
        raise InputError(Problem("decision.json", "not a decision record", "decide again")) from None


def badge_line(record: Mapping) -> str:
    """The decision as one line: the badge, and for a no the kind of it."""
    harms = [item["item"] for item in record.get("items", ()) if item["stops"] and item.get("kind") == "harm"]
    kind = because(record.get("kind", ""), harms)
    return '<p class="fl-decision">' + badge(record["decision"]) + (f" {kind}" if kind else "") + "</p>"


def reasons(record: Mapping) -> str:
    """What stands in the way, one line each: what, and whose task to do what."""
    lines = []
    for item in record["items"]:
        if item["stops"]:
            owner = f" *{plain(item['owner'])}:* {plain(item['to_do'])}" if item.get("to_do") else ""
            lines.append(f"- {plain(item['plain'] or item['title'])}{owner}")
    return "\n".join(lines) or NO_REASON


def annex(record: Mapping) -> str:
    """Every item walked, with its state and the technical reason."""
    rows = [
        [
            f"[{plain(i['title'])}](#{anchor(i['item'])})",
            i["severity"],
            i["state"].replace("_", " "),
            breakable(i["technical"]),
        ]
        for i in record["items"]
    ]
    return table(["Item", "Weight", "State", "Why"], rows)


def page_one_markdown(first: PageOne) -> str:
    """Page one of the decision: the effect apart from what stands in the way, whose it is, by when; and the signatures."""
    gaps = [[plain(gap.what), plain(gap.to_do), plain(gap.owner), plain(gap.due)] for gap in first.gaps]
    signed = [[plain(function), plain(state)] for function, state in first.signed]
    blocks = [_section(first.effect)]
    blocks += [
        "## What stands in the way",
        table(["What", "What to do", "Whose", "By when"], gaps) if gaps else NO_REASON,
    ]
    blocks += [_section(part) for part in (first.conditions, first.next_decision, first.holdout, first.notes)]
    blocks += ["## Signatures", table(["Function", "Signed"], signed) if signed else ""]
    blocks += ["\n\n".join(map(plain, first.footer))]
    return "\n\n".join(filter(None, blocks))


def record_page(record: Mapping, first: PageOne, title: str = "The decision") -> str:
    """The decision page: page one for whoever signs, then every item and the hashes of what was read."""
    hashes = [[plain(name), code(str(digest)[:12])] for name, digest in record.get("hashes", {}).items()]
    return page(
        title,
        badge_line(record),
        page_one_markdown(first),
        "## Annex: every item",
        annex(record),
        "## Annex: what was read",
        table(["What", "Hash"], hashes) if hashes else "",
    )


def _section(section: Section) -> str:
    if not section.lines:
        return ""
    lines = [plain(line.removeprefix("- ")) for line in section.lines]
    return f"## {plain(section.title)}\n\n" + "\n\n".join(lines)
