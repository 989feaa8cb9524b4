"""A scenario is a file: read, checked, laid over another, and each one does to the data what its sentence says."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chisquare, norm

from fairlift.errors import InputError
from fairlift.simulate import costs_of, draw_units, effects, holds, population, read_scenario, scenarios, simulate
from fairlift.simulate.scenario import ARMS, BENEFIT
from fairlift.study import open_study
from fairlift.study.costs import cost_per_customer
from fairlift.study.prepare import prepare

LOUD = """
name: loud
like: clean-win
sentence: Personal offers annoy.
treatments:
  personalised: {complaints: 90, orders: 0.9}
truth:
  decision: no_go
  reasons: [risk.complaints.rate]
  formula:
    "risk.complaints.rate@all:personalised-vs-holdout": "> 0.05"
    "sales.incremental.revenue@all:personalised-vs-holdout": "< 0"
"""


def wrong(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "mine.yml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as refused:
        read_scenario(path)
    return [str(problem) for problem in refused.value.problems]


def test_the_scenarios_that_the_gate_is_measured_by_are_there():
    assert {
        "demo",
        "clean-win",
        "no-effect",
        "break-even",
        "broken-randomisation",
        "unfair-targeting",
        "contaminated",
    } <= set(scenarios())


def test_a_new_scenario_is_a_file(tmp_path):
    path = tmp_path / "loud.yml"
    path.write_text(LOUD, encoding="utf-8")
    truth = simulate(tmp_path / "study", path, seed=3, customers=1_500)
    assert (truth["scenario"], truth["decision"]) == ("loud", "no_go")
    assert all(holds(read_scenario(path).truth.formula, truth["population"]).values())
    complained = draw_units(path, seed=3, customers=1_500).groupby("arm")["complained"].mean()
    assert complained["personalised"] > complained["holdout"] + 0.03
    assert open_study(tmp_path / "study").settings.experiment == "personal-offers"


@pytest.mark.parametrize("customers", [1, 2, 7])
def test_a_handful_of_customers_is_a_study_too(tmp_path, customers):
    truth = simulate(tmp_path / "study", "clean-win", customers=customers)
    assert truth["customers"] == customers
    assert len(draw_units("clean-win", customers=customers)) <= customers


def test_a_file_may_stand_on_another_beside_it(tmp_path):
    (tmp_path / "loud.yml").write_text(LOUD, encoding="utf-8")
    louder = tmp_path / "louder.yml"
    louder.write_text("name: louder\nlike: loud\ntreatments: {personalised: {complaints: 200}}\n", encoding="utf-8")
    s = read_scenario(louder)
    assert s.treatments["personalised"].complaints == 200
    assert s.treatments["personalised"].orders == 0.9
    assert s.treatments["none"] == read_scenario("clean-win").treatments["none"]


def test_a_ramp_that_moves_the_holdout_or_starts_late_is_refused(tmp_path):
    ramp = """
ramp:
  - {from_day: 3, weights: {personalised: 0.2, control: 0.5, holdout: 0.3}}
  - {from_day: 9, weights: {personalised: 0.5, control: 0.1, holdout: 0.4}}
