"""A document for people to read and sign: one content, written as Markdown and as a Word file."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from fairlift.format import number
from fairlift.kit.plan import KNOWN, PROFIT, Sized, Sizing
from fairlift.study.clock import stamp
from fairlift.study.folder import Study
from fairlift.study.plan import Plan, plan_hash, registrations

if TYPE_CHECKING:
    from docx.document import Document as Word

SIGNS = ("Product owner", "Data science", "Finance", "Compliance")
A4 = (7560000, 10692000)  # 210 × 297 mm, in the units of Word files
MEMBER_DATE = (1980, 1, 1, 0, 0, 0)  # a ZIP member without a date of its own


@dataclass(frozen=True)
class Heading:
    """The title of a part of the document."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """A few sentences."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """Short lines that belong together."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """A table: the names of its columns, and its rows."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Part = Heading | Paragraph | Bullets | Grid


@dataclass(frozen=True)
class Document:
    """A document: its title, who it is from, when it was made (by the study's clock), and its parts in order."""

    title: str
    author: str
    at: datetime
    parts: tuple[Part, ...]


def markdown(document: Document) -> str:
    """The document as Markdown.

    >>> from fairlift.study.clock import moment
    >>> page = Document("A plan", "Shop", moment("2026-03-01"), (Heading("Arms"), Grid(("arm", "n"), (("new", "10"),))))
    >>> print(markdown(page))
    # A plan
    <BLANKLINE>
    Shop, 2026-03-01
    <BLANKLINE>
    ## Arms
    <BLANKLINE>
    | arm | n |
    |---|---|
    | new | 10 |
    <BLANKLINE>
    """
    blocks = [f"# {_plain(document.title)}", f"{_plain(document.author)}, {document.at.date()}"]
    for part in document.parts:
        match part:
            case Heading(text):
                blocks.append(f"## {_plain(text)}")
            case Paragraph(text):
                blocks.append(_plain(text))
            case Bullets(lines):
                blocks.append("\n".join(f"- {_plain(line)}" for line in lines))
            case Grid(head, rows):
                lines = [head, ("---",) * len(head), *rows]
                blocks.append("\n".join(_row(line) for line in lines))
    return "\n\n".join(blocks) + "\n"


def word(document: Document) -> bytes:
    """The document as a Word file (.docx) with real headings and tables; the same document gives the same bytes."""
    from docx import Document as empty

    made = empty()
    _properties(made, document)
    made.sections[0].page_width, made.sections[0].page_height = A4
    made.add_heading(document.title, level=0)
    made.add_paragraph(f"{document.author}, {document.at.date()}")
    for part in document.parts:
        match part:
            case Heading(text):
                made.add_heading(text, level=1)
            case Paragraph(text):
                made.add_paragraph(text)
            case Bullets(lines):
                for line in lines:
                    made.add_paragraph(line, style="List Bullet")
            case Grid():
                _table(made, part)
    draft = io.BytesIO()
    made.save(draft)
    return _undated(draft.getvalue())


