"""The launch checklist as data: what must hold before a launch, why, who shows it, and how it is judged."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, StringConstraints, field_validator, model_validator

import fairlift
from fairlift.errors import InputError, Problem
from fairlift.study.files import Model, read_model
from fairlift.study.settings import CONTEXT, Share

DATA = Path(fairlift.__file__).parents[2] / "data"

SEVERITIES = ("blocker", "major", "minor")
MARKETS = ("EU", "UK", "US", "RU", "BR", "CN", "KZ")
BENEFIT = ("registered", "primary", "profit")

Day = Annotated[str, StringConstraints(strict=True, pattern=r"^\d{4}-\d{2}-\d{2}$")]
# a folded YAML text is one line to its reader
Text = Annotated[str, StringConstraints(strict=True, strip_whitespace=True, min_length=1)]


class Applies(Model):
    """Where an item applies: every market and context by default; `when` names a context flag that, if false, lifts it."""

    markets: list[str] = []
    when: str | None = None

    @field_validator("when")
    @classmethod
    def known_flag(cls, value: str | None) -> str | None:
        if value is not None and value not in CONTEXT:
            raise ValueError(f"unknown context flag {value}; known: {', '.join(CONTEXT)}")
        return value

    @field_validator("markets")
    @classmethod
    def known_markets(cls, value: list[str]) -> list[str]:
        unknown = [market for market in value if not _known(market)]
        if unknown:
            raise ValueError(
                f"unknown market {', '.join(unknown)}; known: {', '.join(MARKETS)} and their parts, such as US-CA"
            )
        return value

    def holds(self, markets: Sequence[str], context: Mapping[str, bool]) -> bool:
        """Whether the item applies; what is unknown applies.

        >>> Applies(when="vendors").holds(["EU"], {}), Applies(when="vendors").holds(["EU"], {"vendors": False})
        (True, False)
        >>> Applies(markets=["US-CA"]).holds(["EU"], {}), Applies(markets=["US-CA"]).holds(["Atlantis"], {})
        (False, True)
        """
        if self.when is not None and context.get(self.when) is False:
            return False
        return not self.markets or any(
            not _known(there) or any(_meet(here, there) for here in self.markets) for there in markets
        )


def _known(market: str) -> bool:
    return market.split("-")[0] in MARKETS


def _meet(here: str, there: str) -> bool:
    """Whether two markets overlap: equal, or one a part of the other."""
    return here == there or here.startswith(there + "-") or there.startswith(here + "-")


class Legal(Model):
    """One legal source of an item, as of a date, with how sure the citation is."""

    cite: Text
    as_of: Day
    confidence: Literal["verified", "known", "verify"]
    market: str | None = None


class Verification(Model):
    """How an assessed item is judged.

    rule: attested (a person vouches) · registered (the plan's standing) · primary and profit (the benefit) · guardrail
    (one metric at the plan's margin, else `threshold`) · guardrails (every other guardrail of the plan) · threshold (one
    metric against `threshold`) · segments (every group's row) · test (p against `threshold`, the smallest detectable
    deviation against `hard_limit`).  `notebook` is the one that leaves the evidence.
    """

    rule: Literal[
        "attested", "registered", "primary", "profit", "guardrail", "guardrails", "threshold", "segments", "test"
    ]
    evidence: str | None = None
    notebook: str | None = None
    better: Literal["up", "down"] | None = None
    threshold: float | None = None
    hard_limit: float | None = None
    min_n: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def short_form(cls, value: object) -> object:
        return {"rule": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def complete(self) -> Verification:
        wanted = {
            "profit": ("evidence", "threshold", "better"),
            "guardrail": ("evidence", "threshold", "better"),
            "threshold": ("evidence", "threshold", "better"),
            "segments": ("evidence", "threshold", "better", "min_n"),
            "test": ("evidence", "threshold", "hard_limit"),
        }
        lacking = [name for name in wanted.get(self.rule, ()) if getattr(self, name) is None]
        if lacking:
            raise ValueError(f"the rule {self.rule} needs {', '.join(lacking)}")
        return self

    @property
    def measured(self) -> bool:
        return self.rule != "attested"


class Item(Model):
    """One item of the checklist.

    `if_fails` and `to_do` are sentences for page one of the decision: no word of statistics.  `ramp_cap` is the largest
    share of customers a launch may reach while the item is only conditionally settled.
    """

    id: Annotated[str, StringConstraints(pattern=r"^[a-z]+\.[a-z_]+\.[a-z_]+$")]
    title: Text
    question: Text
    owner_role: Text
    severity: Literal["blocker", "major", "minor"]
    requirements: list[str] = Field(min_length=1)
    status: Literal["assessed", "planned"]
    version: Annotated[int, Field(ge=1)] = 1
    why: Annotated[str, StringConstraints(strip_whitespace=True)] = ""
    evidence_wanted: str = ""
    if_fails: str = ""
    to_do: str = ""
    approver_role: str = ""
    waivable: bool = False
    ramp_cap: Share = 0.25
    applies: Applies = Applies()
    legal: list[Legal] = []
    verification: Verification | None = None

    @model_validator(mode="after")
    def consistent(self) -> Item:
        if self.severity == "blocker" and self.waivable:
            raise ValueError("a blocker is never waivable")
        if self.status == "assessed":
            wanted = ("why", "evidence_wanted", "if_fails", "to_do", "approver_role", "verification")
            lacking = [name for name in wanted if not getattr(self, name)]
            if lacking:
                raise ValueError(f"an assessed item needs {', '.join(lacking)}")
            if self.verification.rule in BENEFIT and (self.severity != "blocker" or self.applies != Applies()):
                raise ValueError(f"the rule {self.verification.rule} stands on a blocker that applies everywhere")
            if self.verification.rule == "segments" and self.severity == "blocker":
                raise ValueError("a blocker judged by group could never pass where a group is small; make it major")
        return self


@dataclass(frozen=True)
class Catalogue:
    """The checklist: items by id, the version that was written on it, and the hash of its files."""

    items: Mapping[str, Item]
    version: str
    as_of: str
    hash: str

    @property
    def size(self) -> int:
        return len(self.items)

    @cached_property
    def assessed(self) -> tuple[Item, ...]:
        """What the gate walks, in the order of the files."""
        return tuple(item for item in self.items.values() if item.status == "assessed")

    @cached_property
    def planned(self) -> tuple[Item, ...]:
        """What is shown and counted, not walked."""
        return tuple(item for item in self.items.values() if item.status == "planned")


class _Head(Model):
    version: Annotated[str, StringConstraints(strict=True)]
    as_of: Day


class _Part(Model):
    items: list[Item] = Field(min_length=1)


def catalogue(folder: Path = DATA / "checklists") -> Catalogue:
    """The checklist in a folder: catalogue.yml and one file a part; refuses it with every problem at once.

    Raises InputError for a file that cannot be read, an item that is incomplete, an id that stands twice, or a benefit
    rule that no item holds.

    >>> book = catalogue()
    >>> book.items["law.dpia.signed"].severity
    'blocker'
    """
    problems: list[Problem] = []
    items: dict[str, Item] = {}
    head = None
    digest = hashlib.sha256()
    try:
        head = read_model(folder / "catalogue.yml", _Head)
    except InputError as error:
        problems += error.problems
    for path in sorted(folder.glob("*.yml")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        if path.name == "catalogue.yml":
            continue
        try:
            part = read_model(path, _Part)
        except InputError as error:
            problems += error.problems
            continue
        for item in part.items:
            if item.id in items:
                problems.append(Problem(path.name, f"`{item.id}` stands twice", "give each item its own id"))
            items[item.id] = item
    if not problems:
        problems += _gaps(items)
    if problems:
        raise InputError(problems)
    return Catalogue(items, head.version, head.as_of, digest.hexdigest())


def requirements(path: Path = DATA / "requirements.yml") -> list[dict]:
    """What the playbook must answer: rows of id, part, ask, shows, status and links."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _gaps(items: Mapping[str, Item]) -> list[Problem]:
    problems = []
    for rule in BENEFIT:
        holders = [item.id for item in items.values() if item.status == "assessed" and item.verification.rule == rule]
        if len(holders) != 1:
            found = f"{len(holders)} items hold the rule `{rule}`"
            problems.append(Problem("checklists", found, "let exactly one assessed item hold it"))
    return problems
