"""Several arms and several metrics: against scipy's Dunnett and published tables, and by simulation of the false alarms."""

import numpy as np
import pandas as pd
import pytest
from benchmarks.calibration.means import dunnett_runs, guardrail_runs
from scipy import stats

from fairlift.errors import InputError, Refusal
from fairlift.method import Mean, Proportion, effect, moments
from fairlift.method.family import Asked, dunnett, largest_t, largest_t_quantile, noninferior, read_family

SPEND = Mean("spend")

# The example of scipy.stats.dunnett, from Dunnett (1955): blood counts under two drugs and a control
CONTROL = [7.40, 8.50, 7.20, 8.24, 9.84, 8.32]
DRUGS = [9.76, 8.80, 7.68, 9.36], [12.80, 9.68, 12.16, 9.20, 10.55]


def pooled(control, *arms):
    """Dunnett's own t: one variance for all arms."""
    groups = [np.asarray(each, dtype=float) for each in (control, *arms)]
    df = sum(len(each) - 1 for each in groups)
    variance = sum(each.var(ddof=1) * (len(each) - 1) for each in groups) / df
    n = np.array([len(each) for each in groups])
    t = [(each.mean() - groups[0].mean()) / np.sqrt(variance * (1 / len(each) + 1 / n[0])) for each in groups[1:]]
    return t, np.sqrt(n[1:] / (n[1:] + n[0])), df


@pytest.mark.parametrize("seed", range(4))
def test_the_largest_t_is_that_of_scipy(seed):
    """scipy integrates at random: its own error is about 1e-4."""
    draws = np.random.default_rng(seed)
    sizes = draws.integers(5, 60, 2 + seed)
    groups = [draws.normal(0.4 * (place == 1), 1, size) for place, size in enumerate(sizes)]
    t, shared, df = pooled(*groups)
    peer = stats.dunnett(*groups[1:], control=groups[0], random_state=draws)
    assert [1 - largest_t(abs(each), shared, df) for each in t] == pytest.approx(peer.pvalue, abs=1e-3)


def test_dunnett_s_blood_counts():
    t, shared, df = pooled(CONTROL, *DRUGS)
    assert [round(1 - largest_t(abs(each), shared, df), 4) for each in t] == pytest.approx([0.6200, 0.0059], abs=2e-4)


@pytest.mark.parametrize(
    ("arms", "df", "table"),
    [(2, 10, 2.57), (3, 10, 2.76), (2, 20, 2.38), (3, 20, 2.54), (2, 1e9, 2.21), (3, 1e9, 2.35), (5, 1e9, 2.51)],
)
def test_quantiles_are_those_of_dunnett_s_table(arms, df, table):
    """Dunnett (1964), two-sided, five per cent, equal arms."""
    assert round(largest_t_quantile(0.05, [0.5**0.5] * arms, df), 2) == table


def test_the_quantile_lies_between_one_comparison_and_bonferroni():
    single, bonferroni = stats.t.isf([0.025, 0.025 / 4], 30)
    none, some, all_ = (largest_t_quantile(0.05, [share] * 4, 30) for share in (0.0, 0.7, 0.995))
    assert single < all_ < some < none < bonferroni
    assert all_ == pytest.approx(single, abs=0.15)


@pytest.fixture(scope="module")
def three():
    draws = np.random.default_rng(21)
    arm = draws.choice(["a", "b", "c", "old"], 6000, p=[0.1, 0.2, 0.3, 0.4])
    rows = pd.DataFrame({"arm": arm, "spend": draws.gamma(2, 5, 6000), "bought": draws.binomial(1, 0.2, 6000)})
    rows.loc[rows["arm"] == "c", "spend"] += 0.8
    return moments(rows, [SPEND, Proportion("bought")], "arm")


@pytest.mark.parametrize("metric", [SPEND, Proportion("bought")])
def test_each_p_is_below_alpha_exactly_when_its_interval_leaves_out_zero(three, metric):
    for alpha in (0.01, 0.05, 0.2, 0.6):
        for seen in dunnett(three, metric, "old", alpha=alpha).effects:
            assert (seen.p < alpha) == (seen.low > 0 or seen.high < 0)
            assert seen.level == 1 - alpha
    assert dunnett(three, SPEND, "old").best().arm == "c"
    assert [seen.arm for seen in dunnett(three, SPEND, "old", ["b", "a"]).effects] == ["b", "a"]


def test_one_arm_is_a_single_comparison(three):
    (seen,) = dunnett(three, SPEND, "old", ["a"]).effects
    alone = effect(three, SPEND, "a", "old")
    assert (seen.low, seen.high, seen.p) == pytest.approx((alone.low, alone.high, alone.p), rel=1e-9)


@pytest.mark.parametrize("arms", [[], ["a", "old"], ["a", "a"]])
def test_arms_that_cannot_be_compared(three, arms):
    with pytest.raises(InputError):
        dunnett(three, SPEND, "old", arms)


def test_an_arm_that_is_not_there(three):
    with pytest.raises(Refusal, match="has no units"):
        dunnett(three, SPEND, "old", ["a", "z"])


def test_several_arms_hold_the_chance_of_any_false_alarm_where_single_tests_do_not():
    """The bounds are four standard errors around five per cent."""
    runs = dunnett_runs(800, seed=3)
    assert 0.02 < runs["dunnett"].mean() < 0.08
    assert runs["single"].mean() > 0.10
    assert runs["pooled"].mean() > 0.08


# --- families ---------------------------------------------------------------------------------------------------------


