"""Channels: factorial effects, the effect on those reached, matched store sales: equal to their peers, right on known truths."""

import importlib
import math
from itertools import product

import ibis
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from benchmarks.calibration import channels as cases
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.sandbox.regression.gmm import IV2SLS
from statsmodels.stats.oneway import anova_oneway

from fairlift.errors import InputError, Refusal
from fairlift.method import Mean, Proportion, Ratio, effect, moments, srm
from fairlift.method.compliance import cace, cace_evidence, inverted, reach_evidence
from fairlift.method.compliance import gather as gather_reached
from fairlift.method.factorial import Factorial, cell, cell_shares, channel_evidence, factorial, gather
from fairlift.method.match import bounds, correct, match_rate
from fairlift.simulate.channels import SHARES, draw_channels, draw_matched, draw_reached

SPEND = Mean("spend")
THREE = ["email", "push", "store"]


def trial(n=3000, seed=3, shares=(0.7, 0.5, 0.3)):
    draws = np.random.default_rng(seed)
    rows = pd.DataFrame(
        {name: (draws.random(n) < share).astype(int) for name, share in zip(THREE, shares, strict=True)}
    )
    rows["spend"] = 10 + 2 * rows["email"] + rows["push"] - 1.5 * rows["email"] * rows["push"]
    rows["spend"] += draws.gamma(2, 1 + rows["store"], n)  # variances differ
    rows["bought"] = (draws.random(n) < 0.3 + 0.1 * rows["email"]).astype(int)
    return rows


@pytest.fixture(scope="module")
def rows():
    return trial()


@pytest.fixture(scope="module")
def found(rows):
    return factorial(gather(rows, [SPEND, Proportion("bought")], THREE), SPEND, THREE, interval="welch")


# ---------------------------------------------------------------- factorial


def coded(rows):
    """Least squares with every interaction, factors coded −1 and +1, HC2 errors."""
    return smf.ols("spend ~ email * push * store", rows.assign(**{f: 2 * rows[f] - 1 for f in THREE})).fit(
        cov_type="HC2"
    )


def test_factorial_equals_least_squares_with_effect_coding_and_hc2(rows, found):
    peer = coded(rows)
    for one in found.main:
        assert one.value == pytest.approx(2 * peer.params[one.name], rel=1e-8)
        assert one.se == pytest.approx(2 * peer.bse[one.name], rel=1e-8)
    for one in found.interactions:
        name = one.name.replace(" × ", ":")
        assert one.value == pytest.approx(4 * peer.params[name], rel=1e-8)
        assert one.se == pytest.approx(4 * peer.bse[name], rel=1e-8)


def test_contrasts_equal_any_linear_combination_of_dummies(rows, found):
    peer = smf.ols("spend ~ 0 + C(cell)", rows.assign(cell=rows[THREE].astype(str).sum(axis=1))).fit(cov_type="HC2")

    def peer_of(weights):
        row = [weights.get(name[8:-1], 0.0) for name in peer.params.index]
        test = peer.t_test(row)
        return float(test.effect[0]), float(test.sd[0, 0])

    expected = {
        "total": ({"111": 1, "000": -1}, found.total),
        "summed": ({"100": 1, "010": 1, "001": 1, "000": -3}, found.summed),
        "overlap": ({"111": 1, "100": -1, "010": -1, "001": -1, "000": 2}, found.overlap),
        "simple": ({"110": 1, "100": -1}, found.simple("push", ["email"])),
    }
    for weights, one in expected.values():
        value, se = peer_of(weights)
        assert one.value == pytest.approx(value, rel=1e-8)
        assert one.se == pytest.approx(se, rel=1e-8)


def test_main_effects_are_averaged_over_the_shares_asked_for(rows):
    shares = {"email": 0.9, "push": 0.2, "store": 0.6}
    gathered = gather(rows, SPEND, THREE)
    one = factorial(gathered, SPEND, THREE, shares=shares, interval="welch").main[0]
    means = rows.groupby(THREE)["spend"].mean()
    by_hand = sum(
        (0.2 if p else 0.8) * (0.6 if s else 0.4) * (means[1, p, s] - means[0, p, s])
        for p, s in product((0, 1), (0, 1))
    )
    assert one.value == pytest.approx(by_hand, rel=1e-12)
    alone = factorial(gathered, SPEND, THREE, shares={"push": 0, "store": 0}, interval="welch")
    assert alone.main[0].value == pytest.approx(alone.alone[0].value, rel=1e-12)


