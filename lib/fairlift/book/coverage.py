"""What the book must answer and what it does not answer yet: read from data/requirements.yml, checked, and shown."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError

from fairlift.book.markup import anchor, code, page, plain, table
from fairlift.book.project import PARTS
from fairlift.errors import InputError, Problem
from fairlift.format import number
from fairlift.study.files import Model

SHOWS = ("page", "notebook", "lib", "template", "gate")
INTRO = (
    "This book says what it does not answer. A row is *answered* only when everything it promises exists and works: the build "
    "fails otherwise. Every other row is *planned*: nobody has answered it here, and you must not read a GO as if somebody had."
)


class Row(Model):
    """One question of the playbook; `links` holds one link or a list of links for every word in `shows`."""

    id: str
    part: str
    ask: str
    shows: Annotated[list[Literal["page", "notebook", "lib", "template", "gate"]], Field(min_length=1)]
    status: Literal["planned", "answered"] = "planned"
    links: dict[str, str | list[str]] = {}

    def linked(self, word: str) -> list[str]:
        found = self.links.get(word, [])
        return [found] if isinstance(found, str) else found


@dataclass(frozen=True)
class Project:
    """What links may lead to: the checkout, and the ids of checklist items that the gate walks."""

    root: Path
    items: frozenset[str]

    def resolves(self, word: str, link: str) -> bool:
        """Whether a link leads to something: a file, a function or module of the library, a checklist item."""
        if word == "gate":
            return link in self.items
        if word == "lib":
            return _importable(link)
        return (self.root / link).is_file()


def read_requirements(path: Path) -> list[Row]:
    """The rows of a requirements file; refuses it with every problem at once."""
    try:
        listed = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError:
        raise InputError(Problem(path.name, "not YAML", "check indentation, colons and quotes")) from None
    rows, problems = [], []
    for found in listed:
        try:
            rows.append(Row.model_validate(found))
        except ValidationError as error:
            for fault in error.errors():
                place = f"`{found.get('id', '?')}`: {'.'.join(map(str, fault['loc']))}"
                problems.append(Problem(path.name, f"{place}: {fault['msg']}", "correct the row"))
    problems += [
        Problem(path.name, f"`{row.id}`: unknown part {row.part}", f"known: {', '.join(PARTS)}")
        for row in rows
        if row.part not in (*PARTS, "kit", "watch")
    ]
    if problems:
        raise InputError(problems)
    return rows


def gaps(rows: Sequence[Row], project: Project) -> list[Problem]:
    """What keeps answered rows from being answered: a link that is missing or leads nowhere."""
    problems = []
    for row in rows:
        if row.status == "answered":
            lacking = [word for word in row.shows if not row.linked(word)]
            problems += [
                Problem(
                    "requirements.yml",
                    f"`{row.id}` is answered but links no {word}",
                    "add the link, or call it planned",
                )
                for word in lacking
            ]
        for word in row.links:
            problems += [
                Problem(
                    "requirements.yml", f"`{row.id}` links the {word} {link}, which is not there", "correct the link"
                )
                for link in row.linked(word)
                if not project.resolves(word, link)
            ]
    return problems


def coverage_page(rows: Sequence[Row]) -> str:
    """Every question with its status and where it is answered, by part; lies in chapters/."""
    answered = sum(row.status == "answered" for row in rows)
    count = f"Answered: {number(answered, 'count')} of {number(len(rows), 'count')} questions."
    blocks = []
    for part in dict.fromkeys(row.part for row in rows):
        blocks.append(f"## {part.capitalize()}")
        lines = [[plain(row.ask), row.status, _shown(row)] for row in rows if row.part == part]
        blocks.append(table(["Question", "Status", "Where"], lines))
    return page("What this book answers, and what not yet", INTRO, count, *blocks)


def questions(rows: Sequence[Row], part: str) -> str:
    """The questions of one part as a list, for its landing page in chapters/PART/."""
    lines = []
    for row in rows:
        if row.part == part:
            where = _shown(row, up="../")
            lines.append(
                f"- {plain(row.ask)} " + (f"**Answered:** {where}" if row.status == "answered" else "*Planned.*")
            )
    return "\n".join(lines)


def _shown(row: Row, up: str = "") -> str:
    """Links of a row as Markdown for a page in chapters/, or deeper by `up`."""
    shown = []
    for word in row.shows:
        for link in row.linked(word):
            if word == "lib":
                shown.append(code(link))
            elif word == "gate":
                shown.append(f"[{plain(link)}](#{anchor(link)})")
            else:
                target = link.removeprefix("chapters/") if link.startswith("chapters/") else f"../{link}"
                shown.append(f"[{word}]({up}{target})")
    return ", ".join(shown)


def _importable(name: str) -> bool:
    """Whether fairlift.PART.MODULE[.FUNCTION] is there."""
    module, _, last = name.rpartition(".")
    for path, attribute in ((name, None), (module, last)):
        try:
            found = importlib.import_module(path)
        except (ImportError, ValueError):
            continue
        return attribute is None or hasattr(found, attribute)
    return False