truth:"""
    text = " ".join(wrong(tmp_path, LOUD.replace("\ntruth:", ramp)))
    assert "must start on day 0" in text
    assert "holdout's share changes" in text
    assert "those of the last stage" in text


def test_an_answer_replaces_the_old_one_whole():
    assert set(read_scenario("clean-win").answers["law.dpia.signed"]) == {"status", "who", "when", "evidence"}


def test_every_problem_is_named_at_once_with_its_line(tmp_path):
    text = LOUD.replace("treatments:", "custmers: 5\ncustomers: -1\ntreatments:").replace(
        "complaints: 90", "complaint: 90"
    )
    found = wrong(tmp_path, text)
    assert any("`custmers`, line 5" in line and "`customers`" in line for line in found)
    assert any("`customers`, line 6" in line and "greater than 0" in line for line in found)
    assert any("complaint" in line and "did you mean `complaints`" in line for line in found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("weights: {personalised: 0.5}", "adds up to 1.05"),
        ("attributes: {sex: {values: {female: {share: 0.7}}}}", "add up to 1.16 for all"),
        ("attributes: {sex: {given: segment}}", "must be listed before it"),
        ("offers: {less: [{attribute: sex, value: none, factor: 0.5}]}", "which no customer has"),
        ("settle_days: 20", "must exceed the last return"),
        ("like: nothing", "there is no scenario `nothing`"),
        ("like: mine", "leads back"),
    ],
)
def test_a_scenario_that_contradicts_itself_is_refused(tmp_path, change, said):
    base = LOUD.replace("like: clean-win\n", "") if change.startswith("like") else LOUD
    assert said in " ".join(wrong(tmp_path, base + change + "\n"))


def test_costs_that_cannot_break_even_are_refused(tmp_path):
    path = tmp_path / "loud.yml"
    costs = "costs: [{line: Licence, kind: licences, amount: break_even, per: year}]\n"
    path.write_text(LOUD + costs, encoding="utf-8")
    with pytest.raises(InputError, match="negative to break even"):
        simulate(tmp_path / "study", path, customers=100)


def gates(name: str, seed: int = 99) -> dict[str, float]:
    """How many standard errors each gate's limit lies on the good side of its threshold, in expectation; 0 is even odds."""
    s = read_scenario(name)
    costs = costs_of(s, s.customers)
    truth = effects(population(s), costs, s.window_days, s.customers, s.study["protected"])
    units = draw_units(s, seed)
    per_exposure = cost_per_customer(costs, s.window_days, s.customers)[1]
    one, two = units[units["arm"] == "personalised"], units[units["arm"] == "holdout"]

    def se(values) -> float:
        return float(np.sqrt(sum(values(arm).var() / len(arm) for arm in (one, two))))

    def ratio(over: str, under: str):
        return lambda arm: (arm[over] - arm[over].sum() / arm[under].sum() * arm[under]) / arm[under].mean()

    pair = "@all:personalised-vs-holdout"
    found = {
        "revenue": truth["sales.incremental.revenue" + pair] / se(lambda arm: arm["revenue"]),
        "profit": truth[BENEFIT] / se(lambda arm: arm["contribution"] - per_exposure * arm["personalised_exposures"]),
    }
    spread = {
        "risk.complaints.rate": lambda arm: arm["complained"],
        "risk.optout.rate": lambda arm: arm["opted_out"],
        "risk.optout.unsubscribed": lambda arm: arm["unsubscribed"],
        "sales.returns.rate": ratio("refund", "revenue"),
        "sales.value.order": ratio("revenue", "orders"),
    }
    for guardrail in s.plan["guardrails"]:
        metric, margin = guardrail["metric"], guardrail["margin"]
        worse = -truth[metric + pair] if metric == "sales.value.order" else truth[metric + pair]
        found[metric] = (margin - worse) / se(spread[metric])
    reached = one["personalised_exposures"] > 0
    for attribute in s.study["protected"]:
        for value in s.values(attribute):
            group = one[attribute] == value
            variance = reached[group].var() / group.sum() + reached[~group].var() / (~group).sum()
            gap = truth[f"ethics.fairness.exposure@{attribute}={value}:personalised"]
            found[f"{attribute}={value}"] = (gap + 0.05) / np.sqrt(variance)
    return {gate: float(z) - norm.isf(0.025) for gate, z in found.items()}


def test_clean_win_passes_every_gate_together():
    missed = {gate: norm.sf(z) for gate, z in gates("clean-win").items()}
    assert len(missed) > 15
    assert sum(missed.values()) < 0.01, {gate: p for gate, p in missed.items() if p > 0.001}