def test_one_channel_is_an_ab_test(rows):
    single = factorial(gather(rows, SPEND, ["email"]), SPEND, ["email"])
    named = rows.assign(arm=np.where(rows["email"] == 1, "on", "off"))
    peer = effect(moments(named, SPEND, "arm"), SPEND, "on", "off")
    (one,) = single.main
    for name in ("value", "se", "df", "low", "high", "p"):
        assert getattr(one, name) == pytest.approx(getattr(peer, name), rel=1e-10), name
    assert single.omnibus is None
    assert one.family_p == one.p
    assert single.overlap is None


def test_omnibus_with_two_channels_is_the_welch_t_of_the_interaction(rows):
    two = factorial(gather(rows, SPEND, THREE[:2]), SPEND, THREE[:2], interval="welch")
    assert two.omnibus.p == pytest.approx(two.interactions[0].p, rel=1e-10)
    assert two.omnibus.statistic == pytest.approx((two.interactions[0].value / two.interactions[0].se) ** 2, rel=1e-10)


def test_the_formula_behind_the_omnibus_is_welch_s_one_way_anova(rows):
    """The same formula with the hypothesis that all means are equal is Welch's one-way test, which statsmodels has."""
    module = importlib.import_module("fairlift.method.factorial")  # the package names the function of the same name
    gathered = gather(rows, SPEND, THREE)
    cells = module._cells(gathered, SPEND, tuple(THREE), 0)
    groups = [part["spend"].to_numpy() for _, part in rows.groupby(THREE)]
    peer = anova_oneway(groups, use_var="unequal")
    differences = np.eye(8)[1:] - np.eye(8)[0]
    found = module._welch_james(cells, differences)
    assert found.statistic == pytest.approx(peer.statistic, rel=1e-9)
    assert found.p == pytest.approx(peer.pvalue, rel=1e-7)
    assert found.df_error == pytest.approx(peer.df_denom, rel=1e-9)


def test_frames_ibis_tables_and_booleans_agree(rows, found):
    table = ibis.memtable(rows.astype(dict.fromkeys(THREE, bool)))
    again = factorial(gather(table, SPEND, THREE), SPEND, THREE, interval="welch")
    assert [one.value for one in again.main] == pytest.approx([one.value for one in found.main], rel=1e-12)
    assert again.total.se == pytest.approx(found.total.se, rel=1e-10)


def test_proportions_and_no_other_metrics(rows):
    gathered = gather(rows, [Proportion("bought"), Ratio("bought", "spend")], THREE)
    share = factorial(gathered, Proportion("bought"), THREE)
    assert "points" in str(share)
    with pytest.raises(InputError, match="is no mean"):
        factorial(gathered, Ratio("bought", "spend"), THREE)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 10_000), st.floats(0.1, 100), st.floats(-50, 50))
def test_effects_scale_with_the_outcome_and_ignore_a_constant(seed, scale, shift):
    rows = trial(n=200, seed=seed, shares=(0.5, 0.5, 0.5))
    moved = rows.assign(spend=scale * rows["spend"] + shift)
    one, two = (factorial(gather(r, SPEND, THREE[:2]), SPEND, THREE[:2], min_nonzero=0) for r in (rows, moved))
    for a, b in zip((*one.main, one.total, one.overlap), (*two.main, two.total, two.overlap), strict=True):
        assert b.low == pytest.approx(scale * a.low, rel=1e-6, abs=1e-8 * scale)
        assert b.p == pytest.approx(a.p, rel=1e-6)


def test_two_way_effects_add_up_at_half_shares(rows):
    two = factorial(gather(rows, SPEND, THREE[:2]), SPEND, THREE[:2], interval="welch")
    assert sum(one.value for one in two.main) == pytest.approx(two.total.value, rel=1e-10)
    assert two.overlap.value == pytest.approx(two.interactions[0].value, rel=1e-10)
    assert two.summed.value + two.overlap.value == pytest.approx(two.total.value, rel=1e-10)