def write_document(document: Document, folder: Path, name: str) -> list[Path]:
    """Write NAME.md and NAME.docx into `folder`, each whole or not at all; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for ending, content in (("md", markdown(document).encode()), ("docx", word(document))):
        path = folder / f"{name}.{ending}"
        draft = path.with_name(path.name + ".part")
        draft.write_bytes(content)
        os.replace(draft, path)
        paths.append(path)
    return paths


def plan_document(study: Study, sizing: Sizing | None, missing: str = "") -> Document:
    """A study's plan for people to read and sign: what is decided beforehand, how large, how long, at what cost.

    Without a `sizing` the document says what is `missing`; everything else stands.
    """
    plan, settings = study.plan, study.settings
    parts: list[Part] = [
        Heading("What is expected"),
        Paragraph(plan.hypothesis),
        Heading("What decides"),
        _gates(study),
        *_kpis(plan),
        Heading("Arms"),
        _arms(plan, sizing),
        *([Bullets(drawing)] if (drawing := _drawing(study)) else []),
        Heading("Size and power"),
        *(_sizes(sizing) if sizing else [Paragraph(f"Not computed. {missing}".strip())]),
        Heading("How long"),
        _dates(study, sizing),
    ]
    if sizing and sizing.costs():
        parts += [Heading("What the test costs"), Bullets(tuple(sizing.costs()))]
    parts += [
        Heading("Looks, stopping and decision"),
        Grid(
            ("rule", "as planned"),
            (
                ("looks at the outcomes", plan.reading()),
                ("stopping", plan.stopping_rule),
                ("decision", plan.decision_rule),
                ("level", f"{number(1 - plan.alpha, 'share')} intervals, two-sided"),
                ("power", f"{number(plan.power, 'share')} for all gates together"),
            ),
        ),
        Heading("Registration"),
        Paragraph(_registration(study)),
        Heading("Signatures"),
        Grid(("function", "name", "date", "signature"), tuple((who, "", "", "") for who in SIGNS)),
    ]
    if sizing:
        parts += [Heading("How the sizes were computed"), Bullets(_assumptions(sizing))]
    return Document(f"Plan of the experiment {plan.experiment}", settings.retailer, settings.clock(), tuple(parts))


def _gates(study: Study) -> Grid:
    plan, currency = study.plan, study.settings.currency

    def pair(name: str) -> str:
        contrast = plan.contrasts[name]
        return f"{contrast.arm} against {contrast.versus}"

    def amount(metric: str, value: float) -> str:
        return number(value, KNOWN[metric].unit_of_difference, currency) if metric in KNOWN else f"{value:g}"

    primary = plan.primary
    asked = (
        f"above 0; sized for a gain of {amount(primary.metric, primary.mde)}"
        if primary.mde
        else "above 0; no smallest gain stated"
    )
    rows = [
        ("primary metric", _name(primary.metric), pair(primary.contrast), asked, ""),
        (
            "net profit",
            "Net profit per customer",
            pair(plan.profit_contrast),
            f"above {number(study.settings.hurdle, 'money', currency)}",
            "",
        ),
    ]
    for guard in plan.guardrails:
        within, limit = amount(guard.metric, guard.margin), amount(guard.metric, guard.limit)
        rows.append(("guardrail", _name(guard.metric), pair(guard.contrast), f"not worse by {within}", limit))
    head = ("gate", "metric", "comparison", "the whole interval must be", "hard limit")
    return Grid(head, tuple(rows))


def _kpis(plan: Plan) -> list[Part]:
    if not plan.kpis:
        return []
    return [
        Heading("KPIs followed"),
        Paragraph("These are read and shown beside the gates; they decide nothing."),
        Bullets(tuple(f"{_name(metric)} ({metric})" if _name(metric) != metric else metric for metric in plan.kpis)),
    ]


def _name(metric: str) -> str:
    return "Net profit per customer" if metric == PROFIT else KNOWN[metric].name if metric in KNOWN else metric


def _arms(plan: Plan, sizing: Sizing | None) -> Grid:
    total = sum(plan.weights.values())
    needed = sizing.needed.n if sizing and sizing.needed else {}
    rows = [
        (
            arm,
            number(weight / total, "share"),
            number(plan.planned_n[arm], "count") if arm in plan.planned_n else "",
            number(needed[arm], "count") if arm in needed else "not computed",
        )
        for arm, weight in plan.weights.items()
    ]
    return Grid(("arm", "share of customers", "planned", "needed"), tuple(rows))


def _drawing(study: Study) -> tuple[str, ...]:
    """How customers get into the arms, in sentences: the stages of a ramp, and the draw where the plan states it."""
    plan, how = study.plan, study.plan.assignment
    lines = []
    for stage in plan.stages:
        shares = ", ".join(f"{arm} {number(share, 'share')}" for arm, share in stage.shares().items())
        lines.append(f"From {stage.start}: {shares}.")
    if how is None:
        return tuple(lines)
    whole = {"household_id": "whole households", "store_id": "whole stores", None: "customers one by one"}
    within = f", evenly within {', '.join(how.strata)}" if how.strata else ""
    lines.append(f"A salted hash draws {whole[how.cluster]}{within}; anybody with the salt can draw again and compare.")
    if how.holdout:
        lines.append(
            f"{number(how.holdout.share, 'share')} of all customers are held out first, by a salt that stays the same in other "
            "experiments."
        )
    for name, share in how.factors.items():
        lines.append(f"The channel {name} is on for {number(share, 'share')} of whoever is not held out.")
    return tuple(lines)


def _sizes(sizing: Sizing) -> list[Part]:
    currency = sizing.currency
    parts: list[Part] = []
    if sizing.gates:
        head = ("gate", "now", "to show", "needed alone", "power alone, as planned")
        parts.append(Grid(head, tuple(_size_row(one, currency) for one in sizing.gates)))
    said = []
    if sizing.planned is not None:
        joint = sizing.planned
        said.append(
            f"A launch needs every gate. At the planned sizes all pass together in {number(joint.power, 'share')} of cases, "
            f"were they independent in {number(joint.independent, 'share')}, and whatever their correlations in "
            f"{number(joint.least, 'share')} to {number(joint.most, 'share')}."
        )
    if sizing.needed is not None:
        more = f" {sizing.needed.drives} needs most."
        if sizing.needed.buyers:
            more += (
                f" The arm {sizing.needed.buyers} is set by the number of buyers without which spend cannot be read."
            )
        verdict = "The plan is large enough." if sizing.ratio >= 1 else "The plan is too small."
        said.append(
            f"For {number(sizing.power, 'share')} together {number(sizing.needed.total, 'count')} customers are needed.{more} {verdict}"
        )
    said += [sizing.refusal] if sizing.refusal else []
    said += [f"Left out of these figures: {name} ({why})." for name, why in sizing.out.items()]
    return [*parts, Bullets((*said, *sizing.reachable()))]


def _size_row(one: Sized, currency: str) -> tuple[str, ...]:
    effect = number(one.gate.effect, one.unit_of_effect, currency)
    return (
        f"{one.gate.name} ({one.role})",
        number(one.level, one.unit, currency) + one.note,
        f"within {effect}" if one.role == "guardrail" else effect,
        ", ".join(f"{arm} {number(n, 'count')}" for arm, n in one.n.items()),
        number(one.planned, "share"),
    )


def _dates(study: Study, sizing: Sizing | None) -> Bullets:
    settings, plan = study.settings, study.plan
    lines = [
        f"From {settings.period.start} to {settings.period.end}; each customer is followed for {settings.outcome_window_days} days.",
        f"The outcomes are read on {plan.ends_at}, and not before."
        if plan.validity == "end"
        else f"{plan.reading()} The end is {plan.ends_at}.",
    ]
    complete = settings.period.end + timedelta(days=settings.outcome_window_days)
    if plan.ends_at < complete:
        lines.append(
            f"Not everybody's {settings.outcome_window_days} days are over by then: the last are on {complete}."
        )
    return Bullets((*lines, *(sizing.time() if sizing else ())))


def _registration(study: Study) -> str:
    path = study.folder / "plan.yml"
    digest = plan_hash(path)
    entries = registrations(study.folder)
    present = next((entry for entry in entries if entry.plan_hash == digest), None)
    if present:
        return f"Registered on {present.at} under the hash {digest}."
    earlier = f" An earlier version was, on {entries[0].at}." if entries else ""
    return f"This version is not registered.{earlier} Its hash is {digest}; it changes with every change of plan.yml."


def _assumptions(sizing: Sizing) -> tuple[str, ...]:
    return (
        f"The spread of every metric and how they go together come from {sizing.past}, of {number(sizing.customers, 'count')} customers.",
        "Each gate passes if its two-sided interval lies wholly on the right side; the power of all together is that of jointly normal estimates.",
        "Contribution is taken to rise by the same part as the primary metric, and its spread with it; guardrails are taken not to change.",
        f"An arm below {number(sizing.smallest_arm, 'count')} customers would have too few buyers for its mean spend to be read.",
        *((sizing.looks,) if sizing.looks else ()),
        "The season of the past is not that of the test: read the sizes as orders of magnitude, and keep a reserve.",
    )


def _table(made: Word, grid: Grid) -> None:
    table = made.add_table(rows=1, cols=len(grid.head), style="Table Grid")
    for cell, text in zip(table.rows[0].cells, grid.head, strict=True):
        cell.paragraphs[0].add_run(text).bold = True
    _repeat_on_every_page(table.rows[0])
    for row in grid.rows:
        for cell, text in zip(table.add_row().cells, row, strict=True):
            cell.text = text
    made.add_paragraph()


def _repeat_on_every_page(row) -> None:
    from docx.oxml import OxmlElement

    row._tr.get_or_add_trPr().append(OxmlElement("w:tblHeader"))


def _properties(made: Word, document: Document) -> None:
    """What the file says of itself: the study's clock and the retailer, nothing of the machine or its user."""
    about, at = made.core_properties, document.at.astimezone(UTC).replace(microsecond=0, tzinfo=None)
    about.title, about.author, about.last_modified_by = document.title, document.author, document.author
    about.comments, about.keywords, about.language = "", "", "en-GB"
    about.created = about.modified = at
    about.identifier, about.revision = f"{document.title} {stamp(document.at)}", 1


def _undated(packed: bytes) -> bytes:
    """The same ZIP archive without the times at which its members were written."""
    draft = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(packed)) as old, zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            member = zipfile.ZipInfo(name, MEMBER_DATE)
            member.compress_type, member.create_system = zipfile.ZIP_DEFLATED, 3
            new.writestr(member, old.read(name))
    return draft.getvalue()


def _row(cells: Sequence[str]) -> str:
    if set(cells) == {"---"}:
        return "|" + "|".join(cells) + "|"
    return "| " + " | ".join(_plain(cell).replace("|", "\\|") for cell in cells) + " |"


def _plain(text: str) -> str:
    """Text on one line: what a person wrote must not become a heading or a table."""
    return " ".join(str(text).split())
