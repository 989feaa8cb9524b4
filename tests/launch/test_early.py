"""Before the registered end nothing counts but what the plan registered for that day, and then it counts."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from fairlift.checklist import catalogue
from fairlift.checklist.answers import Entry, fold, read_file
from fairlift.ethics.fairness import fairness_evidence
from fairlift.evidence import Evidence
from fairlift.launch import CONDITIONS, GO, NO_GO, Decision, Manifest, decide, explain
from fairlift.method.contamination import contamination_evidence
from fairlift.method.validity import validity_evidence
from fairlift.risk.complaints import complaints_evidence
from fairlift.sales.incremental import incremental_evidence
from fairlift.simulate import draw_units, read_scenario
from fairlift.simulate.write import answers_yaml, plan_yaml, study_yaml
from fairlift.study import Standing, Study, open_study
from fairlift.study.plan import Registration
from fairlift.study.quality import quality_evidence

SIZED = Evidence(id="method.power.planned", statement="", kind="exact", design="descriptive", value=1.2, better="up")

EARLY = datetime(2026, 3, 22, 22, 59, 59, tzinfo=UTC)  # the end of 22 March in Berlin
LOOKS = [date(2026, 3, 8), date(2026, 3, 22), "end"]
PROFIT, COMPLAINTS = "sales.incremental.profit", "risk.complaints.rate"


def read_as(world, validity, **changes):
    rows = tuple(replace(row, validity=validity) if row.kind == "interval" else row for row in world.rows)
    return world.but(rows=rows, **changes)


def stops(decision):
    return {reason.item for reason in decision.reasons}


def of(decision, item):
    return next(reason for reason in decision.items if reason.item == item)


@pytest.mark.parametrize("measured", [EARLY, None])
@pytest.mark.parametrize(
    ("looks", "validity", "early", "at_the_end"),
    [
        (["end"], "end", NO_GO, GO),
        (["end"], "always", NO_GO, GO),  # a wider interval than was asked for is as good at the end
        (["end"], "look", NO_GO, GO),
        (["always"], "always", GO, GO),
        (["always"], "end", NO_GO, NO_GO),  # also at the end: who may stop any day must read as one who may
        (["always"], "look", NO_GO, NO_GO),
        (LOOKS, "look", GO, GO),
        (LOOKS, "end", NO_GO, NO_GO),
        (LOOKS, "always", NO_GO, NO_GO),
    ],
)
def test_what_counts_when(world, measured, looks, validity, early, at_the_end):
    found = read_as(world.planned(looks=looks), validity, measured=measured or world.measured)
    assert found.decide().decision == (early if measured else at_the_end)


@pytest.mark.parametrize("days", [-1, 1])
def test_a_day_between_the_looks_is_no_look(world, days):
    found = read_as(world.planned(looks=LOOKS), "look", measured=EARLY + timedelta(days=days))
    assert found.decide().kind == "not_shown"
    need = of(found.decide(), "sales.benefit.profit").need
    assert need.weeks * 7 == pytest.approx(1 if days < 0 else 6, abs=0.1)  # the next look, then the end


def test_an_unregistered_plan_has_no_early_look(world):
    late = Standing("exploratory", "too late")
    found = read_as(world.planned(looks=["always"]), "always", measured=EARLY, standing=late)
    assert found.decide().decision == NO_GO


def test_looks_pay_with_width_and_not_with_the_planned_number(world):
    early = read_as(world.planned(looks=["always"]), "always", measured=EARLY)
    small = early.row(PROFIT, n=9_000)
    assert small.decide().decision == GO
    assert read_as(world, "end").row(PROFIT, n=9_000).decide().decision == NO_GO


def test_no_condition_before_the_planned_number(world):
    early = read_as(world.planned(looks=["always"]), "always", measured=EARLY)
    bent = early.moved(COMPLAINTS, 0.001, 0.002)
    assert bent.decide().decision == CONDITIONS
    decision = bent.row(COMPLAINTS, n=9_000).decide()
    assert (decision.decision, decision.kind) == (NO_GO, "not_shown")


@pytest.mark.parametrize(("looks", "validity"), [(["always"], "always"), (LOOKS, "look")])
def test_harm_may_stop_before_the_end(world, looks, validity):
    early = read_as(world.planned(looks=looks), validity, measured=EARLY)
    decision = early.moved(COMPLAINTS, 0.009, 0.002, n=9_000).decide()
    assert (decision.decision, decision.kind, stops(decision)) == (NO_GO, "harm", {COMPLAINTS})
    fixed = world.but(measured=EARLY).moved(COMPLAINTS, 0.009, 0.002)
    assert fixed.decide().kind == "not_shown"


def test_harm_on_a_sequence_must_survive_holm_by_its_own_width(world):
    """By its standard error alone it would be beyond chance among five; by the sequence's width it is not."""
    early = read_as(world.planned(looks=["always"]), "always", measured=EARLY)
    barely = early.row(COMPLAINTS, value=0.002 + 3.1 * 0.0005, low=0.002 + 0.05 * 0.0005, high=0.0051, se=0.0005)
    decision = barely.decide()
    assert (decision.kind, of(decision, COMPLAINTS).state) == ("not_shown", "inconclusive")


