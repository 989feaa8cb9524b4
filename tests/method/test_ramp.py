"""Comparing within stage and week of entry: right where pooled means are wrong, in size and in sign."""

from datetime import date
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from benchmarks.calibration.ramps import pooled, sizes, stages
from scipy import stats

from fairlift.errors import InputError, Refusal
from fairlift.method.effect import effect
from fairlift.method.metric import Covariates, Mean
from fairlift.method.moments import Moments, moments
from fairlift.method.ramp import (
    ENTRY,
    by_cell,
    drift,
    entry_cells,
    pooled_srm,
    ramp_evidence,
    srm_stages,
    stage_of,
    within_stages,
)
from fairlift.method.srm import balance, srm
from fairlift.method.validity import validity_evidence
from fairlift.risk.complaints import complaints_evidence
from fairlift.sales.incremental import incremental_evidence
from fairlift.simulate import costs_of, draw_units, effects, population, read_scenario
from fairlift.simulate.write import plan_yaml, study_yaml
from fairlift.study import Standing, Study, open_study

PAIR = "@all:personalised-vs-holdout"


def planned(scenario):
    """The stages of a scenario's ramp as a plan states them."""
    return [
        SimpleNamespace(
            start=(pd.Timestamp(scenario.start) + pd.Timedelta(days=one.from_day)).date(), weights=one.weights
        )
        for one in scenario.ramp
    ]


@pytest.fixture(scope="module", params=["ramp-simpson", "ramp-flattered"])
def ramped(request):
    s = read_scenario(request.param)
    truth = effects(population(s), costs_of(s, s.customers), s.window_days, s.customers)
    return draw_units(s, 5), planned(s), truth[f"sales.incremental.revenue{PAIR}"]


def test_within_stage_and_week_holds_the_truth_that_pooled_means_turn_round(ramped):
    units, its_stages, truth = ramped
    compared, entry = within_stages(units, its_stages)
    assert len(compared) == len(units)
    found = moments(compared, Mean("revenue"), "arm", day=entry)
    within = effect(found, Mean("revenue"), "personalised", "holdout", by=("day",))
    assert within.low < truth < within.high
    pooled_means = effect(found, Mean("revenue"), "personalised", "holdout")
    # a gain read as a loss, or nothing read as a gain
    assert pooled_means.high < 0 < truth if truth > 0 else pooled_means.low > 10


def test_evidence_of_a_study_is_read_within_its_stages(tmp_path):
    """Profit, its return and every KPI follow the plan's stages; the same study without them reads a loss."""
    s = read_scenario("ramp-simpson")
    (tmp_path / "study.yml").write_text(study_yaml(s, s.customers), encoding="utf-8")
    (tmp_path / "plan.yml").write_text(plan_yaml(s, s.customers), encoding="utf-8")
    opened = open_study(tmp_path)
    truth = effects(population(s), costs_of(s, s.customers), s.window_days, s.customers)
    found = {}
    for name, plan in (("staged", opened.plan), ("pooled", opened.plan.model_copy(update={"stages": []}))):
        registered = Standing("registered", "by the test")
        study = Study.in_memory(opened.settings, plan, draw_units(s, 5), registered, s.customers)
        rows = (*incremental_evidence(study), *complaints_evidence(study))
        found[name] = {row.label: row for row in rows if row.value is not None}
    labels = [f"{name}{PAIR}" for name in ("sales.incremental.profit", "sales.roi.ratio", "sales.conversion.rate")]
    labels += [f"{name}{PAIR}" for name in ("sales.incremental.lift", "sales.incremental.revenue_adjusted")]
    for label in labels:
        right, wrong = found["staged"][label], found["pooled"][label]
        assert right.low < truth[label] < right.high, label
        assert wrong.high < 0 < truth[label] or "adjusted" in label, label
    assert found["staged"].keys() == found["pooled"].keys()
    assert found["staged"][f"risk.complaints.rate{PAIR}"].value != found["pooled"][f"risk.complaints.rate{PAIR}"].value


def test_the_estimate_is_the_cells_own_differences_by_their_shares(ramped):
    units, its_stages, _ = ramped
    compared, entry = within_stages(units, its_stages)
    seen = effect(
        moments(compared, Mean("revenue"), "arm", day=entry), Mean("revenue"), "personalised", "holdout", by="day"
    )
    means = compared.pivot_table(index=entry, columns="arm", values="revenue")
    shares = compared[entry].value_counts(normalize=True).sort_index()
    assert seen.value == pytest.approx(((means["personalised"] - means["holdout"]) * shares).sum(), rel=1e-9)


