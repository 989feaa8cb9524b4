"""Every branch of the gate, one change of a clean win at a time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from fairlift.checklist.answers import Answer, Person
from fairlift.errors import InputError
from fairlift.evidence import from_json, to_json
from fairlift.launch import CONDITIONS, GO, NO_GO, Decision
from fairlift.study.plan import Contrast, Guardrail, Primary, Standing

REVENUE, PROFIT = "sales.incremental.revenue", "sales.incremental.profit"
COMPLAINTS, OPT_OUTS, FAIRNESS = "risk.complaints.rate", "risk.optout.rate", "ethics.fairness.exposure"
WAIVABLE = (
    "governance.roles.raci",
    "governance.training.staff",
    "governance.incidents.plan",
    "law.vendors.contracts",
)
ATTESTED_BLOCKERS = ("law.basis.documented", "law.dpia.signed", "law.consent.effect", "launch.kill_switch.drilled")


def of(decision: Decision, item: str):
    return next(reason for reason in decision.items if reason.item == item)


def stops(decision: Decision) -> set[str]:
    return {reason.item for reason in decision.reasons}


def test_a_clean_win_goes(world):
    decision = world.decide()
    assert (decision.decision, decision.kind, decision.reasons, decision.conditions) == (GO, "", (), ())
    assert decision.planned == 32
    assert decision.plan_hash == "f" * 64
    assert str(decision).startswith("GO\n")


# benefit

BENEFIT = {
    "primary": (REVENUE, "sales.benefit.primary"),
    "profit": (PROFIT, "sales.benefit.profit"),
}


@pytest.mark.parametrize("which", BENEFIT)
@pytest.mark.parametrize(
    ("value", "half", "kind"),
    [
        (0.4, 0.39, None),
        (0.4, 0.4, "not_shown"),
        (0.4, 0.5, "not_shown"),
        (-0.1, 0.5, "not_shown"),
        (-0.6, 0.5, "harm"),
    ],
)
def test_the_whole_interval_must_lie_above_zero(world, which, value, half, kind):
    metric, item = BENEFIT[which]
    decision = world.moved(metric, value, half).decide()
    assert decision.decision == (NO_GO if kind else GO)
    assert decision.kind == (kind or "")
    assert stops(decision) == ({item} if kind else set())


@pytest.mark.parametrize("which", BENEFIT)
@pytest.mark.parametrize(
    ("change", "kind", "state"),
    [
        ({"design": "quasi"}, "missing", "missing"),
        ({"design": "descriptive"}, "missing", "missing"),
        ({"status": "exploratory"}, "missing", "missing"),
        ({"level": 0.9}, "missing", "missing"),
        ({"level": None}, "missing", "missing"),
        ({"kind": "exact"}, "missing", "missing"),
        ({"kind": "attested"}, "missing", "missing"),
        ({"n": 19_999}, "not_shown", "inconclusive"),
        ({"n": None}, "not_shown", "inconclusive"),
        ({"low": None}, "not_shown", "inconclusive"),
        ({"value": None, "low": None, "high": None}, "not_shown", "inconclusive"),
        ({"expires_at": "2026-03-31"}, "missing", "expired"),
        ({"population": "exposed"}, "missing", "missing"),
        ({"arm": "personalised/b"}, "missing", "missing"),
        ({"segment": "sex=female"}, "missing", "missing"),
    ],
)
def test_evidence_that_may_not_count_never_passes_the_benefit(world, which, change, kind, state):
    metric, item = BENEFIT[which]
    decision = world.row(metric, **change).decide()
    assert (decision.decision, decision.kind) == (NO_GO, kind)
    assert of(decision, item).state == state


def test_the_stored_threshold_and_verdict_are_not_trusted(world):
    decision = world.moved(
        PROFIT, 0.1, 0.3, threshold=-5.0, threshold_from="plan.yml", hard_limit=-9.0, min_n=1
    ).decide()
    assert stops(decision) == {"sales.benefit.profit"}


def test_a_pass_needs_the_estimate_itself_on_the_right_side(world):
    odd = world.row(PROFIT, value=-0.1, low=0.1, high=0.5)
    assert odd.decide().decision == NO_GO


def test_a_hurdle_is_the_threshold_of_profit(world):
    assert world.set(hurdle=0.05).decide().decision == GO
    decision = world.set(hurdle=0.2).decide()
    assert stops(decision) == {"sales.benefit.profit"}
    assert "study.yml" in of(decision, "sales.benefit.profit").technical


def test_before_the_registered_end_nothing_is_shown(world):
    decision = world.but(measured=datetime(2026, 3, 28, 12, tzinfo=UTC)).decide()
    assert (decision.decision, decision.kind) == (NO_GO, "not_shown")
    assert {"sales.benefit.primary", "sales.benefit.profit", COMPLAINTS, FAIRNESS} <= stops(decision)


def test_the_registered_end_is_the_end_of_that_local_day(world):
    # 29 March 2026 ends at 22:00 UTC in Berlin, where the clocks went forward that morning
    assert world.but(measured=datetime(2026, 3, 29, 21, 59, 58, tzinfo=UTC)).decide().decision == NO_GO
    assert world.but(measured=datetime(2026, 3, 29, 21, 59, 59, tzinfo=UTC)).decide().decision == GO


def test_without_prepared_tables_nothing_is_shown(world):
    assert world.but(measured=None).decide().kind == "not_shown"


# the plan


@pytest.mark.parametrize("status", ["exploratory", "no_plan"])
def test_without_a_registered_plan_nothing_goes(world, status):
    decision = world.but(standing=Standing(status, "Not registered.")).decide()
    assert (decision.decision, decision.kind) == (NO_GO, "missing")
    assert {"method.plan.registered", "sales.benefit.primary", "sales.benefit.profit"} <= stops(decision)


def test_no_plan_no_costs_no_answers_is_missing_though_the_effect_is_there(world):
    bare = world.but(plan=None, answers=(), standing=Standing("no_plan", "There is no plan.")).without(PROFIT)
    decision = bare.decide()
    assert (decision.decision, decision.kind) == (NO_GO, "missing")
    assert {"method.plan.registered", "sales.benefit.profit", "law.dpia.signed", "law.basis.documented"} <= stops(
        decision
    )
    assert of(decision, "method.plan.registered").plain == "There is no plan."


def test_a_plan_without_guardrails_is_a_gap(world):
    assert stops(world.planned(guardrails=[]).decide()) == {"method.plan.guardrails"}


def test_a_plan_whose_guardrails_all_have_an_item_of_their_own_is_enough(world):
    own = [Guardrail(metric=COMPLAINTS, contrast="profit", margin=0.002)]
    assert world.planned(guardrails=own).decide().decision == GO


def test_another_contrast_may_carry_the_primary_metric(world):
    contrasts = {"profit": world.plan.contrasts["profit"], "model": Contrast(arm="personalised", versus="control")}
    plan = world.planned(
        contrasts=contrasts,
        primary=Primary(metric="sales.conversion.rate", contrast="model"),
        planned_n=world.plan.planned_n | {"control": 3000},
    )
    assert stops(plan.decide()) == {"sales.benefit.primary"}
    row = replace(world.rows[0], id="sales.conversion.rate", versus="control", unit="share")
    assert plan.but(rows=(*world.rows, row)).decide().decision == GO
    small = replace(row, n=20_999)
    assert stops(plan.but(rows=(*world.rows, small)).decide()) == {"sales.benefit.primary"}


# guardrails: metric, item, margin, hard limit, which way is better

GUARDRAILS = [
    (COMPLAINTS, COMPLAINTS, 0.002, "down"),
    (OPT_OUTS, OPT_OUTS, 0.02, "down"),  # not in the plan: the checklist's own margin
    ("sales.returns.rate", "method.plan.guardrails", 0.01, "down"),
    ("sales.value.order", "method.plan.guardrails", 1.0, "up"),
]


@pytest.mark.parametrize(("metric", "item", "margin", "better"), GUARDRAILS)
@pytest.mark.parametrize(
    ("value", "half", "decision", "kind"),
    [
        (0.5, 0.4, GO, ""),
        (0.5, 1.0, CONDITIONS, ""),  # past the margin, short of twice the margin
        (0.5, 1.6, NO_GO, "not_shown"),  # past twice the margin
        (1.2, 0.5, NO_GO, "not_shown"),  # the estimate itself is past the margin
        (1.7, 0.5, NO_GO, "harm"),
    ],
)
def test_a_guardrail_holds_bends_or_breaks(world, metric, item, margin, better, value, half, decision, kind):
    side = margin if better == "down" else -margin
    found = world.moved(metric, value * side, half * margin).decide()
    assert (found.decision, found.kind) == (decision, kind)
    assert stops(found) == ({item} if decision == NO_GO else set())
    assert [c.item for c in found.conditions] == ([item] if decision == CONDITIONS else [])


def test_a_condition_says_whose_until_when_how_far_and_what_takes_it_back(world):
    (condition,) = world.moved(COMPLAINTS, 0.001, 0.002).decide().conditions
    assert condition.owner == "Customer care"
    assert condition.due == "2026-04-29"  # one outcome window later
    assert condition.ramp_cap == 0.25
    assert "more complaints" in condition.rollback
    assert "more customers" in condition.what


def test_no_condition_before_the_planned_number(world):
    assert world.moved(COMPLAINTS, 0.001, 0.002, n=19_999).decide().kind == "not_shown"


def test_a_hard_limit_of_the_plan_replaces_twice_the_margin(world):
    strict = [Guardrail(metric=COMPLAINTS, contrast="profit", margin=0.002, hard_limit=0.0025)]
    assert world.moved(COMPLAINTS, 0.001, 0.002).planned(guardrails=strict).decide().decision == NO_GO


def test_a_guardrail_that_was_not_randomised_is_missing(world):
    decision = world.row(COMPLAINTS, design="quasi").decide()
    assert (decision.kind, stops(decision)) == ("missing", {COMPLAINTS})


def test_a_fail_must_survive_holm_in_its_family(world):
    # just beyond the margin: alone p = .04, among five guardrails it could be chance
    barely = world.moved(COMPLAINTS, 0.002 + 2.05 * 0.0005, 1.959964 * 0.0005)
    decision = barely.decide()
    assert (decision.decision, decision.kind) == (NO_GO, "not_shown")
    assert "not beyond chance among 5 measures" in of(decision, COMPLAINTS).technical
    clearly = world.moved(COMPLAINTS, 0.002 + 3.5 * 0.0005, 1.959964 * 0.0005)
    assert clearly.decide().kind == "harm"


def test_a_fail_alone_in_its_family_needs_no_adjustment(world):
    assert world.moved(PROFIT, -2.05 * 0.1, 1.959964 * 0.1).decide().kind == "harm"


# tests of the randomisation


@pytest.mark.parametrize(
    ("item", "change", "kind"),
    [
        ("method.srm.share", {"p": 0.0009}, "harm"),
        ("method.srm.share", {"p": 0.001}, None),
        ("method.srm.share", {"high": 0.021}, "not_shown"),
        ("method.srm.share", {"high": None}, "not_shown"),
        ("method.srm.share", {"p": None}, "not_shown"),
        ("method.srm.share", {"kind": "interval"}, "missing"),
        ("method.balance.omnibus", {"p": 1e-5}, "harm"),
        ("method.balance.omnibus", {"high": 0.11}, "not_shown"),
    ],
)
def test_a_test_fails_passes_or_could_not_have_seen_it(world, item, change, kind):
    decision = world.row(item, **change).decide()
    assert (decision.decision, decision.kind) == ((NO_GO, kind) if kind else (GO, ""))
    assert stops(decision) == ({item} if kind else set())


def test_a_broken_randomisation_is_harm_even_before_the_end(world):
    early = world.row("method.srm.share", p=1e-9).but(measured=datetime(2026, 3, 1, tzinfo=UTC))
    assert early.decide().kind == "harm"


@pytest.mark.parametrize(("share", "decision"), [(0.0, GO), (0.001, GO), (0.0011, NO_GO)])
def test_the_share_set_aside(world, share, decision):
    assert world.row("study.data.set_aside", value=share).decide().decision == decision


# groups


@pytest.mark.parametrize(
    ("gap", "half", "decision", "kind"),
    [
        (-0.02, 0.02, GO, ""),
        (-0.03, 0.03, CONDITIONS, ""),
        (-0.04, 0.07, NO_GO, "not_shown"),
        (-0.2, 0.03, NO_GO, "harm"),
    ],
)
def test_every_group_is_judged(world, gap, half, decision, kind):
    found = world.row(FAIRNESS, "sex=female", value=gap, low=gap - half, high=gap + half).decide()
    assert (found.decision, found.kind) == (decision, kind)
    assert ("sex=female" in of(found, FAIRNESS).plain) is (decision != GO)


def test_a_group_that_nobody_read_is_missing(world):
    assert stops(world.set(protected=["sex", "ethnicity"]).decide()) == {FAIRNESS}
    assert stops(world.set(protected=[]).decide()) == {FAIRNESS}


def test_a_small_group_is_inconclusive_and_can_be_waived_by_name(world, answers):
    small = world.row(FAIRNESS, "sex=female", n=199)
    assert (small.decide().kind, stops(small.decide())) == ("not_shown", {FAIRNESS})
    named = small.answer(FAIRNESS, answers["waived"](segments=["sex=female"]))
    decision = named.decide()
    assert (decision.decision, decision.conditions[0].ramp_cap) == (CONDITIONS, 0.1)
    other = small.answer(FAIRNESS, answers["waived"](segments=["sex=male"]))
    assert stops(other.decide()) == {FAIRNESS}


def test_a_waiver_of_one_group_covers_no_other(world, answers):
    unfair = world.row(FAIRNESS, "sex=male", value=-0.3, low=-0.33, high=-0.27)
    decision = unfair.answer(FAIRNESS, answers["waived"](segments=["sex=female"])).decide()
    assert (decision.decision, decision.kind) == (NO_GO, "harm")


# rows that are gone, unlisted, stale


@pytest.mark.parametrize(
    ("metric", "item"),
    [
        (REVENUE, "sales.benefit.primary"),
        (PROFIT, "sales.benefit.profit"),
        (COMPLAINTS, COMPLAINTS),
        (OPT_OUTS, OPT_OUTS),
        ("sales.returns.rate", "method.plan.guardrails"),
        (FAIRNESS, FAIRNESS),
        ("method.srm.share", "method.srm.share"),
        ("method.balance.omnibus", "method.balance.omnibus"),
        ("study.data.set_aside", "study.data.set_aside"),
    ],
)
def test_what_is_gone_unlisted_or_stale_does_not_count(world, metric, item):
    rest = tuple(row for row in world.rows if row.id != metric)
    stale = world.but(stale=(metric,))
    for changed in (world.without(metric), world.but(rows=rest), world.but(listed=rest), stale):
        decision = changed.decide()
        assert (decision.decision, decision.kind, stops(decision)) == (NO_GO, "missing", {item})
    assert of(stale.decide(), item).state == "stale"


def test_one_group_gone_is_missing(world):
    assert stops(world.without(FAIRNESS, "sex=male").decide()) == {FAIRNESS}


# answers


@pytest.mark.parametrize("item", [*ATTESTED_BLOCKERS, *WAIVABLE])
@pytest.mark.parametrize("status", [None, "open", "in_progress", "not_met", "expired"])
def test_what_nobody_vouches_for_stops(world, answers, item, status):
    said = {None: None, "expired": answers["met"](expires_on=date(2026, 3, 31))}
    given = said[status] if status in said else Answer(status=status, who=answers["person"], when=date(2026, 3, 1))
    decision = world.answer(item, given).decide()
    assert (decision.decision, decision.kind, stops(decision)) == (NO_GO, "missing", {item})
    assert of(decision, item).to_do


@pytest.mark.parametrize("item", WAIVABLE)
def test_a_major_can_be_waived_until_it_expires(world, answers, item):
    decision = world.answer(item, answers["waived"]()).decide()
    assert (decision.decision, [c.item for c in decision.conditions]) == (CONDITIONS, [item])
    assert decision.conditions[0].due == "2026-09-01"
    assert world.answer(item, answers["waived"](expires_on=date(2026, 3, 31))).decide().decision == NO_GO


@pytest.mark.parametrize("item", [*ATTESTED_BLOCKERS, "sales.benefit.profit", "method.srm.share", COMPLAINTS])
def test_what_is_not_waivable_is_never_waived(world, answers, item):
    broken = world.without(item) if "." in item and item in {r.id for r in world.rows} else world
    broken = world.moved(PROFIT, 0.1, 0.3) if item == "sales.benefit.profit" else broken
    decision = broken.answer(item, answers["waived"]()).decide()
    assert decision.decision == NO_GO
    assert any("cannot be waived" in text for text in decision.conflicts)


def test_a_waiver_that_is_not_needed_is_no_condition(world, answers):
    assert world.answer("study.data.set_aside", answers["waived"]()).decide().decision == GO


def test_a_major_may_be_declared_not_applicable_and_is_noted(world, answers):
    given = Answer(
        status="not_applicable", who=answers["person"], when=date(2026, 3, 1), reason="one vendor only", approver="DPO"
    )
    decision = world.answer("governance.roles.raci", given).decide()
    assert decision.decision == GO
    assert [note.item for note in decision.notes] == ["governance.roles.raci"]


@pytest.mark.parametrize(("item", "flag"), [("law.dpia.signed", "large_scale"), ("law.vendors.contracts", "vendors")])
def test_an_item_leaves_by_its_context_flag_alone(world, item, flag):
    bare = world.answer(item, None)
    assert bare.decide().decision == NO_GO
    assert bare.set(context={flag: True}).decide().decision == NO_GO
    decision = bare.set(context={flag: False}).decide()
    assert (decision.decision, of(decision, item).state) == (GO, "off")


def test_a_minor_is_a_note(world):
    decision = world.moved("risk.optout.unsubscribed", 0.09, 0.01).decide()
    assert decision.decision == GO
    assert [note.item for note in decision.notes] == ["risk.optout.unsubscribed"]


def test_contradictions_are_reported_with_functions_and_no_names(world):
    other = Answer(status="not_met", who=Person(name="B. Person", function="Legal"), when=date(2026, 3, 1))
    decision = world.but(answers=(*world.answers, ("law.dpia.signed", other))).decide()
    assert stops(decision) == {"law.dpia.signed"}
    assert decision.conflicts == (
        "law.dpia.signed: not_met (Legal) and met (DPO) contradict each other; not_met counts",
    )


# thresholds of the study


@pytest.mark.parametrize(
    ("name", "stricter", "looser", "item"),
    [
        (COMPLAINTS, 0.0005, 0.003, COMPLAINTS),
        (OPT_OUTS, 0.005, 0.03, OPT_OUTS),
        ("sales.value.order", -0.2, -2.0, "method.plan.guardrails"),
        (FAIRNESS, -0.005, -0.1, FAIRNESS),
        ("method.srm.share", 0.5, 0.0001, "method.srm.share"),
        ("study.data.set_aside", 0.00005, 0.01, "study.data.set_aside"),
        (REVENUE, 1.0, -1.0, "sales.benefit.primary"),
        (PROFIT, 0.2, -1.0, "sales.benefit.profit"),
        ("sales.benefit.profit", 0.2, -1.0, "sales.benefit.profit"),
    ],
)
def test_a_study_may_tighten_and_never_loosen(world, name, stricter, looser, item):
    decision = world.set(thresholds={name: stricter}).decide()
    assert item in stops(decision) | {c.item for c in decision.conditions}
    assert "study.yml" in of(decision, item).technical
    with pytest.raises(InputError, match="looser"):
        world.set(thresholds={name: looser}).decide()


def test_all_problems_of_the_thresholds_come_at_once(world):
    with pytest.raises(InputError) as caught:
        world.set(thresholds={"risk.complaint.rate": 1.0, COMPLAINTS: 1.0}, hurdle=-1.0).decide()
    told = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "did you mean `risk.complaints.rate`" in told and "looser" in told and "hurdle" in told


# what was reached before


def test_falling_below_the_planned_number_after_reaching_it_is_a_fail(world):
    before = world.decide()
    fewer = world.row(PROFIT, n=19_000)
    assert fewer.decide().kind == "not_shown"
    after = fewer.decide(previous=before)
    assert (after.kind, of(after, "sales.benefit.profit").state) == ("harm", "fail")
    assert fewer.decide(previous=after).kind == "harm"  # it is remembered from record to record


def test_another_plan_starts_anew(world):
    before = replace(world.decide(), plan_hash="e" * 64)
    assert world.row(PROFIT, n=19_000).decide(previous=before).kind == "not_shown"


# what more it needs


def test_the_need_follows_from_spread_value_threshold_and_power(world):
    # (1.96 + 0.8416)² (0.255 / 0.4)² = 3.19 times the customers
    decision = world.moved(PROFIT, 0.4, 0.5).decide()
    need = of(decision, "sales.benefit.profit").need
    assert need.customers == pytest.approx(21_000 * 2.19, rel=0.01)
    assert need.weeks == pytest.approx(4 * 2.19 + 4, rel=0.01)  # four weeks brought 21,000; then a window of four


def test_the_need_cannot_be_computed_on_the_wrong_side(world):
    need = of(world.moved(PROFIT, -0.1, 0.5).decide(), "sales.benefit.profit").need
    assert need.customers is None
    assert "cannot be computed" in str(need)


def test_the_need_before_the_planned_number_is_what_lacks(world):
    need = of(world.row(PROFIT, n=15_000).decide(), "sales.benefit.profit").need
    assert need.customers == 5_000


# the decision as data


def test_a_decision_survives_its_json(world, answers):
    import json

    for case in (world, world.moved(PROFIT, 0.4, 0.5), world.answer("governance.roles.raci", answers["waived"]())):
        decision = case.decide()
        again = Decision.from_dict(json.loads(json.dumps(decision.to_dict())))
        assert again == decision
        assert again.hash == decision.hash


def test_the_hash_leaves_out_the_moment_alone(world):
    later = world.but(clock=datetime(2026, 4, 2, tzinfo=UTC))
    assert later.decide().hash == world.decide().hash
    assert world.moved(PROFIT, 0.41, 0.3).decide().hash != world.decide().hash


def test_rows_read_from_files_decide_alike(world):
    assert world.but(rows=tuple(from_json(to_json(world.rows)))).decide() == world.decide()


def test_states_are_counted(world):
    states = world.decide().states()
    assert states["pass"] == states.sum() == 22


def test_the_catalogue_is_named_with_version_and_size(world):
    decision = world.decide()
    assert (decision.catalogue_version, decision.catalogue_size) == ("1.1", 54)
    assert f"checklist 1.1: {decision.catalogue_size} items, {decision.planned} of them planned" in str(decision)


def test_unknown_markets_and_contexts_apply(world):
    assert world.set(markets=["Atlantis"], context={}).decide().decision == GO
    assert stops(world.set(markets=["Atlantis"]).answer("law.dpia.signed", None).decide()) == {"law.dpia.signed"}