def test_what_a_sequence_still_needs(world):
    early = read_as(world.planned(looks=["always"]), "always", measured=EARLY)
    open_ = early.moved(PROFIT, 0.2, 0.3, n=9_000)
    need = of(open_.decide(), "sales.benefit.profit").need
    assert 9_000 < need.customers < 40_000 and need.weeks > 4  # the outcome window at least
    wrong = early.moved(PROFIT, -0.1, 0.3, n=9_000)
    need = of(wrong.decide(), "sales.benefit.profit").need
    assert need.customers == 11_000  # first of all the planned number
    none = early.row(PROFIT, value=None, low=None, high=None, se=None, n=None)
    assert of(none.decide(), "sales.benefit.profit").need.weeks == pytest.approx(1, abs=0.01)


# running on after the end


def test_what_was_read_at_the_end_and_not_shown_is_not_shown_by_more_customers(world):
    open_ = world.moved(PROFIT, 0.1, 0.3)
    first = open_.decide()
    assert first.kind == "not_shown" and list(first.settled.values()) == [21_000]
    more = world.row(PROFIT, n=24_000)  # clear by now
    assert more.decide().decision == GO
    again = more.decide(previous=first)
    reason = of(again, "sales.benefit.profit")
    assert (again.decision, again.kind) == (NO_GO, "not_shown")
    assert "read at the end with 21,000 customers and not shown" in reason.technical
    assert "only a new experiment" in str(reason.need)
    assert again.settled == first.settled  # the first reading stays the one that counts
    assert more.decide(previous=again).decision == NO_GO
    assert Decision.from_dict(json.loads(json.dumps(first.to_dict()))).settled == first.settled


def test_the_same_customers_may_be_read_again(world):
    """A cost or a hurdle that was wrong may be mended: nobody new came in."""
    first = world.set(hurdle=0.2).decide()
    assert first.kind == "not_shown"
    assert world.decide(previous=first).decision == GO


def test_before_the_end_nothing_is_settled_and_a_sequence_never_is(world):
    early = world.but(measured=EARLY).decide()
    assert early.settled == {} and world.decide(previous=early).decision == GO
    short = world.row(PROFIT, n=19_000).decide()  # not enough of them: it was not read
    assert short.settled == {} and world.decide(previous=short).decision == GO
    always = read_as(world.planned(looks=["always"]), "always")
    first = always.moved(PROFIT, 0.1, 0.3).decide()
    assert first.settled == {} and always.row(PROFIT, n=24_000).decide(previous=first).decision == GO


def test_a_condition_may_be_settled_by_more_customers(world):
    first = world.moved(COMPLAINTS, 0.001, 0.002).decide()
    assert first.decision == CONDITIONS and first.settled == {}
    assert world.row(COMPLAINTS, n=24_000).decide(previous=first).decision == GO


def test_another_plan_begins_anew(world):
    first = world.moved(PROFIT, 0.1, 0.3).decide()
    other = Standing("registered", "in time", Registration("e" * 64, "2026-01-01T00:00:00Z", None, "spring"))
    assert world.row(PROFIT, n=24_000).but(standing=other).decide(previous=first).decision == GO


# from a simulated shop to the decision