def test_in_break_even_only_profit_stands_in_the_way():
    missed = {gate: norm.sf(z) for gate, z in gates("break-even").items()}
    assert missed.pop("profit") == pytest.approx(0.975, abs=1e-6)
    assert sum(missed.values()) < 0.05, {gate: p for gate, p in missed.items() if p > 0.005}


def test_the_demo_would_pass_its_benefit_with_the_default_seed():
    s = read_scenario("demo")
    units = draw_units(s, seed=1)
    fixed, per_exposure = cost_per_customer(costs_of(s, s.customers), s.window_days, s.customers)
    net = (
        units["contribution"]
        - per_exposure * units["personalised_exposures"]
        - fixed * (units["arm"] == "personalised")
    )
    for values in (units["revenue"], net):
        one, two = (values[units["arm"] == arm] for arm in ("personalised", "holdout"))
        assert (one.mean() - two.mean()) / np.sqrt(one.var() / len(one) + two.var() / len(two)) > 2.5


def test_retail_spend_is_what_it_is_in_life():
    """Many buy nothing, a few buy a lot, and one customer is never the whole story."""
    units = draw_units("demo", seed=8)
    assert 0.45 < units["converted"].mean() < 0.65
    assert 3 < units["revenue"].skew() < 8
    assert units["revenue"].max() < 0.005 * units["revenue"].sum()
    assert units["pre_revenue"].corr(units["revenue"]) > 0.3


def test_broken_randomisation_is_found_with_certainty():
    s = read_scenario("broken-randomisation")
    for seed in range(3):
        counts = draw_units(s, seed)["arm"].value_counts()
        expected = np.array([s.weights[arm] for arm in ARMS]) * counts.sum()
        assert chisquare(counts[list(ARMS)], expected).pvalue < 1e-20
    whole = draw_units("clean-win", seed=0)["arm"].value_counts()
    weights = read_scenario("clean-win").weights
    assert chisquare(whole[list(ARMS)], np.array([weights[arm] for arm in ARMS]) * whole.sum()).pvalue > 0.001


def test_unfair_targeting_shows_in_one_group():
    units = draw_units("unfair-targeting", seed=1).query("arm == 'personalised'")
    reached = (units["personalised_exposures"] > 0).groupby(units["age_band"]).mean()
    assert reached.idxmin() == "65 and over"
    assert reached.drop("65 and over").min() - reached["65 and over"] > 0.3


def test_a_leak_changes_nobody_but_those_it_reached():
    """Its random numbers are its own: everybody else does what she does in clean-win, to the cent.

    Opens and clicks are drawn offer by offer, so they alone differ.
    """
    clean, leaky = (
        draw_units(name, seed=4, customers=8_000).drop(columns=["opened", "clicked"])
        for name in ("clean-win", "contaminated")
    )
    reached = (leaky["arm"] == "holdout") & (leaky["exposures"] > 0)
    assert clean[~reached].equals(leaky[~reached])
    assert 0.06 < reached.sum() / (leaky["arm"] == "holdout").sum() < 0.1
    assert leaky.loc[reached, "orders"].sum() > clean.loc[reached, "orders"].sum()


def test_in_contaminated_every_other_gate_is_passed():
    missed = {gate: norm.sf(z) for gate, z in gates("contaminated").items()}
    assert sum(missed.values()) < 0.01, {gate: p for gate, p in missed.items() if p > 0.001}


def test_prepare_makes_the_units_that_draw_units_draws(tmp_path):
    simulate(tmp_path / "study", "unfair-targeting", seed=6, customers=2_000)
    study = open_study(tmp_path / "study")
    prepare(study)
    made = open_study(tmp_path / "study").table("units")
    drawn = draw_units("unfair-targeting", seed=6, customers=2_000)
    assert set(made.columns) == set(drawn.columns)
    for column in made:
        if made[column].dtype.kind in "ifb":
            assert np.allclose(made[column].astype(float), drawn[column].astype(float), atol=1e-6, equal_nan=True), (
                column
            )
        elif column != "stratum":
            assert (made[column].astype(str) == drawn[column].astype(str)).all(), column
