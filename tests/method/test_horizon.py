"""The effect by week on one cohort: against totals, a peer, known truths, and the naive curves on the same draws."""

from dataclasses import replace
from datetime import date

import ibis
import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from benchmarks.calibration.horizons import added_up, changing, curve, lasting
from tests.method.test_ramp import planned

from fairlift.errors import InputError, Refusal
from fairlift.method.effect import effect
from fairlift.method.horizon import (
    LongTerm,
    Panel,
    _moments,
    by_horizon,
    by_week,
    detectable,
    fading,
    followed_days,
    forgone,
    horizon_evidence,
    long_term,
    panel,
    short_beside_long,
    simultaneous,
    still_active,
)
from fairlift.method.interval import fieller
from fairlift.method.metric import Mean
from fairlift.method.moments import moments
from fairlift.method.ramp import within_stages
from fairlift.simulate import draw_unit_days, draw_units, population, read_scenario
from fairlift.simulate.calendar import calendar
from fairlift.simulate.truth import weekly_effect

PAIR = ("personalised", "holdout")


def made(scenario, seed=1, customers=None, weeks=8):
    units, days = draw_units(scenario, seed, customers), draw_unit_days(scenario, seed, customers)
    return units, panel(units, days, "revenue", weeks), panel(units, days, "orders", weeks)


@pytest.fixture(scope="module")
def steady():
    return made("clean-win", 2, 20_000)


@pytest.fixture(scope="module")
def fresh():
    return made("novelty", 3)


def test_the_last_horizon_is_the_effect_of_the_whole_window(steady):
    units, money, _ = steady
    whole = effect(moments(units, Mean("revenue"), "arm"), Mean("revenue"), *PAIR)
    last = by_horizon(money, *PAIR).iloc[-1]
    assert last.days == 56
    assert (last.value, last.se) == pytest.approx((whole.value, whole.se), rel=1e-9)
    assert (last.alone_low, last.alone_high) == pytest.approx((whole.low, whole.high), rel=1e-9)


def test_weeks_add_up_to_horizons(steady):
    _, money, _ = steady
    weeks, horizons = by_week(money, *PAIR), by_horizon(money, *PAIR, [7, 21, 56])
    assert np.cumsum(weeks.value)[[0, 2, 7]].tolist() == pytest.approx(horizons.value.tolist())
    assert horizons.low.lt(horizons.alone_low).all()


def test_the_moments_are_the_engine_s():
    draws = np.random.default_rng(4)
    values = [draws.gamma(0.4, 20, 500) * (draws.random(500) < 0.6), draws.normal(1e6, 1, 500)]
    cohort = Panel("x", draws.choice(["new", "old"], 500).astype(object), np.zeros((500, 1)), {}, {})
    cohort = Panel("x", cohort.arm, cohort.weeks, {}, {}, draws.choice(["a", "b"], 500).astype(object))
    metrics = [Mean("x0"), Mean("x1")]
    frame = pd.DataFrame({"arm": cohort.arm, "entry": cohort.entry, "x0": values[0], "x1": values[1]})
    engine = moments(frame, metrics, "arm", day="entry").cells
    mine = _moments(cohort, values, metrics).cells[list(engine.columns)]
    for name in engine.columns[3:]:
        assert np.allclose(mine[name], engine[name], rtol=1e-7, atol=1e-6 if "sum" in name else 0), name
    assert mine[["arm", "day"]].equals(engine[["arm", "day"]])


def test_the_truth_by_week_is_that_of_the_fading_factor():
    """The novelty changes orders alone, so each week's share of its revenue is the factor's share of demand."""
    s = read_scenario("novelty")
    when = calendar(s)
    novelty = s.treatments["personalised"].novelty
    upto = [
        (replace(when, window=7 * 86_400 * k).fading(when.batches, novelty.decay)).mean() if k else 0.0
        for k in range(s.window_weeks + 1)
    ]
    means = population(s)
    total = means.arms["personalised"]["revenue"] - means.arms["holdout"]["revenue"]
    assert weekly_effect(s) == pytest.approx(total * np.diff(upto) / upto[-1], rel=1e-9)
    steady = read_scenario("clean-win")
    edges = calendar(steady).batches + 7 * 86_400 * np.arange(9)[:, None]
    demand = calendar(steady).demand(edges[:-1], edges[1:]).mean(axis=1)
    assert np.ptp(weekly_effect(steady) / demand) == pytest.approx(0, abs=1e-9)  # constant but for the season