def seen(value, se=1.0, metric="y", arm="new", n=100_000):
    """An effect of a mean with a given estimate and standard error."""
    spread = se * (n / 2) ** 0.5
    sign = np.tile([-1.0, 1.0], n // 2)
    rows = pd.DataFrame({"arm": np.repeat([arm, "old"], n), metric: np.tile(sign * spread, 2)})
    rows.loc[rows["arm"] == arm, metric] += value
    return effect(moments(rows, Mean(metric), "arm"), Mean(metric), arm, "old", interval="welch")


@pytest.fixture(scope="module")
def at():
    """Effects with standard error 1, by how far they lie from 0."""
    return {value: seen(value) for value in (-4.5, -4.0, -2.5, -0.5, 0.0, 2.5)}


def test_a_guardrail_is_passed_by_evidence_only(at):
    assert noninferior(at[0.0], 1.0).verdict == "inconclusive"  # nothing significant, and nothing shown
    assert noninferior(at[0.0], 2.0).verdict == "pass"
    assert noninferior(at[-4.5], 2.0).verdict == "fail"
    assert noninferior(at[-0.5], 1.0, better="down").verdict == "inconclusive"
    assert noninferior(at[-0.5], 1.5, better="down").verdict == "pass"
    assert noninferior(at[2.5], 0.4, better="down").verdict == "fail"
    assert noninferior(at[2.5], 0.0).verdict == "pass"


def test_the_p_of_a_margin_by_hand(at):
    test = noninferior(at[-0.5], 2.0)
    assert test.p == pytest.approx(stats.t.sf(1.5 / at[-0.5].se, at[-0.5].df), rel=1e-9)
    assert test.p + test.p_harm == pytest.approx(1)
    mirrored = noninferior(at[-0.5], 2.0, better="down")
    assert mirrored.p == pytest.approx(stats.t.sf(2.5 / at[-0.5].se, at[-0.5].df), rel=1e-9)


def test_the_p_of_a_margin_agrees_with_the_verdict(three):
    alone = effect(three, SPEND, "b", "old")
    for margin in np.linspace(0, 1.2, 25):
        for better in ("up", "down"):
            test = noninferior(alone, margin, better)
            assert (test.p < 0.025) == (test.verdict == "pass")
            assert (test.p_harm < 0.025) == (test.verdict == "fail")


@pytest.mark.parametrize(
    ("margin", "better"), [(-0.1, "up"), (float("nan"), "up"), (float("inf"), "up"), (1.0, "left")]
)
def test_margins_that_are_none(at, margin, better):
    with pytest.raises(InputError):
        noninferior(at[0.0], margin, better)


def test_at_the_margin_harm_is_let_through_as_often_as_stated_where_not_significant_lets_it_through_far_more_often():
    runs = guardrail_runs(2500, seed=5)
    assert 0.015 < runs["noninferior"].mean() < 0.035
    assert runs["not significant"].mean() > 0.2


def test_every_gate_must_pass(at):
    asked = [Asked("spend", "primary", at[2.5]), Asked("returns", "guardrail", at[0.0], "down", 2.5)]
    family = read_family(asked)
    assert family.go and [answer.verdict for answer in family.answers] == ["pass", "pass"]
    short = read_family([*asked, Asked("complaints", "guardrail", at[0.0], "down", 1.0)])
    assert not short.go and "not passed: complaints" in str(short)
    named = read_family([asked[0], Asked("returns", "guardrail", at[0.0], "down", 2.5, "money", "USD")])
    assert "1 primary, 1 guardrail, 0 exploratory" in str(named) and "margin USD 2.50" in str(named)
    gone = read_family([*asked, Asked("complaints", "guardrail", None, "down", 1.0)])
    assert not gone.go and gone.answers[-1].verdict == "inconclusive" and "no number" in str(gone)


def test_a_pass_is_not_adjusted_and_a_fail_is(at):
    """The same excess beyond the margin fails alone and is inconclusive among five."""
    asked = [Asked("spend", "primary", at[2.5]), Asked("0", "guardrail", at[-2.5], "up", 0.3)]
    assert read_family(asked).answers[1].verdict == "fail"
    among = [*asked, *(Asked(str(i), "guardrail", at[0.0], "up", 3.0) for i in range(1, 5))]
    answers = read_family(among).answers
    assert [answer.verdict for answer in answers] == ["pass", "inconclusive", *["pass"] * 4]
    plain = 2 * stats.t.sf(2.2 / at[-2.5].se, at[-2.5].df)
    assert answers[1].p_family == pytest.approx(5 * plain, rel=1e-6)


def test_what_is_only_looked_at_can_neither_pass_nor_fail(at):
    looks = [Asked(f"look {i}", "exploratory", at[value]) for i, value in enumerate((-4.5, 2.5, 0.0, -0.5, 0.0))]
    family = read_family([Asked("spend", "primary", at[2.5]), *looks])
    assert family.go
    assert [answer.verdict for answer in family.answers[1:]] == ["worth a test", "worth a test", *["nothing shown"] * 3]
    assert family.answers[2].p_family == pytest.approx(at[2.5].p * 5 / 2, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda one, two: [two], "0 metrics are primary"),
        (lambda one, two: [one, Asked("b", "primary", one.effect)], "2 metrics are primary: spend, b"),
        (lambda one, two: [one, Asked("spend", "guardrail", one.effect)], "a name stands twice"),
        (lambda one, two: [one, Asked("b", "guard", one.effect)], "the role of b is `guard`"),
    ],
)
def test_families_that_are_none(at, change, found):
    one, two = Asked("spend", "primary", at[2.5]), Asked("returns", "guardrail", at[0.0], "down", 1.0)
    with pytest.raises(InputError, match=found):
        read_family(change(one, two))
    with pytest.raises(InputError, match="at another level"):
        read_family([one, two], alpha=0.1)