def test_the_simulated_truth_is_met():
    """Twenty large trials: the estimates scatter round the closed form as their errors say."""
    z, names = [], tuple(SHARES)
    for seed in range(20):
        drawn = draw_channels(20_000, seed=seed)
        for column in ("online", "in_store", "revenue"):
            metric = Mean(column)
            seen = factorial(gather(drawn.units, metric, names), metric, names, shares=SHARES)
            for one in (*seen.main, *seen.interactions, seen.total, seen.overlap):
                z.append((one.value - drawn.truth[f"{column}: {one.name}"]) / one.se)
    z = np.array(z).reshape(20, -1)
    assert np.abs(z.mean(axis=0)).max() * math.sqrt(20) < 4
    assert 0.85 < z.std() < 1.15


def test_harm_is_claimed_by_the_family_and_on_the_wrong_side_only(rows):
    good = factorial(gather(rows, SPEND, THREE), SPEND, THREE)
    named = {one.name: one for one in good.main}
    assert named["email"].family_p < 0.05 and named["email"].value > 0
    assert good.harmful() == ()
    assert "email" in good.harmful("down")
    worse = factorial(gather(rows.assign(spend=-rows["spend"]), SPEND, THREE), SPEND, THREE)
    assert worse.harmful() == good.harmful("down")
    draws = np.random.default_rng(16)
    unclear = rows.assign(spend=draws.gamma(2, 5, len(rows)) - 0.55 * rows["push"])
    found = factorial(gather(unclear, SPEND, THREE), SPEND, THREE)
    (push,) = [one for one in found.main if one.name == "push"]
    assert push.p < 0.05 < push.family_p  # bad by itself, not among three
    assert found.harmful() == ()


