"""plan.yml: what is decided before the outcomes are seen, and the register that proves when."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from fairlift.errors import InputError, Problem
from fairlift.format import number
from fairlift.study.clock import moment, stamp
from fairlift.study.contract import contract
from fairlift.study.files import Model

REGISTER = "registrations.jsonl"
HOLDOUT = "holdout"  # the arm of whoever is held out of everything


class Contrast(Model):
    """One comparison of two arms, named by what it is for."""

    arm: str
    versus: str

    @model_validator(mode="after")
    def two_arms(self) -> Contrast:
        if self.arm == self.versus:
            raise ValueError(f"it compares the arm {self.arm} with itself; name two arms")
        return self


class Primary(Model):
    """The one metric the benefit is judged by."""

    metric: str
    contrast: str
    mde: Annotated[float, Field(gt=0)] | None = None


class Guardrail(Model):
    """A metric that must not get worse by more than `margin` (in the metric's unit); `hard_limit` defaults to twice that.

    `rate` is the share of customers expected without the launch, where the past cannot tell: it is for sizing alone.
    """

    metric: str
    contrast: str
    margin: Annotated[float, Field(gt=0)]
    hard_limit: Annotated[float, Field(gt=0)] | None = None
    rate: Annotated[float, Field(gt=0, lt=1)] | None = None

    @property
    def limit(self) -> float:
        return self.hard_limit if self.hard_limit is not None else 2 * self.margin


class Stage(Model):
    """A stage of a ramp: from this local day on, customers are drawn into the arms with these weights."""

    start: date = Field(alias="from")
    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=2)

    def shares(self) -> dict[str, float]:
        """The weights as fractions of one."""
        total = sum(self.weights.values())
        return {arm: weight / total for arm, weight in self.weights.items()}


def _without_slash(value: str) -> str:
    if "/" in value:
        raise ValueError("it holds `/`, by which the parts of a draw are kept apart; write it without")
    return value


Word = Annotated[str, Field(min_length=1), AfterValidator(_without_slash)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class UniversalHoldout(Model):
    """Who is held out of every experiment and channel: a share of all customers (or households), by a salt of its own."""

    share: Fraction
    salt: Word
    cluster: Literal["household_id", "store_id"] | None = None


class Assignment(Model):
    """How customers are drawn into the arms: by a salted hash, within strata, by cluster, the universal holdout first.

    `namespace` is the experiment's name unless stated; `factors` switch channels on for a share of whoever is not held out.
    """

    salt: Word
    namespace: Word | None = None
    holdout: UniversalHoldout | None = None
    strata: list[str] = []
    cluster: Literal["household_id", "store_id"] | None = None
    factors: dict[Word, Fraction] = {}

    @field_validator("strata")
    @classmethod
    def known_strata(cls, value: list[str]) -> list[str]:
        columns = contract()["customers"].columns
        allowed = [name for name, column in columns.items() if column.type in ("category", "boolean")] + ["store_id"]
        unknown = sorted(set(value) - set(allowed))
        if unknown:
            raise ValueError(f"unknown column {', '.join(unknown)}; strata can be: {', '.join(allowed)}")
        return value


class Plan(Model):
    """The plan of an experiment, as plan.yml states it.

    `weights` are the shares in which customers are drawn into the arms; with `stages` (a ramp) those of the last stage.
    """

    experiment: str
    hypothesis: str
    primary: Primary
    contrasts: dict[str, Contrast] = Field(min_length=1)
    profit_contrast: str
    guardrails: list[Guardrail] = []
    kpis: list[str] = []
    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=2)
    stages: list[Stage] = []
    assignment: Assignment | None = None
    planned_n: dict[str, Annotated[int, Field(gt=0)]]
    ends_at: date
    alpha: Annotated[float, Field(gt=0, le=0.1)] = 0.05
    power: Annotated[float, Field(ge=0.5, lt=1)] = 0.8
    looks: list[date | Literal["end", "always"]] = ["end"]
    spending: Literal["obrien_fleming", "pocock"] | None = None
    burn_in: Annotated[int, Field(ge=2)] | None = None
    adjust: Literal["none", "lin"] = "none"
    cap: Annotated[float, Field(gt=0)] | None = None
    decision_rule: str
    stopping_rule: str

    @model_validator(mode="before")
    @classmethod
    def stops_as_it_looks(cls, given: object) -> object:
        if not isinstance(given, dict) or "stopping_rule" in given:
            return given
        return given | {"stopping_rule": _stopping(given.get("looks"))}

    @model_validator(mode="after")
    def named_contrasts(self) -> Plan:
        named = [self.primary.contrast, self.profit_contrast, *(g.contrast for g in self.guardrails)]
        unknown = sorted(set(named) - set(self.contrasts))
        if unknown:
            raise ValueError(f"contrast {', '.join(unknown)} is not among `contrasts`: {', '.join(self.contrasts)}")
        arms = {arm for contrast in self.contrasts.values() for arm in (contrast.arm, contrast.versus)}
        for name, listed in (("weights", self.weights), ("planned_n", self.planned_n)):
            missing = sorted(arms - set(listed))
            if missing:
                raise ValueError(f"`{name}` says nothing of the arm {', '.join(missing)}")
        return self

    @field_validator("looks", mode="before")
    @classmethod
    def known_looks(cls, given: object) -> object:
        wrong = (
            [look for look in given if look not in ("end", "always") and not _is_day(look)]
            if isinstance(given, list)
            else [given]
        )
        if wrong:
            raise ValueError(
                f"{wrong[0]!r} is no look; write days such as 2026-07-20 with `end` after them, or `always` alone"
            )
        return given

    @model_validator(mode="after")
    def sound_looks(self) -> Plan:
        days = self.look_days
        if "always" in self.looks:
            if len(self.looks) > 1:
                raise ValueError("`looks: [always]` stands alone: who may look at any time needs no other look")
        elif not self.looks or self.looks[-1] != "end" or self.looks.count("end") > 1:
            raise ValueError("the last of the `looks` must be `end`, and only the last")
        if days != sorted(set(days)) or (days and days[-1] >= self.ends_at):
            said = ", ".join(map(str, days))
            raise ValueError(
                f"the days of `looks`, {said}, must follow each other and lie before `ends_at`, {self.ends_at}"
            )
        if self.spending and not days:
            raise ValueError("`spending` belongs to looks on days before the end; leave it out, or add days to `looks`")
        if self.burn_in and self.validity != "always":
            raise ValueError("`burn_in` belongs to `looks: [always]`; leave it out")
        return self

    @property
    def look_days(self) -> list[date]:
        """The days before the end on which results may be read."""
        return [look for look in self.looks if isinstance(look, date)]

    @property
    def validity(self) -> str:
        """When intervals must hold: at the "end" alone, at every "look", or "always"."""
        return "always" if "always" in self.looks else "look" if self.look_days else "end"

    @model_validator(mode="after")
    def sound_ramp(self) -> Plan:
        if not self.stages:
            return self
        starts = [stage.start for stage in self.stages]
        if starts != sorted(set(starts)) or starts[-1] > self.ends_at:
            raise ValueError("`stages` must follow each other, each from a later day, and begin before `ends_at`")
        if self.stages[-1].weights != self.weights:
            raise ValueError("`weights` must be those of the last of the `stages`")
        last = self.stages[-1].shares()
        for stage in self.stages:
            shares = stage.shares()
            if set(shares) != set(last):
                raise ValueError(f"the stage from {stage.start} names other arms than `weights`")
            kept = [arm for arm in shares if arm.startswith("holdout")]
            if any(abs(shares[arm] - last[arm]) > 1e-9 for arm in kept):
                raise ValueError(
                    f"in the stage from {stage.start} the holdout's share changes; in all `stages` it must stay as it is"
                )
        return self

    @model_validator(mode="after")
    def sound_assignment(self) -> Plan:
        how = self.assignment
        if how is None:
            return self
        if how.namespace is None and "/" in self.experiment:
            raise ValueError("`experiment` holds `/`; state `assignment.namespace` without one")
        if how.holdout is None:
            return self
        if how.holdout.salt == how.salt:
            raise ValueError(
                "the holdout of `assignment` has the experiment's salt; give it one of its own, which stays when the next begins"
            )
        total = sum(self.weights.values())  # the stages have the same, by `sound_ramp`
        held = self.weights.get(HOLDOUT, 0) / total
        if abs(held - how.holdout.share) > 1e-6:
            raise ValueError(
                f"the holdout of `assignment` is {number(how.holdout.share, 'share')} of all customers and the arm `{HOLDOUT}` has "
                f"{number(held, 'share')} of the `weights`; give both the same share"
            )
        return self

    def summary(self) -> str:
        """The plan in a few lines, as a person would say it."""
        pair = self.contrasts[self.primary.contrast]
        profit = self.contrasts[self.profit_contrast]
        sizes = ", ".join(f"{arm} {number(n, 'count')}" for arm, n in self.planned_n.items())
        lines = [
            f"{self.experiment}: {self.hypothesis}",
            f"Judged by {self.primary.metric}, {pair.arm} against {pair.versus}; profit by {profit.arm} against {profit.versus}.",
            f"Ends on {self.ends_at}, with at least: {sizes}.",
        ]
        lines.append(self.reading())
        if len(self.stages) > 1:
            days = ", ".join(str(stage.start) for stage in self.stages)
            lines.append(f"Ramped up in stages from {days}; arms are compared within stage and week of entry.")
        for guard in self.guardrails:
            pair = self.contrasts[guard.contrast]
            lines.append(f"Must not worsen: {guard.metric} by {guard.margin:g}, {pair.arm} against {pair.versus}.")
        return "\n".join([*lines, f"Rule: {self.decision_rule}"])

    def reading(self) -> str:
        """When results are read, in a sentence."""
        if self.validity == "end":
            return "Results are read once, at the end."
        if self.validity == "always":
            least = f" from {number(self.burn_in, 'count')} customers in the smaller arm on" if self.burn_in else ""
            return f"Results may be read on any day{least}, by a confidence sequence over customers with a complete window."
        days = ", ".join(map(str, self.look_days))
        spread = {"obrien_fleming": "O'Brien and Fleming", "pocock": "Pocock"}[self.spending or "obrien_fleming"]
        return f"Results are read on {days} and at the end, and on no other day; alpha is spread as by {spread}."

    def end_of(self, timezone: str) -> datetime:
        """The moment at which the registered end is reached: the end of that local day."""
        return moment(self.ends_at, timezone, end_of_day=True).replace(microsecond=0)

    def planned(self, pair: Contrast) -> int:
        """How many customers the plan wants in the two arms of a contrast together."""
        return self.planned_n[pair.arm] + self.planned_n[pair.versus]


def _stopping(looks: object) -> str:
    """The stopping rule of a plan that states none."""
    looks = looks if isinstance(looks, list) else []
    if "always" in looks:
        return "Stop on any day on which the confidence sequence settles every question; stop at once for harm."
    if len(looks) > 1:
        return "Read results on the registered days alone; stop on one of them if all is shown, or for harm."
    return "No look at the outcomes before the end; stop early only for harm."


def _is_day(look: object) -> bool:
    if isinstance(look, str):
        try:
            date.fromisoformat(look)
        except ValueError:
            return False
        return True
    return isinstance(look, date) and not isinstance(look, datetime)


@dataclass(frozen=True)
class Registration:
    """One line of the register: which plan, when, and the latest outcome then present."""

    plan_hash: str
    at: str
    latest_outcome: str | None
    experiment: str


def plan_hash(path: Path) -> str:
    """SHA-256 of the plan file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def register(folder: Path, experiment: str, at: datetime, latest_outcome: datetime | None) -> Registration:
    """Append the plan's hash and the time to the register; the plan itself is never touched.

    Registering the same plan again adds nothing and returns the first entry.
    """
    digest = plan_hash(folder / "plan.yml")
    for entry in registrations(folder):
        if entry.plan_hash == digest:
            return entry
    entry = Registration(digest, stamp(at), stamp(latest_outcome) if latest_outcome else None, experiment)
    with (folder / REGISTER).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry.__dict__) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return entry