def test_sizes_and_balance_hold_within_stages_and_fail_pooled(ramped):
    units, its_stages, _ = ramped
    weights = its_stages[-1].weights
    covariates, contrasts = ["pre_orders", "pre_revenue"], [("personalised", "holdout")]
    right = validity_evidence(units, weights, covariates, contrasts, 56, its_stages)
    wrong = validity_evidence(units, weights, covariates, contrasts, 56)
    assert [row.verdict for row in right] == ["pass", "pass"]
    assert [row.verdict for row in wrong] == ["fail", "fail"]


def test_customers_lost_in_one_stage_are_found():
    s = read_scenario("ramp-simpson")
    units = draw_units(s, 6)
    second = stage_of(units, planned(s)) == 1
    lost = second & (units["arm"] == "holdout") & (units["unit"] % 7 == 0)
    assert not srm_stages(units, planned(s)).failed
    assert srm_stages(units[~lost], planned(s)).failed


def test_one_stage_is_the_plain_test():
    days = [date(2026, 6, 15)] * 1000
    units = pd.DataFrame({"arm": ["a"] * 480 + ["b"] * 520, "enrolled": days})
    one = srm_stages(units, [SimpleNamespace(start=date(2026, 6, 15), weights={"a": 1, "b": 1})])
    assert one == srm({"a": 480, "b": 520}, {"a": 1, "b": 1})


def test_detectable_is_what_the_test_finds_as_often_as_it_says():
    shares = np.array([[0.1, 0.9], [0.5, 0.5]])
    test = _counts([[100, 900], [500, 500]], shares)
    draws, wrong = np.random.default_rng(3), shares + test.detectable * np.array([1, -1])
    failed = [_counts([draws.multinomial(1000, row) for row in wrong], shares).failed for _ in range(600)]
    assert 0.74 < np.mean(failed) < 0.88  # .8 asked for


def _counts(counts, shares):
    return pooled_srm(["a", "b"], np.array(counts), shares, 0.001, 0.8)


def test_balance_within_cells_is_the_regression_with_a_level_for_each_cell():
    """A peer: least squares with cell effects; alike cells, so that its one variance is the right one."""
    draws = np.random.default_rng(4)
    cell = draws.integers(3, size=900)
    new = draws.random(900) < np.array([0.2, 0.5, 0.7])[cell]
    rows = pd.DataFrame({"cell": cell, "arm": np.where(new, "new", "old"), "x": 3.0 * cell + draws.normal(size=900)})
    found = moments(rows, Covariates("x"), "arm", day="cell")
    within = balance(found, ["x"], "new", "old", by=("day",))
    fit = smf.ols("x ~ C(arm, Treatment('old')) + C(cell)", rows).fit()
    name = "C(arm, Treatment('old'))[T.new]"
    gap = within.differences["x"] * np.sqrt((rows.x[new].var() + rows.x[~new].var()) / 2)
    assert gap == pytest.approx(fit.params[name], rel=1e-9)
    assert within.statistic == pytest.approx(fit.tvalues[name] ** 2, rel=0.05)
    assert balance(found, ["x"], "new", "old").failed
    assert not within.failed