def test_cell_shares_are_what_the_sample_ratio_test_takes():
    drawn = draw_channels(20_000, seed=4)
    planned = cell_shares(SHARES)
    assert sum(planned.values()) == pytest.approx(1)
    counts = gather(drawn.units, Mean("revenue"), tuple(SHARES)).counts
    assert not srm(counts, planned).failed
    spoilt = counts | {"none": counts["none"] // 2}
    assert srm(spoilt, planned).failed


def test_factorial_refuses(rows):
    gathered = gather(rows, SPEND, THREE)
    empty = rows[~((rows["email"] == 1) & (rows["push"] == 1))]
    with pytest.raises(Refusal, match="2 of 8 combinations"):
        factorial(gather(empty, SPEND, THREE), SPEND, THREE)
    with pytest.raises(Refusal, match=r"email.*are needed"):
        few = rows.assign(spend=np.where(np.arange(len(rows)) < 150, 5.0, 0.0))
        factorial(gather(few, SPEND, THREE), SPEND, THREE)
    with pytest.raises(Refusal, match="no unit differs"):
        factorial(gather(rows.assign(spend=1.0), SPEND, THREE), SPEND, THREE)
    with pytest.raises(InputError, match="no combination of email"):
        factorial(gathered, SPEND, ["email"])
    with pytest.raises(InputError) as error:
        factorial(gathered, SPEND, THREE, shares={"emial": 0.5, "push": 2}, interval="hal", alpha=0)
    assert len(error.value.problems) == 4
    with pytest.raises(InputError, match="5 units are neither 0 nor 1"):
        gather(rows.assign(push=np.where(np.arange(len(rows)) < 5, np.nan, rows["push"])), SPEND, THREE)
    with pytest.raises(InputError, match="5 units are neither 0 nor 1"):
        gather(ibis.memtable(rows.assign(push=np.where(np.arange(len(rows)) < 5, 7, rows["push"]))), SPEND, THREE)
    with pytest.raises(InputError, match="did you mean `email`"):
        gather(rows, SPEND, ["emial"])
    with pytest.raises(InputError, match="each once"):
        gather(rows, SPEND, ["email", "email"])
    with pytest.raises(InputError, match="cannot name a channel"):
        gather(rows.rename(columns={"email": "none"}), SPEND, ["none"])
    with pytest.raises(InputError, match="did you mean `push`"):
        factorial(gathered, SPEND, THREE, interval="welch").simple("email", ["puhs"])


def test_it_reads_well_and_leaves_evidence(found):
    text = str(found)
    assert text.startswith("mean of spend: 3 channels, 3,000 units")
    assert "Holm p" in text and "any interaction" in text
    rows = channel_evidence(found, "money", 28)
    assert [row.label for row in rows[:2]] == [
        "method.channels.main@email:on-vs-off",
        "method.channels.main@push:on-vs-off",
    ]
    assert {row.verdict for row in rows} == {"reported"}
    assert {row.requirement for row in rows} == {"design.channels"}
    assert isinstance(found, Factorial) and cell(THREE) == "email + push + store"


def by_method(rows, naive=False):
    return {(row.method, row.case): row for row in rows if row.naive == naive}


def test_factorial_calibration_and_what_naive_reading_does():
    rows = {row.method + ("" if row.power is None else " with effect"): row for row in cases.run_factorial(500, 5)}
    for row in rows.values():
        if row.kind == "closed" and not row.naive:
            assert 0.911 < row.coverage < 0.989
            assert row.miss_low < 0.053 and row.miss_high < 0.053
    added = next(row for row in rows.values() if row.method.startswith("effects of each channel alone"))
    assert added.coverage < 0.75  # the sum is not the total
    unadjusted = next(row for row in rows.values() if row.method == "each channel at .05")
    assert unadjusted.false_positive > 0.10
    for method in ("test of any interaction", "Holm over the channels"):
        row = next(row for row in rows.values() if row.method == method)
        assert row.false_positive < 0.089 and row.power > 0.5


# ---------------------------------------------------------------- the effect on those reached

VITAMIN = [(1, 1, 0, 9663), (1, 1, 1, 12), (1, 0, 0, 2385), (1, 0, 1, 34), (0, 0, 0, 11514), (0, 0, 1, 74)]


def vitamin():
    rows = pd.DataFrame([row[:3] for row in VITAMIN], columns=["assigned", "taken", "died"])
    rows = rows.loc[rows.index.repeat([row[3] for row in VITAMIN])].reset_index(drop=True)
    return rows.assign(arm=np.where(rows["assigned"] == 1, "vitamin", "none"))


def some_reached(n=4000, seed=6, anyway=0.0):
    draws = np.random.default_rng(seed)
    offered = draws.random(n) < 0.7
    eager = draws.gamma(1.5, 1, n)
    reached = np.where(offered, draws.random(n) < 1 - np.exp(-eager), draws.random(n) < anyway).astype(int)
    spend = draws.poisson(eager * (1 + 0.3 * reached)) * draws.lognormal(1, 0.5, n)
    return pd.DataFrame(
        {"arm": np.where(offered, "offers", "holdout"), "reached": reached, "spend": spend, "z": offered * 1}
    )


def test_vitamin_a_in_aceh():
    """Sommer and Zeger 1991; Imbens and Rubin 1997: ITT −.0026 (.0009), CACE −.0032 (.0012), as treated −.0065."""
    rows = vitamin()
    seen = cace(
        gather_reached(rows, "died", "taken"), "died", "taken", "vitamin", "none", interval="welch", min_nonzero=40
    )
    assert (round(seen.itt.value, 4), round(seen.itt.se, 4)) == (-0.0026, 0.0009)
    assert (round(seen.value, 4), round(seen.se, 4)) == (-0.0032, 0.0012)
    assert round(seen.reach, 3) == 0.8 and seen.reach_versus == 0
    as_treated = rows.groupby("taken")["died"].mean().diff().iloc[-1]
    assert round(as_treated, 4) == -0.0065
    assert seen.naive == pytest.approx(12 / 9675 - 34 / 2419, rel=1e-10)


@pytest.mark.parametrize("anyway", [0.0, 0.2])
def test_point_and_error_equal_two_stage_least_squares(anyway):
    rows = some_reached(anyway=anyway)
    seen = cace(gather_reached(rows, "spend", "reached"), "spend", "reached", "offers", "holdout")
    x, z = sm.add_constant(rows[["reached"]].astype(float)), sm.add_constant(rows[["z"]].astype(float))
    peer = IV2SLS(rows["spend"], x, z).fit()
    assert seen.value == pytest.approx(peer.params["reached"], rel=1e-9)
    x, z = x.to_numpy(), z.to_numpy()
    residual = rows["spend"].to_numpy() - x @ peer.params.to_numpy()
    lever = np.einsum("ij,jk,ik->i", z, np.linalg.inv(z.T @ z), z)
    bread = np.linalg.inv(z.T @ x)
    hc2 = bread @ (z.T * (residual**2 / (1 - lever))) @ z @ bread.T
    assert seen.se == pytest.approx(math.sqrt(hc2[1, 1]), rel=1e-9)


def test_limits_invert_welch_s_test():
    """Anderson and Rubin: at either limit, outcome − β × reached differs between the arms with p = .05 exactly."""
    rows = some_reached(anyway=0.1)
    seen = cace(gather_reached(rows, "spend", "reached"), "spend", "reached", "offers", "holdout", interval="welch")
    for limit in (seen.low, seen.high):
        left = rows["spend"] - limit * rows["reached"]
        p = stats.ttest_ind(left[rows["z"] == 1], left[rows["z"] == 0], equal_var=False).pvalue
        assert p == pytest.approx(0.05, rel=1e-7)
    assert seen.low < seen.value < seen.high


def test_limits_invert_hall_s_test():
    rows = some_reached(seed=8)
    seen = cace(gather_reached(rows, "spend", "reached"), "spend", "reached", "offers", "holdout")
    for limit in (seen.low, seen.high):
        left = rows.assign(spend=rows["spend"] - limit * rows["reached"])
        assert effect(moments(left, SPEND, "arm"), SPEND, "offers", "holdout").p == pytest.approx(0.05, rel=1e-6)


def test_with_everybody_reached_it_is_the_effect_of_assignment():
    rows = some_reached()
    rows["reached"] = rows["z"]
    seen = cace(gather_reached(rows, "spend", "reached"), "spend", "reached", "offers", "holdout")
    for name in ("value", "se", "low", "high", "p"):
        assert getattr(seen, name) == pytest.approx(getattr(seen.itt, name), rel=1e-8), name
    assert seen.mean_missed is None and seen.naive is None


def test_a_leak_shrinks_the_effect():
    gathered = gather_reached(some_reached(), "spend", "reached")
    strict, leaky = (cace(gathered, "spend", "reached", "offers", "holdout", leak=leak) for leak in (0.0, 0.5))
    assert leaky.value == pytest.approx(strict.itt.value / (0.5 + 0.5 * strict.reach), rel=1e-12)
    assert abs(leaky.value) < abs(strict.value)
    assert "50.00 %" in str(leaky) and "exclusion" in str(strict)


def test_a_combination_without_an_event_is_refused():
    """Nobody of 200 complained by chance: its error is not 0, and "all on" is no harm."""
    rows = pd.DataFrame({"email": [0, 0, 1, 1], "push": [0, 1, 0, 1]}).loc[
        [0] * 200 + [1] * 1800 + [2] * 1800 + [3] * 9000
    ]
    rows["left"] = (np.arange(len(rows)) % 250 == 249).astype(int) * (rows["email"] + rows["push"] > 0)
    with pytest.raises(
        Refusal, match=r"in 1 of 4 combinations of channels \(none\), so their error would be read as 0"
    ):
        factorial(gather(rows, Proportion("left"), ["email", "push"]), Proportion("left"), ["email", "push"])


def test_a_leak_is_of_the_arm_that_was_sent_offers():
    """Reached or not, whoever was drawn for the holdout and reached all the same has the whole effect."""
    draws, n = np.random.default_rng(1), 40_000
    offers = draws.random(n) < 0.5
    reached = draws.random(n) < np.where(offers, 0.6, 0.25)
    spend = draws.exponential(1, n) + 2 * np.where(reached, 1.0, 0.5 * offers)
    rows = pd.DataFrame({"arm": np.where(offers, "offers", "holdout"), "reached": reached.astype(int), "spend": spend})
    seen = cace(gather_reached(rows, "spend", "reached"), "spend", "reached", "offers", "holdout", leak=0.5)
    assert seen.low < 2 < seen.high and seen.se < 0.06


def test_means_of_reached_and_missed():
    rows = some_reached()
    seen = cace(gather_reached(rows, "spend", "reached"), "spend", "reached", "offers", "holdout")
    means = rows[rows["z"] == 1].groupby("reached")["spend"].mean()
    assert seen.mean_reached == pytest.approx(means[1], rel=1e-10)
    assert seen.mean_missed == pytest.approx(means[0], rel=1e-10)


def test_cace_refuses():
    rows = some_reached()
    nobody = rows.assign(reached=0)
    with pytest.raises(Refusal, match="hardly changed who was reached"):
        cace(gather_reached(nobody, "spend", "reached"), "spend", "reached", "offers", "holdout")
    chance = rows.assign(reached=np.arange(len(rows)) % 2)
    with pytest.raises(Refusal, match="hardly changed who was reached"):
        cace(gather_reached(chance, "spend", "reached"), "spend", "reached", "offers", "holdout")
    with pytest.raises(Refusal, match="the other way round"):
        cace(gather_reached(rows, "spend", "reached"), "spend", "reached", "holdout", "offers")
    with pytest.raises(InputError, match="say whether, not how often"):
        cace(
            gather_reached(rows.assign(reached=3 * rows["reached"]), "spend", "reached"),
            "spend",
            "reached",
            "offers",
            "holdout",
        )
    with pytest.raises(InputError) as error:
        gathered = gather_reached(rows, "spend", "reached")
        cace(gathered, "spend", "reached", "offers", "holdout", interval="fieler", alpha=2, leak=1)
    assert len(error.value.problems) == 3
    with pytest.raises(Refusal, match="no end"):
        inverted(lambda beta: (0.0, 100.0), 0.0, 1.0, 0.05)


def test_evidence_of_those_reached():
    rows = some_reached()
    seen = cace(gather_reached(rows, "spend", "reached"), "spend", "reached", "offers", "holdout")
    left = [cace_evidence(seen, "money", 28), *reach_evidence({"offers": (2000, 2800), "holdout": (0, 1200)}, 28)]
    assert [row.id for row in left] == ["method.channels.cace", "method.channels.reached", "method.channels.reached"]
    assert {row.verdict for row in left} == {"reported"}
    assert left[0].design == "quasi" and left[0].population == "exposed"


@pytest.mark.parametrize("place", [1, 2, 3, 4])
def test_reached_calibration_and_what_naive_reading_does(place):
    closed, *naive = cases.CASES[place].run(500, 5)
    assert 0.911 < closed.coverage < 0.989
    assert closed.miss_low < 0.053 and closed.miss_high < 0.053
    if place in (1, 2):
        (openers,) = [row for row in naive if row.method == "those reached less the rest of their arm"]
        assert openers.coverage == 0  # a huge effect where there is hardly one, or none


def test_without_a_first_stage_every_experiment_is_refused():
    (row,) = cases.CASES[5].run(100, 5)
    assert row.refused == 1


# ---------------------------------------------------------------- matched store sales


def seen_sales(trial):
    metric = Mean("matched_revenue")
    return effect(moments(trial.units, metric, "arm"), metric, "offers", "holdout")


def test_the_corrected_effect_is_the_one_on_all_sales():
    trial, hits, audited = draw_matched(40_000, seed=3, lift=0.2, audited=20_000)
    seen = seen_sales(trial)
    match = match_rate(hits, audited, "offers", "holdout")
    fixed = correct(seen, match)
    assert fixed.value == pytest.approx(seen.value / match.rate, rel=1e-12)
    assert fixed.low < trial.truth["itt"] < fixed.high
    assert seen.high < trial.truth["itt"]  # what is matched is not the whole
    assert fixed.worst_low < fixed.low and fixed.high < fixed.worst_high


def test_correction_is_fieller_s_interval_without_skew():
    """Against Fieller's formula with the normal quantile; and wider than dividing the limits by the rate."""
    from dataclasses import replace

    from fairlift.method.interval import fieller

    trial, hits, audited = draw_matched(40_000, seed=3, lift=0.2, audited=200)
    seen = replace(seen_sales(trial), skew=0.0, df=1e9)
    match = match_rate(hits, dict.fromkeys(audited, 10**9) | audited, "offers", "holdout")
    fixed = correct(seen, match)
    spread = math.sqrt(match.rate * (1 - match.rate) / match.audited)
    peer = fieller(seen.value, match.rate, seen.se, spread, 0.0, 1.959964)
    assert (fixed.low, fixed.high) == pytest.approx(peer, rel=1e-2)  # Welch's t of a mixture, not the normal
    assert fixed.high - fixed.low > (seen.high - seen.low) / match.rate


def test_match_rates_equal_statsmodels():
    from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint, proportions_ztest

    found = match_rate({"a": 330, "b": 290}, {"a": 500, "b": 480}, "a", "b")
    assert found.arms["a"][1:3] == pytest.approx(proportion_confint(330, 500, method="wilson"), rel=1e-9)
    assert (found.difference_low, found.difference_high) == pytest.approx(
        confint_proportions_2indep(330, 500, 290, 480, method="newcomb"), rel=1e-9
    )
    assert found.p == pytest.approx(proportions_ztest([330, 290], [500, 480])[1], rel=1e-9)


def test_a_match_that_depends_on_the_arm_is_refused_with_bounds():
    """Offers make customers show their card: matched sales rise, all sales do not."""
    trial, hits, audited = draw_matched(40_000, seed=5, lift=0.0, matched={"offers": 0.68, "holdout": 0.58})
    seen = seen_sales(trial)
    assert seen.low > 0  # the naive reading: a benefit
    match = match_rate(hits, audited, "offers", "holdout")
    with pytest.raises(Refusal, match="not matched alike"):
        correct(seen, match)
    low, high = bounds(seen, match)
    assert low < 0 < high


def test_match_refuses():
    trial, _, _ = draw_matched(5_000, seed=5)
    seen = seen_sales(trial)
    with pytest.raises(Refusal, match="Audit more"):
        correct(seen, match_rate({"offers": 10, "holdout": 12}, {"offers": 20, "holdout": 20}, "offers", "holdout"))
    with pytest.raises(Refusal, match="Audit more"):  # that all of a few were matched does not say that all are
        correct(seen, match_rate({"offers": 3, "holdout": 2}, {"offers": 3, "holdout": 2}, "offers", "holdout"))
    with pytest.raises(InputError, match="same arms in the same order"):
        correct(seen, match_rate({"offers": 60, "holdout": 60}, {"offers": 90, "holdout": 90}, "holdout", "offers"))
    with pytest.raises(InputError, match="the audit lacks the arm `c`"):
        match_rate({"a": 1}, {"a": 2}, "a", "c")
    with pytest.raises(InputError) as error:
        match_rate({"a": 5, "b": 0}, {"a": 4, "b": 0}, "a", "b")
    assert len(error.value.problems) == 2
    with pytest.raises(Refusal, match="nothing bounds the rest"):
        bounds(seen, match_rate({"offers": 0, "holdout": 60}, {"offers": 90, "holdout": 90}, "offers", "holdout"))


def test_match_calibration_and_what_naive_reading_does():
    corrected, null, whole, one_rate, worst = cases.run_match(500, 5)
    for row in (corrected, null):
        assert 0.911 < row.coverage < 0.989
        assert row.refused < 0.09
    assert whole.coverage < 0.5
    assert one_rate.false_positive > 0.3
    assert worst.false_positive < 0.089


def test_a_customer_who_opens_is_not_like_the_rest():
    """No effect at all, and openers spend far more: the truth of the naive comparison has a closed form."""
    drawn = draw_reached(40_000, seed=2, lift=0.0)
    gathered = gather_reached(drawn.units, "revenue", "opened")
    seen = cace(gathered, "revenue", "opened", "offers", "holdout")
    assert seen.low < 0 < seen.high
    assert seen.naive == pytest.approx(drawn.truth["naive"], rel=0.05)
    assert seen.naive > 20


def test_the_synthetic_retailer_s_truth_is_met():
    """In the demo's model only who is reached changes, so the effect on those reached is that of assignment ÷ reach."""
    from fairlift.simulate import draw_units, population, read_scenario

    scenario = read_scenario("demo")
    arms = population(scenario).arms
    units = draw_units(scenario, seed=3, customers=15_000)
    units["reached"] = (units["personalised_exposures"] > 0).astype(int)
    seen = cace(gather_reached(units, "revenue", "reached"), "revenue", "reached", "personalised", "holdout")
    assert seen.reach == pytest.approx(scenario.offers.reach, abs=0.01)
    assert seen.reach_versus == 0
    truth = (arms["personalised"]["revenue"] - arms["holdout"]["revenue"]) / scenario.offers.reach
    assert abs(seen.value - truth) < 3 * seen.se