def registrations(folder: Path) -> list[Registration]:
    """The register, oldest first; empty when nothing was registered."""
    path = folder / REGISTER
    if not path.exists():
        return []
    entries = []
    for place, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            entries.append(Registration(**json.loads(line)))
        except (ValueError, TypeError):
            found = f"line {place} is not a registration"
            raise InputError(
                Problem(REGISTER, found, "restore the file from your backup; it is only ever appended to")
            ) from None
    return entries


@dataclass(frozen=True)
class Standing:
    """Whether the plan stood before the outcomes: registered or exploratory, and why."""

    status: Literal["registered", "exploratory", "no_plan"]
    reason: str
    first: Registration | None = None
    amendments: int = 0


def standing(folder: Path, first_outcome: datetime | None) -> Standing:
    """How the present plan stands: registered only if its own entry precedes the first outcome in its window."""
    path = folder / "plan.yml"
    if not path.exists():
        return Standing("no_plan", "There is no plan.")
    entries = registrations(folder)
    if not entries:
        return Standing("exploratory", "The plan was never registered.")
    present = next((entry for entry in entries if entry.plan_hash == plan_hash(path)), None)
    amended = len({entry.plan_hash for entry in entries}) - 1
    if present is None:
        return Standing("exploratory", "The plan was changed after it was registered.", entries[0], amended)
    if first_outcome is not None and present.at >= stamp(first_outcome):
        reason = f"The plan was registered on {present.at}, after the first outcome on {stamp(first_outcome)}."
        return Standing("exploratory", reason, entries[0], amended)
    # The clock of a study may be set back with `as_of`; what lay in the tables at that moment cannot.
    seen = present.latest_outcome
    if first_outcome is not None and seen is not None and seen >= stamp(first_outcome):
        reason = f"The plan was registered when outcomes up to {seen} were already there."
        return Standing("exploratory", reason, entries[0], amended)
    return Standing(
        "registered", f"The plan was registered on {present.at}, before the first outcome.", entries[0], amended
    )
