from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

import pytest

from fairlift.checklist import Answer, Entry, Person, Proof, catalogue, fold
from fairlift.evidence import Evidence
from fairlift.launch import Manifest, decide
from fairlift.study.plan import Contrast, Guardrail, Plan, Primary, Registration, Standing
from fairlift.study.settings import Arms, Period, Settings

CLOCK = datetime(2026, 4, 1, 12, tzinfo=UTC)
PAIR = {"arm": "personalised", "versus": "holdout"}


def interval(id: str, value: float, half: float, **more) -> Evidence:
    common = {"kind": "interval", "design": "randomised", "status": "registered", "level": 0.95, "n": 21_000, **PAIR}
    limits = {"value": value, "low": value - half, "high": value + half, "se": half / 1.959964}
    return Evidence(id=id, statement="", **(common | limits | {"unit": "money"} | more))


def group(segment: str, gap: float, half: float, **more) -> Evidence:
    plain = {"segment": segment, "arm": "personalised", "versus": "", "design": "descriptive", "n": 5000, "se": None}
    return interval("ethics.fairness.exposure", gap, half, unit="points", **(plain | more))


def test_row(id: str, p: float, detectable: float, **more) -> Evidence:
    return Evidence(id=id, statement="", kind="test", design="randomised", p=p, high=detectable, n=21_000, **more)


GOOD = (
    interval("sales.incremental.revenue", 1.2, 0.5),
    interval("sales.incremental.profit", 0.4, 0.3),
    interval("risk.complaints.rate", 0.0002, 0.0010, better="down", unit="share"),
    interval("risk.optout.rate", 0.004, 0.003, better="down", unit="share"),
    interval("risk.optout.unsubscribed", 0.004, 0.003, better="down", unit="share"),
    interval("sales.returns.rate", 0.001, 0.005, better="down", unit="share"),
    interval("sales.value.order", -0.1, 0.3),
    group("sex=female", 0.001, 0.01),
    group("sex=male", -0.001, 0.01),
    interval("method.horizons.late", 0.2, 0.1),
    test_row("method.srm.share", 0.4, 0.01),
    test_row("method.balance.omnibus", 0.5, 0.05),
    Evidence(
        id="method.power.planned",
        statement="",
        kind="exact",
        design="descriptive",
        value=1.2,
        n=90_000,
        unit="times",
        better="up",
    ),
    Evidence(
        id="method.contamination.share",
        statement="",
        kind="exact",
        design="descriptive",
        arm="holdout",
        value=0.0,
        low=0.0,
        high=0.0015,
        n=2_000,
        unit="share",
        better="down",
    ),
    Evidence(
        id="study.data.set_aside",
        statement="",
        kind="exact",
        design="descriptive",
        value=0.0001,
        n=90_000,
        unit="share",
    ),
)
ATTESTED = (
    "law.basis.documented",
    "law.dpia.signed",
    "law.consent.effect",
    "law.vendors.contracts",
    "governance.roles.raci",
    "governance.training.staff",
    "governance.incidents.plan",
    "launch.kill_switch.drilled",
)
PLAN = Plan(
    experiment="spring",
    hypothesis="Personal offers earn more than they cost.",
    primary=Primary(metric="sales.incremental.revenue", contrast="profit"),
    contrasts={"profit": Contrast(**PAIR)},
    profit_contrast="profit",
    guardrails=[
        Guardrail(metric="risk.complaints.rate", contrast="profit", margin=0.0020),
        Guardrail(metric="sales.returns.rate", contrast="profit", margin=0.01),
        Guardrail(metric="sales.value.order", contrast="profit", margin=1.0),
    ],
    weights={"personalised": 0.9, "holdout": 0.1},
    planned_n={"personalised": 18_000, "holdout": 2_000},
    ends_at=date(2026, 3, 29),
    decision_rule="Launch if revenue and profit rise and nothing else gets worse.",
)
SETTINGS = Settings(
    retailer="Example",
    markets=["EU"],
    experiment="spring",
    arms=Arms(personalised=["p"], holdout=["h"]),
    period=Period(start=date(2026, 1, 5), end=date(2026, 3, 1)),
    outcome_window_days=28,
    timezone="Europe/Berlin",
    as_of=date(2026, 3, 29),
    protected=["sex"],
    rollout_customers=100_000,
)
REGISTERED = Standing(
    "registered", "Registered in time.", Registration("f" * 64, "2026-01-01T00:00:00Z", None, "spring")
)
PERSON = Person(name="A. Person", function="DPO")