@pytest.fixture(scope="module")
def decided(tmp_path_factory):
    """The decision on a scenario as of a day, under a plan with these looks."""
    book = catalogue()
    drawn = {}

    def at(name: str, day: date, looks: list, seed: int = 1):
        if name not in drawn:
            scenario, folder = read_scenario(name), tmp_path_factory.mktemp(name)
            for file, text in (
                ("study.yml", study_yaml(scenario, scenario.customers)),
                ("plan.yml", plan_yaml(scenario, scenario.customers)),
                ("answers.yml", answers_yaml(scenario)),
            ):
                Path(folder / file).write_text(text)
            entries = [Entry(item, given, "answers.yml", "") for item, given in read_file(folder).items()]
            study = open_study(folder)
            drawn[name] = scenario, study, fold(entries, book, study.settings.clock())
        scenario, made, answers = drawn[name]
        if (name, seed) not in drawn:
            drawn[name, seed] = draw_units(scenario, seed)
        units, settings = drawn[name, seed].copy(), made.settings.model_copy(update={"as_of": day})
        due = pd.to_datetime(units["enrolled"]) + timedelta(days=settings.outcome_window_days)
        units["complete"] = due <= pd.Timestamp(day)
        plan = made.plan.model_copy(update={"looks": looks})
        standing, window = Standing("registered", "before the outcomes"), settings.outcome_window_days
        study = Study.in_memory(settings, plan, units, standing, scenario.customers)
        look = study.looks.get(study.contrasts[0])
        covariates = [column for column in units if column.startswith("pre_")]
        rows = [
            *quality_evidence(study),
            *validity_evidence(units, plan.weights, covariates, study.contrasts, window),
            *incremental_evidence(study),
            *complaints_evidence(study),
            *fairness_evidence(study.units, settings.protected, window, look=look),
            *contamination_evidence(study.units, window),
            SIZED,
        ]
        rows = [replace(row, status="registered") if row.design == "randomised" else row for row in rows]
        clock = settings.clock()
        manifest = Manifest.of(rows, clock)
        decision = decide(book, rows, answers, settings, plan, standing, clock=clock, manifest=manifest)
        return decision, rows, study

    return at


def profit_of(rows):
    return next(row for row in rows if (row.id, row.versus) == (PROFIT, "holdout"))


def test_a_clear_win_goes_when_its_sequence_clears_and_not_before(decided):
    early, rows, _ = decided("clean-win", date(2026, 8, 10), ["always"])
    assert early.kind == "not_shown" and profit_of(rows).verdict == "inconclusive"
    late, rows, study = decided("clean-win", date(2026, 8, 20), ["always"])
    assert late.decision == GO and late.at < str(study.plan.ends_at)
    assert (profit_of(rows).validity, profit_of(rows).verdict) == ("always", "pass")
    assert any("fixed beforehand" in line for line in explain(study, late, rows).effect.lines)
    once, rows, _ = decided("clean-win", date(2026, 8, 20), ["end"])
    assert once.kind == "not_shown" and profit_of(rows).validity == "end"
    assert profit_of(rows).verdict == "pass"  # the same customers: only the plan says when they may be read


def test_looks_on_registered_days_and_at_the_end(decided):
    days = [date(2026, 8, 12), date(2026, 8, 18), "end"]
    on, rows, study = decided("clean-win", days[1], days)
    assert on.decision == GO and profit_of(rows).validity == "look"
    look = study.looks["personalised", "holdout"]
    assert (len(look.seen), look.looks) == (2, 3) and look.seen[0] < look.seen[1] == profit_of(rows).n
    between, rows, study = decided("clean-win", date(2026, 8, 19), days)
    assert between.kind == "not_shown" and study.looks == {} and profit_of(rows).validity == "end"
    end, rows, study = decided("clean-win", date(2026, 9, 27), days)
    look = study.looks["personalised", "holdout"]
    assert end.decision == GO and (len(look.seen), look.looks) == (3, 3)
    fixed = profit_of(decided("clean-win", date(2026, 9, 27), ["end"])[1])
    assert 1.002 < (profit_of(rows).high - profit_of(rows).low) / (fixed.high - fixed.low) < 1.1


def test_no_effect_never_goes_on_any_of_many_days(decided):
    for seed in (1, 2):
        for days in range(3, 14, 3):
            decision, rows, _ = decided("no-effect", date(2026, 8, 10) + timedelta(days=days), ["always"], seed)
            assert decision.decision == NO_GO
            assert profit_of(rows).verdict != "pass"
