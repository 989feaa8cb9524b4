"""A plan sized from the past: on a shop whose figures are known, with and without assignments, and where something is missing."""

import shutil
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from fairlift.errors import InputError, Refusal
from fairlift.kit.plan import planned_evidence, size_plan
from fairlift.method.looks import boundaries
from fairlift.method.power import mean_spread, power_of, sample_size, share_spread
from fairlift.method.sequence import multiple
from fairlift.simulate import simulate
from fairlift.study import open_study, prepare
from fairlift.study.past import past
from fairlift.study.plan import Contrast, Guardrail, Plan, Primary

START = pd.Timestamp("2026-03-02", tz="UTC")
PLAN = {
    "experiment": "spring",
    "hypothesis": "Offers raise revenue.",
    "primary": Primary(metric="sales.incremental.revenue", contrast="benefit", mde=4.0),
    "contrasts": {"benefit": Contrast(arm="personalised", versus="holdout")},
    "profit_contrast": "benefit",
    "weights": {"personalised": 3, "holdout": 1},
    "planned_n": {"personalised": 6000, "holdout": 2000},
    "ends_at": date(2026, 4, 12),
    "decision_rule": "Launch if the gate says GO.",
}
STUDY = """
retailer: Corner shop
markets: [EU]
experiment: spring
arms: {personalised: [ranker], holdout: [none]}
period: {start: 2026-03-02, end: 2026-03-15}
outcome_window_days: 28
as_of: 2026-03-01
margin: 0.5
costs:
  - {line: licence, kind: licences, amount: 0.5, per: customer_year}
"""
PLAN_YML = """
experiment: spring
hypothesis: Offers raise revenue.
contrasts: {benefit: {arm: personalised, versus: holdout}}
primary: {metric: sales.incremental.revenue, contrast: benefit, mde: 4}
profit_contrast: benefit
weights: {personalised: 3, holdout: 1}
planned_n: {personalised: 6000, holdout: 2000}
ends_at: 2026-04-12
decision_rule: Launch if the gate says GO.
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Customers and orders alone; revenue, buyers and complaints in the window are known exactly."""
    folder = tmp_path_factory.mktemp("shop") / "shop"
    (folder / "tables").mkdir(parents=True)
    (folder / "study.yml").write_text(STUDY)
    (folder / "plan.yml").write_text(PLAN_YML)
    draws, n = np.random.default_rng(3), 6_000
    names = np.array([f"C{i:05d}" for i in range(n)])
    joined = np.where(np.arange(n) < 5_000, START - pd.Timedelta(days=400), START - pd.Timedelta(days=5))
    pd.DataFrame({"customer_id": names, "joined_at": joined}).to_csv(folder / "tables" / "customers.csv", index=False)
    habit = draws.gamma(0.8, 0.9, 5_000)
    counts = {"before": draws.poisson(habit), "during": draws.poisson(habit)}
    rows = []
    for when, (first, last) in {"before": (-56, -28), "during": (-28, 0)}.items():
        who = np.repeat(np.arange(5_000), counts[when])
        seconds = draws.integers(first * 86_400, last * 86_400, len(who))
        rows.append(pd.DataFrame({"who": who, "at": START + pd.to_timedelta(seconds, unit="s"), "when": when}))
    orders = pd.concat(rows, ignore_index=True)
    orders["revenue"] = draws.lognormal(3, 0.7, len(orders)).round(2)
    orders["refund"] = 0.0
    table = orders.assign(order_id=[f"O{i}" for i in range(len(orders))], customer_id=names[orders["who"]])
    table = table.rename(columns={"at": "ordered_at"})
    table[["order_id", "customer_id", "ordered_at", "revenue", "refund"]].to_csv(
        folder / "tables" / "orders.csv", index=False
    )
    known = {
        when: part.groupby("who")["revenue"].sum().reindex(range(5_000), fill_value=0)
        for when, part in orders.groupby("when")
    }
    return folder, known


@pytest.fixture
def study(shop, tmp_path):
    return open_study(shutil.copytree(shop[0], tmp_path / "shop"))


def planned(study, **changes):
    """The study with another plan."""
    return replace(study, plan=Plan(**(PLAN | changes)))


