"""Effects by segment: one test before any difference is spoken of, no small cells, limits that hold together."""

import numpy as np
import pandas as pd
import pytest
from benchmarks.calibration.means import segment_runs
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.oneway import anova_oneway

from fairlift.errors import InputError, Refusal
from fairlift.method import Mean, Proportion, Ratio, effect, moments
from fairlift.method.segment import by_segment, heterogeneity, read_segments

SPEND = Mean("spend")


def shop(north=0.0, isle=40, seed=4):
    """Four regions; the effect is 1 and more in the north; the isle is small."""
    draws = np.random.default_rng(seed)
    region = np.repeat(["east", "isle", "north", "south"], [3000, isle, 3000, 4000])
    new = draws.random(len(region)) < 0.5
    spend = draws.gamma(2, 10, len(region)) + new * (1 + north * (region == "north"))
    return pd.DataFrame(
        {
            "arm": np.where(new, "new", "old"),
            "region": region,
            "spend": spend,
            "bought": draws.binomial(1, 0.1, len(new)),
        }
    )


def read(rows, metric=SPEND, **options):
    return by_segment(rows, metric, "arm", "region", "new", "old", **options)


def test_each_segment_is_its_own_effect_at_the_level_of_all():
    rows = shop()
    found = read(rows)
    assert [row.name for row in found.rows] == ["east", "isle", "north", "south"]
    for row in found.shown:
        part = rows[rows["region"] == row.name]
        peer = effect(moments(part, SPEND, "arm"), SPEND, "new", "old", alpha=1 - 0.95 ** (1 / 3))
        assert (row.effect.value, row.effect.low, row.effect.high) == pytest.approx((peer.value, peer.low, peer.high))
        assert row.effect.p == pytest.approx(1 - (1 - peer.p) ** 3)
        assert (row.effect.p < 0.05) == (row.effect.low > 0 or row.effect.high < 0)


def test_a_small_segment_is_suppressed_in_words_and_without_a_number():
    isle = read(shop()).rows[1]
    assert (isle.effect, isle.shrunken) == (None, None)
    assert "fewer than 200 customers in an arm" in isle.refusal
    assert "isle   not shown" in str(read(shop()))
    rare = shop().assign(bought=lambda rows: rows["bought"] * (rows["region"] != "east"))
    assert (
        "fewer than 100 customers of an arm with a value other than 0"
        in read(rare, Proportion("bought")).rows[0].refusal
    )
    lonely = shop()
    lonely = lonely[(lonely["region"] != "north") | (lonely["arm"] == "new")]
    assert [row.name for row in read(lonely).shown] == ["east", "south"]


def test_segments_of_equal_effect_are_not_called_different_and_shrink_to_their_mean():
    found = read(shop())
    assert not found.differ
    assert "no difference between segments is shown" in str(found)
    raw = np.ptp([row.effect.value for row in found.shown])
    assert np.ptp([row.shrunken for row in found.shown]) < raw / 2


def test_a_real_difference_is_seen_and_kept():
    found = read(shop(north=6.0))
    assert found.differ and "segments differ" in str(found)
    north = {row.name: row for row in found.shown}["north"]
    assert 0.8 < (north.shrunken - found.heterogeneity.mean) / (north.effect.value - found.heterogeneity.mean) < 1


def test_one_segment_is_compared_with_nothing():
    rows = shop()
    found = read(rows[rows["region"].isin(["east", "isle"])])
    assert found.heterogeneity is None and not found.differ
    assert found.shown[0].shrunken == found.shown[0].effect.value
    assert "not compared" in str(found)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.integers(0, 10_000))
def test_the_one_test_is_welch_s(k, seed):
    """Means of groups are independent estimates too: the peer is statsmodels' one-way test of unequal variances."""
    draws = np.random.default_rng(seed)
    groups = [draws.normal(place / 3, 1 + place, draws.integers(4, 30)) for place in range(k)]
    values, ses = np.array([(each.mean(), stats.sem(each)) for each in groups]).T
    ours = heterogeneity(values, ses, [len(each) - 1 for each in groups])
    peer = anova_oneway(groups, use_var="unequal", welch_correction=True)
    assert (ours.statistic, ours.df_rest, ours.p) == pytest.approx(
        (peer.statistic, peer.df_denom, peer.pvalue), rel=1e-8
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 8), st.integers(0, 10_000))
def test_the_spread_of_true_effects_is_dersimonian_and_laird_s(k, seed):
    draws = np.random.default_rng(seed)
    ses = draws.uniform(0.2, 2, k)
    values = draws.normal(0, 1.5, k)
    ours = heterogeneity(values, ses, np.full(k, np.inf))
    peer = combine_effects(values, ses**2, method_re="dl")
    assert ours.mean == pytest.approx(peer.mean_effect_fe, rel=1e-9, abs=1e-12)
    assert ours.tau**2 == pytest.approx(max(peer.tau2, 0.0), rel=1e-9, abs=1e-12)
    assert ours.p == pytest.approx(stats.chi2.sf(peer.q, k - 1), rel=1e-9)


def test_the_one_test_holds_its_level_where_picking_the_furthest_segment_finds_a_winner():
    """Bounds of about four standard errors; ten segments with the same effect."""
    runs = segment_runs(800, seed=6)
    assert 0.02 < runs["omnibus"].mean() < 0.08
    assert runs["best"].mean() > 0.25
    assert 0.92 < runs["together"].mean() < 0.98


def test_shrinking_brings_the_estimates_nearer_to_the_truth():
    draws = np.random.default_rng(9)
    raw, shrunken = [], []
    for _ in range(300):
        truth, ses = draws.normal(1, 0.5, 12), draws.uniform(0.5, 1.5, 12)
        seen = draws.normal(truth, ses)
        test = heterogeneity(seen, ses, np.full(12, np.inf))
        kept = test.tau**2 / (test.tau**2 + ses**2)
        raw.append(((seen - truth) ** 2).mean())
        shrunken.append(((test.mean + kept * (seen - test.mean) - truth) ** 2).mean())
    assert np.mean(shrunken) < 0.5 * np.mean(raw)


def test_a_ratio_by_segment():
    rows = shop().assign(sessions=2.0)
    per = Ratio("spend", "sessions")
    found = read(rows, per)
    spend = read(rows, interval="welch")
    assert [row.effect.value for row in found.shown] == pytest.approx([row.effect.value / 2 for row in spend.shown])


def test_refuses():
    rows = shop()
    with pytest.raises(InputError, match="below 2"):
        read(rows, min_n=1)
    nothing = read(rows, min_n=9_000)
    assert nothing.shown == () and nothing.heterogeneity is None and "not compared" in str(nothing)
    with pytest.raises(Refusal, match="no segment has units"):
        read_segments(moments(rows, SPEND, "arm", stratum="region"), SPEND, "gone", "away")