def test_a_novelty_is_recovered_week_by_week_and_found_to_fade(fresh):
    s = read_scenario("novelty")
    _, money, _ = fresh
    truth = weekly_effect(s)
    weeks = by_week(money, *PAIR)
    assert ((weeks.low < truth) & (truth < weeks.high)).all()
    curve_of = by_horizon(money, *PAIR)
    expected = np.cumsum(truth)[(curve_of.days // 7 - 1).to_numpy()]
    assert ((curve_of.low < expected) & (expected < curve_of.high)).all()
    seen = fading(money, *PAIR)
    assert seen.verdict == "fades"
    assert seen.ratio[2] < 1
    naive = 4 * curve_of.set_index("days").loc[14]
    assert naive.alone_low > truth.sum() * 1.5  # a fortnight times four does not even come near


def test_evidence_passes_where_the_gain_lasts_and_not_where_it_was_new(steady, fresh):
    for (_, money, _), verdict in ((steady, "pass"), (fresh, "inconclusive")):
        seen = fading(money, *PAIR, first_weeks=6)
        rows = horizon_evidence(LongTerm("revenue", *PAIR, 8, money, None, seen), "EUR")
        assert [row.id for row in rows] == [f"method.horizons.{name}" for name in ("late", "early", "change")]
        assert [row.verdict for row in rows] == [verdict, "reported", "reported"]


def test_a_reading_that_is_refused_leaves_its_reason():
    units = pd.DataFrame({"unit": range(40), "arm": ["new", "old"] * 20})
    days = pd.DataFrame({"unit": range(30), "day": 3, "spend": 1.0})
    reading = long_term(units, days, "spend", 4, "new", "old")
    (row,) = horizon_evidence(reading, "EUR")
    assert reading.refusal in row.statement
    assert row.verdict == "inconclusive"
    assert long_term(*_steady_tables(), "revenue", 8, *PAIR).fading.verdict == "no change shown"


def _steady_tables():
    return draw_units("clean-win", 2, 20_000), draw_unit_days("clean-win", 2, 20_000)


def test_a_lasting_lift_is_not_said_to_fade(steady):
    seen = fading(steady[1], *PAIR)
    assert seen.verdict == "no change shown"
    assert seen.ratio[1] < 1 < seen.ratio[2]
    assert seen.detectable > 0
    assert "no change shown" in str(seen)


def test_the_change_in_flat_weeks_is_the_peer_s_slope():
    """Without a season to take off, the interaction of week and arm in least squares, clustered by customer."""
    draws = np.random.default_rng(6)
    n, k = 600, 6
    own = draws.gamma(2, 1, (n, 1))
    weeks = own + draws.normal(0, 1, (n, k)) + 5
    new = np.arange(n) % 2 == 0
    weeks[~new] += weeks[~new].mean() - weeks[~new].mean(axis=0)  # the old arm is flat exactly
    weeks[new] += 0.1 * np.arange(k)
    arm = np.where(new, "new", "old").astype(object)
    seen = fading(Panel("x", arm, weeks, {}, {}), "new", "old").change
    long = pd.DataFrame({"y": weeks.ravel(), "week": np.tile(np.arange(k), n), "unit": np.repeat(np.arange(n), k)})
    long["new"] = np.repeat(new, k).astype(float)
    fit = smf.ols("y ~ week * new", long).fit(cov_type="cluster", cov_kwds={"groups": long["unit"]})
    assert seen.value == pytest.approx(fit.params["week:new"], rel=1e-9)
    # the peer takes the season as known; here its error counts, in proportion to the level of the new arm
    assert fit.bse["week:new"] < seen.se < 1.2 * fit.bse["week:new"]


def test_the_ratio_of_late_to_early_is_fieller_s(steady):
    _, money, _ = steady
    seen = fading(money, *PAIR)
    early, late = money.weeks[:, :2].mean(axis=1), money.weeks[:, 2:].mean(axis=1)
    covariance = sum(
        np.cov(early[money.arm == arm], late[money.arm == arm])[0, 1] / (money.arm == arm).sum() for arm in PAIR
    )
    limits = fieller(seen.late.value, seen.early.value, seen.late.se, seen.early.se, covariance, 1.959964)
    assert seen.ratio[1:] == pytest.approx(limits, rel=1e-6)


def test_the_band_is_bonferroni_s_for_independent_and_single_for_equal_columns():
    assert simultaneous(np.eye(5)) == pytest.approx(1 - 0.95 ** (1 / 5), rel=0.03)
    assert simultaneous(np.ones((4, 4))) == pytest.approx(0.05, rel=0.03)
    assert simultaneous(np.array([[2.0]])) == 0.05


def test_only_units_followed_to_the_end_are_in_the_cohort():
    units = pd.DataFrame(
        {"unit": range(6), "arm": ["new", "old"] * 3, "enrolled": [date(2026, 1, 1)] * 4 + [date(2026, 1, 20)] * 2}
    )
    days = pd.DataFrame({"unit": [0, 1, 4, 4], "day": [0, 13, 0, 15], "spend": [1.0, 2.0, 4.0, 8.0]})
    cohort = panel(units, days, "spend", 2, followed_days(units, date(2026, 1, 28)))
    assert cohort.followed == {"new": 2, "old": 2}
    assert cohort.weeks.tolist() == [[1, 0], [0, 2], [0, 0], [0, 0]]
    assert "2 of" in str(cohort)
    with pytest.raises(Refusal, match="early entrants"):
        panel(units, days, "spend", 4, followed_days(units, date(2026, 1, 28)))


def test_a_table_in_the_database_gives_the_same_panel(steady):
    units, money, _ = steady
    days = draw_unit_days("clean-win", 2, 20_000)
    assert np.allclose(panel(units, ibis.memtable(days), "revenue", 8).weeks, money.weeks)


def test_a_follow_up_that_ends_earlier_in_one_arm_is_refused():
    units = pd.DataFrame({"unit": range(4000), "arm": ["new", "old"] * 2000})
    days = pd.DataFrame({"unit": [0], "day": [0], "spend": [1.0]})
    with pytest.raises(Refusal, match="differs by arm"):
        panel(units, days, "spend", 2, np.where(units["unit"] % 10 == 5, 3, 30))  # odd units are all of the old arm
    assert panel(units, days, "spend", 2, np.where(units["unit"] % 10 < 2, 3, 30)).followed == {
        "new": 1600,
        "old": 1600,
    }


def test_what_cannot_be_read_is_refused():
    units = pd.DataFrame({"unit": range(400), "arm": ["new", "old"] * 200})
    few = pd.DataFrame({"unit": range(60), "day": 3, "spend": 1.0})
    cohort = panel(units, few, "spend", 4)
    with pytest.raises(Refusal, match="spend"):
        by_horizon(cohort, "new", "old")
    assert by_week(cohort, "new", "old")["low"].isna().all()
    with pytest.raises(Refusal):
        fading(cohort, "new", "old")
    with pytest.raises(Refusal, match="four weeks"):
        fading(panel(units, few, "spend", 3), "new", "old")
    assert "four weeks" in long_term(units, few, "spend", 0, "new", "old").refusal
    with pytest.raises(InputError, match="at least one week"):
        fading(cohort, "new", "old", first_weeks=4)
    with pytest.raises(InputError, match="whole weeks"):
        by_horizon(cohort, "new", "old", [10])
    with pytest.raises(InputError, match="no such column"):
        panel(units, few, "revenue", 4)
    with pytest.raises(InputError, match="60 have no value"):
        panel(units, few.assign(spend=np.nan), "spend", 4)
    with pytest.raises(InputError, match="twice"):
        panel(pd.concat([units, units]), few, "spend", 4)


def test_a_ramp_is_read_within_its_cells():
    s = read_scenario("ramp-simpson")
    units, entry = within_stages(draw_units(s, 8), planned(s))
    days = draw_unit_days(s, 8)
    truth = population(s).arms
    gap = truth["personalised"]["revenue"] - truth["holdout"]["revenue"]
    right = by_horizon(panel(units, days, "revenue", 8, entry=entry), *PAIR, [56]).iloc[0]
    pooled = panel(units, days, "revenue", 8)
    wrong = by_horizon(pooled, *PAIR, [56]).iloc[0]
    inside = panel(units, days, "revenue", 8, entry=entry)
    least, seen = detectable(inside, *PAIR, horizons=[56]).detectable[0], right.se * (1.959964 + 0.841621)
    assert 0.6 * seen < least < seen  # the holdout spreads less than the personalised arm
    gone, there = still_active(pooled).iloc[0], still_active(inside).iloc[0]
    assert gone["personalised"] < gone["holdout"]
    assert there["personalised"] > there["holdout"]
    assert right.alone_low < gap < right.alone_high
    assert wrong.alone_high < 0 < gap


def test_short_beside_long_reads_the_same_customers(steady):
    units, money, orders = steady
    rows = short_beside_long(orders, money, *PAIR).set_index("measure")
    arms = pd.Series(money.arm)
    late = pd.Series((orders.weeks[:, 4:].sum(axis=1) > 0).astype(float)).groupby(arms).mean()
    assert rows.loc["retention", "value"] == pytest.approx(late[PAIR[0]] - late[PAIR[1]])
    assert rows.loc["value", "mean_versus"] == pytest.approx(units.groupby("arm")["revenue"].mean()["holdout"])
    with pytest.raises(InputError, match="overlap"):
        short_beside_long(orders, money, *PAIR, first_weeks=5)


def test_what_a_holdout_can_show_is_what_it_shows():
    """Power by simulation at the effect that `detectable` names."""
    draws = np.random.default_rng(9)
    n = 600

    def spend(size, lift=0.0):
        return draws.gamma(0.5, 2, (size, 1)) * draws.gamma(1, 1, (size, 4)) + lift / 4

    old = np.repeat("old", 20_000).astype(object)
    rows = detectable(Panel("x", old, spend(20_000), {}, {}), "new", "old", (n, n), [28])
    smallest, hits = rows.detectable[0], []
    for _ in range(300):
        weeks = np.concatenate([spend(n, smallest), spend(n)])
        arm = np.repeat(["new", "old"], n).astype(object)
        hits.append(by_horizon(Panel("x", arm, weeks, {}, {}), "new", "old", [28]).alone_low[0] > 0)
    assert 0.72 < np.mean(hits) < 0.88


def test_costs_and_leavers_are_counted():
    table = pd.DataFrame({"days": [7], "value": [2.0], "low": [1.0], "high": [3.0]})
    assert forgone(table, 50).iloc[0].tolist() == [7, 100, 50, 150]
    weeks = np.array([[1.0, 0, 0, 0], [1, 0, 0, 2], [0, 0, 1, 0]])
    share = still_active(Panel("x", np.array(["a", "a", "b"], dtype=object), weeks, {}, {}), block=2)
    assert share.to_numpy().tolist() == [[1, 0], [0.5, 1]]


def test_calibration_of_the_horizons():
    cumulative, weeks, _, faded, _, extrapolated = added_up(120, 5)
    assert cumulative.coverage > 0.88
    assert faded.coverage > 0.88
    assert weeks.coverage < 0.9
    assert extrapolated.coverage < 0.5
    lift_change, money_change = lasting(120, 5)
    assert lift_change.coverage > 0.88
    assert lift_change.power > 0.7
    assert money_change.false_positive > 0.1
    stays, whoever = changing(120, 5)
    assert stays.coverage > 0.88
    assert whoever.false_positive > 0.15
    band, alone = curve(25, 5)
    assert band.false_positive <= alone.false_positive
    assert band.false_positive < 0.2