@pytest.fixture(scope="module")
def practice(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies") / "practice"
    simulate(folder, "demo", customers=1_500)
    return folder


# the past


def test_the_past_is_the_window_before_the_start(shop, study):
    _, known = shop
    seen = past(study)
    assert len(seen.units) == 5_000 and seen.customers == 6_000  # who joined later had no whole window
    assert (seen.days, seen.first, seen.last) == (28, date(2026, 2, 1), date(2026, 2, 28))
    # as_of lies a day before the start, so the window does too
    shifted = replace(
        study, settings=study.settings.model_copy(update={"as_of": date(2026, 3, 1) + timedelta(days=30)})
    )
    seen = past(shifted)
    assert (seen.first, seen.last) == (date(2026, 2, 2), date(2026, 3, 1)) and "from 2026-02-02" in seen.when
    assert seen.units["revenue"].mean() == pytest.approx(known["during"].mean())
    assert seen.units["revenue"].std() == pytest.approx(known["during"].std())
    assert seen.units["pre_revenue"].mean() == pytest.approx(known["before"].mean())
    assert seen.units["contribution"].mean() == pytest.approx(known["during"].mean() / 2)
    assert seen.units["converted"].mean() == pytest.approx((known["during"] > 0).mean())
    assert sum(seen.arrivals) == (known["during"] > 0).sum() and len(seen.arrivals) == 4
    assert list(study.folder.iterdir()) and not (study.out / "mart").exists()  # nothing is left behind


def test_mart_and_tables_tell_the_same(practice, tmp_path):
    study = open_study(shutil.copytree(practice, tmp_path / "practice"))
    from_tables = past(study)
    prepare(study)
    from_mart = past(study)
    assert from_mart.first is None and "before each customer's assignment" in from_mart.when
    for name in ("revenue", "contribution", "orders", "sessions", "converted"):
        one, two = from_tables.units[name], from_mart.units[name]
        assert one.mean() == pytest.approx(two.mean(), rel=0.1), name
    assert not from_mart.has("opted_out") and from_mart.has("complained")
    (study.folder / "tables" / "assignments.parquet").unlink()
    shutil.rmtree(study.out)
    again = past(open_study(study.folder))
    pd.testing.assert_frame_equal(again.units, from_tables.units)


def test_without_a_past_nothing_is_sized(study):
    orders = study.folder / "tables" / "orders.csv"
    rows = pd.read_csv(orders)
    rows[rows["ordered_at"] > "2026-02-20"].to_csv(orders, index=False)
    with pytest.raises(
        Refusal, match=r"The orders begin \d+ days into the 28 days before the start.*bring the orders since 2026-02-01"
    ):
        past(study)
    rows[rows["ordered_at"] < "2026-01-20"].to_csv(orders, index=False)
    with pytest.raises(Refusal, match="There are no orders in the 28 days before the start"):
        past(study)
    orders.unlink()
    with pytest.raises(Refusal, match=r"There is no table of orders yet.*assignments are not needed yet"):
        past(study)
    rows.assign(revenue="a lot").to_csv(orders, index=False)
    with pytest.raises(InputError, match="not a number"):
        past(study)


# the sizes


def test_the_primary_and_profit_are_sized_by_the_formula(shop, study):
    _, known = shop
    study = replace(study, settings=study.settings.model_copy(update={"as_of": None}))
    sizing = size_plan(study)
    spend = known["during"]
    sd, mean = spend.std(), spend.mean()
    revenue, profit = sizing.gates
    assert (revenue.role, profit.role) == ("primary", "net profit")
    skew = float(((spend - mean) ** 3).mean() / sd**3)
    lift = 4 / mean
    by_hand = sample_size(4.0, mean_spread(sd * (1 + lift), sd, skew), power=0.8, share=0.75)
    assert revenue.n == {
        "personalised": pytest.approx(by_hand.n_arm, abs=5),
        "holdout": pytest.approx(by_hand.n_versus, abs=3),
    }
    assert revenue.rho == pytest.approx(np.corrcoef(spend, known["before"])[0, 1])
    assert revenue.n_adjusted == pytest.approx((1 - revenue.rho**2) * sum(revenue.n.values()), rel=0.02)
    # contribution is half of revenue: half the gain, less the cost of four weeks
    assert profit.gate.effect == pytest.approx(2 - 0.5 * 28 / 365)
    # one is nearly the other, so together they are as likely as the weaker alone
    assert sizing.planned.power == pytest.approx(sizing.planned.most, abs=1e-3)
    assert sizing.planned.power > sizing.planned.independent
    assert sizing.planned.each["Revenue per customer"] == pytest.approx(revenue.planned)
    assert sizing.needed.drives == "Net profit per customer"
    assert sizing.ratio == pytest.approx(8000 / sizing.needed.total)  # the planned arms are as the weights have it
    lopsided = size_plan(planned(study, planned_n={"personalised": 4000, "holdout": 4000}))
    assert lopsided.needed == sizing.needed and lopsided.ratio > sizing.ratio
    (row,) = planned_evidence(sizing)
    assert (row.id, row.kind, row.threshold) == ("method.power.planned", "exact", 1.0)
    assert row.verdict == ("pass" if sizing.ratio >= 1 else "fail")


def test_a_guardrail_is_sized_at_its_margin_or_left_out_by_name(study):
    guard = Guardrail(metric="risk.complaints.rate", contrast="benefit", margin=0.01)
    sizing = size_plan(planned(study, guardrails=[guard, guard.model_copy(update={"metric": "loyalty.nps"})]))
    assert sizing.out["Customers who complained"].startswith("no data before the start; state a `rate`")
    assert "loyalty.nps" in sizing.out and len(sizing.gates) == 2
    stated = size_plan(planned(study, guardrails=[guard.model_copy(update={"rate": 0.02})]))
    *_, complaints = stated.gates
    assert complaints.stated and complaints.level == 0.02 and "as stated" in str(stated)
    assert complaints.planned == pytest.approx(power_of(0.01, share_spread(0.02, 0.02), 6000, 2000))
    assert stated.planned.power < sizing.planned.power
    percent = guard.model_copy(update={"rate": 0.02, "margin": 2.0})
    with pytest.raises(InputError, match="no share can change by that much"):
        size_plan(planned(study, guardrails=[percent]))
    slip = size_plan(planned(study, guardrails=[guard.model_copy(update={"metric": "risk.complaint.rate"})]))
    assert "did you mean `risk.complaints.rate`?" in slip.out["risk.complaint.rate"]
    orders = Guardrail(metric="sales.value.order", contrast="benefit", margin=2.0)
    twice = size_plan(planned(study, guardrails=[orders, orders]))
    assert len({one.gate.name for one in twice.gates}) == 4


def test_a_smallest_effect_that_does_not_pay_is_said_so(study):
    poor = replace(study, settings=study.settings.model_copy(update={"hurdle": 3.0}))
    sizing = size_plan(poor)
    assert sizing.needed is None and sizing.ratio is None and planned_evidence(sizing) == []
    assert "does not pay" in sizing.refusal and "well above EUR 6.0" in sizing.refusal
    assert sizing.money is not None and "does not pay" in str(sizing)


def test_without_a_smallest_effect_the_reverse_is_still_said(study):
    sizing = size_plan(planned(study, primary=PLAN["primary"].model_copy(update={"mde": None})))
    assert "write `mde:` under `primary`" in sizing.refusal and planned_evidence(sizing) == []
    smallest = sizing.reach[0]
    again = size_plan(planned(study, primary=PLAN["primary"].model_copy(update={"mde": smallest})))
    assert again.gates[0].planned == pytest.approx(0.8, abs=1e-6)


def test_looks_before_the_end_take_more_customers(study):
    """At the end an agreed look keeps nearly the usual width, a sequence is half as wide again; each is in the size."""
    once = size_plan(study)
    agreed = size_plan(planned(study, looks=[date(2026, 4, 5), "end"]))
    always = size_plan(planned(study, looks=["always"]))
    assert (once.alpha, once.looks) == (0.05, "")
    halfway = 2 * norm.sf(boundaries([0.5, 1.0])[-1])
    assert agreed.alpha == pytest.approx(halfway, rel=0.02)  # 6 of 13 days: nearly half
    assert always.alpha == pytest.approx(2 * norm.sf(multiple(10_000, 10_000)), rel=1e-9)
    assert once.needed.total < agreed.needed.total < 1.05 * once.needed.total
    assert 1.6 * once.needed.total < always.needed.total < 2.4 * once.needed.total
    assert "wider than with one look" in str(always)


def test_what_everybody_together_can_show(study):
    sizing = size_plan(study)
    _, alone, together = sizing.reach
    assert alone < together  # profit has to be shown too
    n = {arm: 5000 * share for arm, share in {"personalised": 0.75, "holdout": 0.25}.items()}
    found = size_plan(planned(study, primary=PLAN["primary"].model_copy(update={"mde": together})))
    assert found.needed.total == pytest.approx(sum(n.values()), abs=3)
    tight = Guardrail(metric="sales.value.order", contrast="benefit", margin=0.01)
    assert size_plan(planned(study, guardrails=[tight])).reach[2] is None


def test_weeks_money_and_too_few_customers(study):
    sizing = size_plan(planned(study, primary=PLAN["primary"].model_copy(update={"mde": 6.0})))
    assert sizing.enrolled.startswith(
        "Drawn from the customer list, as the plan's dates have it: 6 weeks with 2 weeks of enrolment"
    )
    assert sizing.done_at == date(2026, 4, 12) and sizing.duration.window == 4
    assert sizing.money.gain == pytest.approx(3.0) and sizing.money.cost == pytest.approx(0.5 * 28 / 365)
    assert sizing.money.holdout_week == pytest.approx(0.25 * 6000 * 3.0 / 4)
    assert sizing.money.waiting_week == pytest.approx(6000 * (3.0 - sizing.money.cost) / 4)
    small = size_plan(planned(study, primary=PLAN["primary"].model_copy(update={"mde": 1.0})))
    assert (
        small.duration is None
        and small.enrolled.startswith("It cannot be done: ")
        and "The plan is too small." in str(small)
    )
    assert small.curve.iloc[0]["all together"] < small.curve.iloc[-1]["all together"]


def test_households_drawn_whole_need_more(study, shop):
    people = study.folder / "tables" / "customers.csv"
    table = pd.read_csv(people)
    order = shop[1]["during"].sort_values().index  # households whose members spend alike
    home = np.arange(len(table)) // 4
    home[order] = np.arange(5_000) // 4
    table.assign(household_id=[f"H{code}" for code in home]).to_csv(people, index=False)
    single = size_plan(study)
    whole = size_plan(planned(study, assignment={"salt": "a", "cluster": "household_id"}))
    assert sum(whole.gates[0].n.values()) > 2 * sum(single.gates[0].n.values())
    table.assign(household_id=np.where(np.arange(len(table)) % 2, "H1", "H2")).to_csv(people, index=False)
    with pytest.raises(Refusal, match="there are 2: with fewer than 30"):
        size_plan(planned(study, assignment={"salt": "a", "cluster": "household_id"}))


def test_what_cannot_be_sized_is_refused(study):
    with pytest.raises(InputError, match="there is no plan to size"):
        size_plan(replace(study, plan=None))
    with pytest.raises(Refusal, match="cannot be sized from the past: there is no definition"):
        size_plan(planned(study, primary=Primary(metric="loyalty.nps", contrast="benefit", mde=1.0)))
    with pytest.raises(Refusal, match="Revenue per visit did not occur"):
        size_plan(planned(study, primary=Primary(metric="sales.value.visit", contrast="benefit", mde=1.0)))
    with pytest.raises(InputError, match="write points as a fraction"):
        size_plan(planned(study, primary=Primary(metric="sales.conversion.rate", contrast="benefit", mde=2.0)))
    share = size_plan(planned(study, primary=Primary(metric="sales.conversion.rate", contrast="benefit", mde=0.05)))
    assert share.gates[0].unit_of_effect == "points" and share.needed is not None
    profit = size_plan(planned(study, primary=Primary(metric="sales.incremental.profit", contrast="benefit", mde=2.0)))
    assert [one.role for one in profit.gates] == ["net profit"] and profit.gates[0].gate.effect == 2.0