def met(**more) -> Answer:
    return Answer(
        status="met", who=PERSON, when=date(2026, 3, 1), evidence=[Proof(uri="https://intranet/proof")], **more
    )


def waived(**more) -> Answer:
    given = {
        "reason": "no table yet",
        "expires_on": date(2026, 9, 1),
        "compensating_control": "care reports weekly",
        "ramp_cap": 0.1,
    }
    return Answer(status="waived", who=PERSON, when=date(2026, 3, 1), **(given | more))


BOOK = catalogue()


@dataclass(frozen=True)
class World:
    """Everything the gate is given; a clean win that goes, and each test changes one thing."""

    rows: tuple[Evidence, ...] = GOOD
    answers: tuple[tuple[str, Answer], ...] = tuple((item, met()) for item in ATTESTED)
    settings: Settings = SETTINGS
    plan: Plan | None = PLAN
    standing: Standing = REGISTERED
    clock: datetime = CLOCK
    measured: datetime | None = datetime(2026, 3, 29, 21, 59, 59, tzinfo=UTC)
    listed: tuple[Evidence, ...] | None = None
    stale: tuple[str, ...] = ()

    def but(self, **changes) -> World:
        return replace(self, **changes)

    def row(self, id: str, of: str = "all", **changes) -> World:
        """The same world with one row changed, and the run listing it."""
        found = tuple(replace(r, **changes) if (r.id, r.segment) == (id, of) else r for r in self.rows)
        assert found != self.rows
        return replace(self, rows=found)

    def moved(self, id: str, value: float, half: float, **more) -> World:
        return self.row(id, value=value, low=value - half, high=value + half, se=half / 1.959964, **more)

    def without(self, id: str, segment: str | None = None) -> World:
        """The same run, one row of it deleted afterwards."""
        kept = tuple(r for r in self.rows if r.id != id or (segment is not None and r.segment != segment))
        return replace(self, rows=kept, listed=self.listed or self.rows)

    def answer(self, item: str, given: Answer | None) -> World:
        kept = tuple((name, old) for name, old in self.answers if name != item)
        return replace(self, answers=kept + (((item, given),) if given else ()))

    def set(self, **changes) -> World:
        return replace(self, settings=self.settings.model_copy(update=changes))

    def planned(self, **changes) -> World:
        return replace(self, plan=self.plan.model_copy(update=changes))

    def decide(self, previous=None):
        entries = [
            Entry(item, given, "fairlift answer", f"{place:06d}") for place, (item, given) in enumerate(self.answers)
        ]
        listed = self.rows if self.listed is None else self.listed
        stale = {r.key: "the data changed since" for r in self.rows if r.id in self.stale}
        manifest = Manifest(frozenset(r.key for r in listed), self.measured, stale)
        states = fold(entries, BOOK, self.clock)
        return decide(
            BOOK, self.rows, states, self.settings, self.plan, self.standing,
            clock=self.clock, manifest=manifest, previous=previous,
        )  # fmt: skip


@pytest.fixture(scope="session")
def world() -> World:
    return World()


@pytest.fixture(scope="session")
def answers():
    """Builders of answers: met and waived."""
    return {"met": met, "waived": waived, "Answer": Answer, "person": PERSON}
