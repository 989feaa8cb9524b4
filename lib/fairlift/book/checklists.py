"""The checklist as a page: every item, what it asks, why, whose it is and what counts as proof."""

from __future__ import annotations

from fairlift.book.markup import anchor, code, page, plain, table
from fairlift.checklist import Catalogue, Item
from fairlift.format import number

INTRO = (
    "The gate walks these items one by one. A *blocker* must pass and cannot be waived; a *major* must pass, or be settled under a "
    "condition; a *minor* is a note. Law is stated as of the date beside it and is no legal advice."
)
PLANNED = "The items below are planned: they are shown and counted, but the gate cannot assess them yet."


def checklist_page(catalogue: Catalogue) -> str:
    """Every item of the catalogue: those the gate walks in full, the planned ones as a table."""
    version = (
        f"Version {catalogue.version} of {catalogue.as_of}: {number(len(catalogue.assessed), 'count')} items assessed, "
        f"{number(len(catalogue.planned), 'count')} planned."
    )
    blocks = [INTRO, version]
    for part in dict.fromkeys(item.id.split(".")[0] for item in catalogue.assessed):
        blocks.append(f"## {part.capitalize()}")
        blocks += [_item(item) for item in catalogue.assessed if item.id.startswith(f"{part}.")]
    rows = [[plain(i.title), i.severity, plain(i.question), plain(i.owner_role)] for i in catalogue.planned]
    blocks += ["## Planned", PLANNED, table(["Item", "Weight", "Question", "Owner"], rows)]
    return page("The launch checklist", *blocks)


def _item(item: Item) -> str:
    rows = [
        ["Weight", item.severity + (", waivable" if item.waivable else "")],
        ["Owner, approver", plain(f"{item.owner_role}, {item.approver_role}")],
        ["Applies", _applies(item)],
        ["Judged by", _judged(item)],
        ["Proof wanted", plain(item.evidence_wanted)],
        ["If it fails", plain(item.to_do)],
        ["Why it stands here", plain(item.why)],
        [
            "Law",
            "; ".join(
                plain(f"{law.market or 'all'}: {law.cite} ({law.as_of}, {law.confidence})") for law in item.legal
            ),
        ],
    ]
    return "\n\n".join(
        [
            f"({anchor(item.id)})=\n### {plain(item.title)}",
            f"{code(item.id)}: {plain(item.question)}",
            table(["", ""], [row for row in rows if row[1]]),
        ]
    )


def _applies(item: Item) -> str:
    where = ", ".join(item.applies.markets) or "every market"
    return where + (f", unless study.yml says `{item.applies.when}: false`" if item.applies.when else "")


def _judged(item: Item) -> str:
    rule = item.verification
    if not rule.measured:
        return "a person who vouches for it"
    source = f" in notebook {code(rule.notebook)}" if rule.notebook else ""
    return f"rule {code(rule.rule)}" + (f" on {code(rule.evidence)}" if rule.evidence else "") + source