def test_balance_within_cells_is_level_where_the_cells_spread_differently():
    draws, times, n = np.random.default_rng(5), 400, 600
    spread, share = np.array([5.0, 1.0]), np.array([0.05, 0.5])
    cell = np.arange(times * n) % 2
    rows = pd.DataFrame({"cell": cell, "x": spread[cell] * draws.normal(size=times * n)})
    rows["arm"] = np.where(draws.random(times * n) < share[cell], "new", "old")
    rows["run"] = np.arange(times * n) // n
    found = moments(rows, Covariates("x"), "arm", stratum="run", day="cell")
    runs = [Moments(cells, found.metrics) for _, cells in found.cells.groupby("stratum")]
    p = [balance(run, ["x"], "new", "old", by="day").p for run in runs]
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.09
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_thin_weeks_are_joined_within_their_stage_and_a_stage_without_an_arm_is_left_out():
    start = pd.Timestamp("2026-06-15")
    sizes_of = [(60, 60), (10, 70), (45, 60), (5, 80), (80, 90), (3, 4), (0, 300)]  # new and old by week
    rows = [
        {"arm": arm, "enrolled": (start + pd.Timedelta(weeks=week)).date()}
        for week, pair in enumerate(sizes_of)
        for arm, n in zip(("new", "old"), pair, strict=True)
        for _ in range(n)
    ]
    shares = {"new": 0.5, "old": 0.5}
    cut = [SimpleNamespace(start=(start + pd.Timedelta(weeks=w)).date(), weights=shares) for w in (0, 4, 6)]
    units = pd.DataFrame(rows)
    cells = entry_cells(units, cut, least=50)
    counts = units.assign(cell=cells).groupby(["cell", "arm"]).size().unstack()
    assert counts.index.tolist() == ["stage 1, week 2026-W25", "stage 1, week 2026-W26", "stage 2, week 2026-W29"]
    assert counts["new"].tolist() == [60, 60, 83]
    compared, entry = within_stages(units, cut, least=50)
    assert (entry, len(units) - len(compared)) == (ENTRY, 300)
    nobody, _ = within_stages(units, cut, least=1000)
    with pytest.raises(Refusal, match="no units"):
        effect(moments(nobody.assign(y=1.0), Mean("y"), "arm", day=ENTRY), Mean("y"), "new", "old", by="day")


def test_a_ramp_that_nobody_wrote_down_shows_as_a_drift():
    s = read_scenario("ramp-simpson")
    units = draw_units(s, 7, 20_000)
    assert drift(units)[0] < 1e-9
    assert drift(units, planned(s))[0] > 0.001
    rows = ramp_evidence(units, planned(s))
    assert "did not move" in rows[0].statement
    assert rows[1].value == 0
    assert "moved" in ramp_evidence(units, [])[0].statement
    level = [drift(units.assign(arm=np.random.default_rng(i).permutation(units["arm"])))[0] for i in range(40)]
    assert 0.3 < np.mean(level) < 0.7


def test_each_cell_by_itself_adds_up_to_the_whole(ramped):
    units, its_stages, _ = ramped
    compared, entry = within_stages(units, its_stages)
    cells = by_cell(compared, Mean("revenue"), "personalised", "holdout")
    whole = effect(
        moments(compared, Mean("revenue"), "arm", day=entry), Mean("revenue"), "personalised", "holdout", by="day"
    )
    assert (cells.value * cells.units).sum() / cells.units.sum() == pytest.approx(whole.value)
    assert cells.share_arm.to_numpy() == pytest.approx(np.repeat([0.1, 0.35, 0.6], 2), abs=0.03)


def test_without_stages_nothing_changes():
    units = pd.DataFrame({"arm": ["a", "b"], "enrolled": [date(2026, 6, 15)] * 2})
    same, entry = within_stages(units, [])
    assert same is units
    assert entry is None


def test_stages_out_of_order_and_too_few_are_refused():
    late, early = (SimpleNamespace(start=date(2026, 6, day), weights={"a": 1, "b": 1}) for day in (20, 10))
    units = pd.DataFrame({"arm": ["a", "b"], "enrolled": [date(2026, 6, 15)] * 2})
    with pytest.raises(InputError, match="follow each other"):
        stage_of(units, [late, early])
    with pytest.raises(Refusal, match="5 are needed"):
        srm_stages(units, [early])
    with pytest.raises(InputError, match="no planned weight"):
        srm_stages(units.assign(arm=["a", "c"]), [early])


def test_calibration_of_the_ramp():
    right, naive, null, naive_null = pooled(300, 7)
    assert 0.9 < right.coverage < 0.99
    assert 0.9 < null.coverage < 0.99
    assert naive.coverage < 0.01
    assert naive_null.false_positive > 0.99
    within, averaged, last = sizes(500, 7)
    assert within.false_positive < 0.01
    assert within.power > 0.6
    assert min(averaged.false_positive, last.false_positive) > 0.99
    assert len(stages()) == 3


def test_without_planned_shares_the_sizes_are_not_judged():
    units = pd.DataFrame({"arm": ["personalised"] * 900 + ["holdout"] * 100})
    (row,) = validity_evidence(units, {}, [], [("personalised", "holdout")], 28)
    assert row.p is None and row.verdict not in ("pass", "fail") and "no planned shares are known" in row.statement
