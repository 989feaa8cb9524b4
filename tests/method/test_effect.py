"""Effects and lifts: equal to their peers, consistent in themselves, refused where they would mislead."""

import math
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import tea_tasting as tt
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from fairlift.errors import InputError, Refusal
from fairlift.method import Mean, Moments, Proportion, Ratio, default_interval, effect, lift, moments
from fairlift.method.effect import above, capped

REVENUE = Mean("revenue", covariates=("history",))
BOUGHT = Proportion("bought")
FREQUENCY = Ratio("orders", "sessions")


def retail(n=4000, seed=2, share=0.3):
    draws = np.random.default_rng(seed)
    history = draws.exponential(50, n)
    new = draws.random(n) < share
    stratum = draws.choice(["north", "south", "west"], n, p=[0.5, 0.3, 0.2])
    bought = draws.random(n) < 0.25 + 0.05 * new
    return pd.DataFrame(
        {
            "arm": np.where(new, "new", "control"),
            "stratum": stratum,
            "history": history,
            "recency": draws.integers(1, 13, n),
            "bought": bought.astype(int),
            "revenue": np.where(bought, draws.lognormal(3, 0.7, n) + history / 5 + 4 * (stratum == "west"), 0.0),
            "orders": np.where(bought, 1 + draws.poisson(0.4, n), 0),
            "sessions": 1 + draws.poisson(3, n),
        }
    )


@pytest.fixture(scope="module")
def rows():
    return retail()


@pytest.fixture(scope="module")
def gathered(rows):
    return moments(rows, [REVENUE, BOUGHT, FREQUENCY, Mean("bought")], "arm", stratum="stratum")


@pytest.mark.parametrize("share", [0.5, 0.05])
@pytest.mark.parametrize(
    ("metric", "adjust", "peer"),
    [
        (REVENUE, None, tt.Mean("revenue")),
        (REVENUE, "pooled", tt.Mean("revenue", "history")),
        (BOUGHT, None, tt.Mean("bought")),
        (FREQUENCY, None, tt.RatioOfMeans("orders", "sessions")),
    ],
    ids=["mean", "cuped", "proportion", "ratio"],
)
def test_equals_tea_tasting(metric, adjust, peer, share):
    rows = retail(share=share)
    got = effect(moments(rows, metric, "arm"), metric, "new", "control", interval="welch", adjust=adjust)
    result = tt.Experiment(peer=peer).analyze(
        rows[["arm", *metric.columns]].rename(columns={"arm": "variant"}), control="control"
    )["peer"]
    ours = (got.mean_versus, got.mean_arm, got.value, got.low, got.high, got.p, got.value / got.se)
    theirs = (
        result.control,
        result.treatment,
        result.effect_size,
        result.effect_size_ci_lower,
        result.effect_size_ci_upper,
        result.pvalue,
        result.statistic,
    )
    assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)


def test_equals_scipy_and_statsmodels(rows, gathered):
    one, two = (rows.loc[rows["arm"] == arm, "revenue"] for arm in ("new", "control"))
    got = effect(gathered, REVENUE, "new", "control", interval="welch", alpha=0.01)
    peer = stats.ttest_ind(one, two, equal_var=False)
    limits = peer.confidence_interval(0.99)
    assert (got.p, got.df, got.low, got.high) == pytest.approx(
        (peer.pvalue, peer.df, limits.low, limits.high), rel=1e-9
    )
    one, two = (rows.loc[rows["arm"] == arm, "bought"] for arm in ("new", "control"))
    got = effect(gathered, BOUGHT, "new", "control", interval="welch")
    compared = CompareMeans(DescrStatsW(one), DescrStatsW(two)).tconfint_diff(usevar="unequal")
    assert (got.low, got.high) == pytest.approx(compared, rel=1e-9)


@pytest.mark.parametrize("covariates", [("history",), ("history", "recency"), ("history", "recency", "double")])
def test_lin_is_the_interacted_regression(rows, covariates):
    rows = rows.assign(double=2 * rows["history"] - 3)
    metric = Mean("revenue", covariates)
    got = effect(moments(rows, metric, "arm"), metric, "new", "control", interval="welch", adjust="lin")
    free = [name for name in covariates if name != "double"]  # a copy of a covariate adds nothing
    x = rows[free] - rows[free].mean()
    treated = (rows["arm"] == "new").astype(float)
    design = pd.concat([treated.rename("treated"), x, x.mul(treated, axis=0).add_suffix(" × treated")], axis=1)
    fit = sm.OLS(rows["revenue"], sm.add_constant(design)).fit()
    assert got.value == pytest.approx(fit.params["treated"], rel=1e-9)
    assert got.mean_versus == pytest.approx(fit.params["const"], rel=1e-9)
    # the standard error is made by hand: residual variance in each arm, and the covariate means, which are estimates
    parts = [fit.resid[treated == arm].pow(2).sum() / ((treated == arm).sum() - 1 - len(free)) for arm in (1, 0)]
    gap = fit.params[[f"{name} × treated" for name in free]].to_numpy()
    sampled = gap @ np.atleast_2d(np.cov(x.T)) @ gap / len(rows)
    variance = parts[0] / treated.sum() + parts[1] / (1 - treated).sum() + sampled
    assert got.se == pytest.approx(math.sqrt(variance), rel=1e-9)


def test_missing_covariates_enter_with_their_indicator(rows):
    holed = rows.assign(history=rows["history"].where(rows.index % 4 > 0))
    filled = holed.assign(history=holed["history"].fillna(-77.0), gone=holed["history"].isna().astype(float))
    got = effect(moments(holed, REVENUE, "arm"), REVENUE, "new", "control", adjust="lin")
    metric = Mean("revenue", ("history", "gone"))
    peer = effect(moments(filled, metric, "arm"), metric, "new", "control", adjust="lin")
    ours = (got.value, got.se, got.low, got.high, got.skew)
    assert ours == pytest.approx((peer.value, peer.se, peer.low, peer.high, peer.skew), rel=1e-9)


def test_constant_covariate_changes_nothing(rows):
    metric = Mean("revenue", ("same",))
    got = moments(rows.assign(same=0.1), metric, "arm")
    for adjust in ("lin", "pooled"):
        plain, adjusted = (effect(got, metric, "new", "control", adjust=a) for a in (None, adjust))
        assert (adjusted.value, adjusted.se, adjusted.df) == pytest.approx((plain.value, plain.se, plain.df), rel=1e-12)


def test_adjustment_narrows_by_the_correlation():
    draws = np.random.default_rng(5)
    x = draws.normal(size=20_000)
    rows = pd.DataFrame(
        {"arm": draws.choice(["a", "b"], 20_000), "x": x, "y": 3 + 0.8 * x + 0.6 * draws.normal(size=20_000)}
    )
    metric = Mean("y", "x")
    got = moments(rows, metric, "arm")
    plain, lin = (effect(got, metric, "a", "b", adjust=adjust) for adjust in (None, "lin"))
    assert (lin.se / plain.se) ** 2 == pytest.approx(1 - np.corrcoef(rows["x"], rows["y"])[0, 1] ** 2, rel=0.01)


def test_hall_uses_the_skew_of_the_adjusted_outcome():
    rows = retail(8000)
    got = moments(rows, REVENUE, "arm")
    adjusted = effect(got, REVENUE, "new", "control", adjust="pooled")
    pooled = got.arm("new", "control")
    theta = pooled.cov("revenue", "history") / pooled.var("history")
    again = rows.assign(rest=rows["revenue"] - theta * rows["history"])
    peer = effect(moments(again, Mean("rest"), "arm"), Mean("rest"), "new", "control")
    assert adjusted.skew == pytest.approx(peer.skew, rel=1e-9)
    assert (adjusted.low, adjusted.high, adjusted.p) == pytest.approx((peer.low, peer.high, peer.p), rel=1e-9)


def test_skew_of_the_difference(rows, gathered):
    got = effect(gathered, REVENUE, "new", "control")
    one, two = (rows.loc[rows["arm"] == arm, "revenue"] for arm in ("new", "control"))
    cumulants = stats.kstat(one, 3) / len(one) ** 2 - stats.kstat(two, 3) / len(two) ** 2
    variance = one.var() / len(one) + two.var() / len(two)
    assert got.skew == pytest.approx(cumulants / variance**1.5, rel=1e-9)
    assert effect(gathered, REVENUE, "control", "new").skew == pytest.approx(-got.skew, rel=1e-9)


def test_hall_is_the_published_transformation(gathered):
    """Both limits, put back into Hall's cubic, give the quantiles (Hall 1992, equation 2.3)."""
    got = effect(gathered, REVENUE, "new", "control")
    assert got.skew != 0
    for limit, side in ((got.low, 1), (got.high, -1)):
        t = (got.value - limit) / got.se
        cubic = t + got.skew * t**2 / 3 + got.skew**2 * t**3 / 27 + got.skew / 6
        assert cubic == pytest.approx(side * stats.t.isf(0.025, got.df_limits), rel=1e-9)


def test_hall_without_skew_is_welch():
    rows = pd.DataFrame({"arm": ["a", "b"] * 500, "y": np.tile([1.0, 2.0, 3.0, 4.0], 250)})
    got = moments(rows, Mean("y"), "arm")
    hall, welch = (effect(got, Mean("y"), "a", "b", interval=how) for how in ("hall", "welch"))
    assert hall.skew == pytest.approx(0, abs=1e-12)
    assert (hall.low, hall.high, hall.p) == pytest.approx((welch.low, welch.high, welch.p), rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["hall", "welch"]),
    st.sampled_from([0.001, 0.05, 0.3]),
    st.floats(-1.0, 1.0),
    st.floats(0.05, 2.0),
    st.booleans(),
)
def test_p_is_below_alpha_exactly_when_the_interval_leaves_out_zero(interval, alpha, gap, spread, flip):
    skewed = np.exp(spread * stats.norm.ppf((np.arange(240) + 0.5) / 240))
    other = skewed[::2] + gap * skewed.std() / 3
    rows = pd.DataFrame({"arm": ["a"] * 240 + ["b"] * 120, "y": np.concatenate([skewed, other])})
    names = ("b", "a") if flip else ("a", "b")
    got = effect(moments(rows, Mean("y"), "arm"), Mean("y"), *names, interval=interval, alpha=alpha)
    assert got.low <= got.value <= got.high or interval == "hall"
    assert got.low < got.high
    if abs(got.p - alpha) > 1e-9:
        assert (got.p < alpha) == (got.low > 0 or got.high < 0)


def test_a_share_is_read_as_the_mean_of_its_zeros_and_ones():
    """What is known of 0 and 1 gives the third moment that the engine would have summed."""
    rows = pd.DataFrame(
        {"y": [1.0] * 30 + [0.0] * 970 + [1.0] * 200 + [0.0] * 3800, "arm": ["a"] * 1000 + ["b"] * 4000}
    )
    as_mean, as_share = (
        effect(moments(rows, metric, "arm"), metric, "a", "b", **more)
        for metric, more in ((Mean("y"), {"min_nonzero": 1}), (Proportion("y"), {}))
    )
    assert (as_share.skew, as_share.se) == pytest.approx((as_mean.skew, as_mean.se), rel=1e-9)
    assert (as_share.low, as_share.high) != pytest.approx(
        (as_mean.low, as_mean.high), rel=1e-4
    )  # few buyers widen a mean


def counted(**arms):
    """The moments of a share from (customers, events) of each arm."""
    rows = [
        {"arm": arm, "stratum": "", "day": "", "n": float(n), "nonzero y": float(k), "mean y": k / n}
        | {"sum y × y": k * (1 - k / n)}
        for arm, (n, k) in arms.items()
    ]
    return Moments(pd.DataFrame(rows), (Proportion("y"),))


@pytest.mark.parametrize("expected", [0.5, 1, 3])
def test_a_holdout_without_an_event_by_chance_makes_no_harm(expected):
    """The chance of a false harm, summed over what may happen; the error of an arm without events is not 0."""
    harm, alone = 0.0, 0.0
    for none in range(8):
        for many in range(int(stats.poisson.ppf(1e-4, 19 * expected)), int(stats.poisson.ppf(0.9999, 19 * expected))):
            chance = stats.poisson.pmf(none, expected) * stats.poisson.pmf(many, 19 * expected)
            alone += chance * (many > 0 and none == 0)  # where no error of the holdout is taken, every one a harm
            with suppress(Refusal):
                harm += chance * (effect(counted(a=(19_000, many), b=(1000, none)), Proportion("y"), "a", "b").low > 0)
    assert harm < 0.025 < alone


def test_a_share_that_is_0_in_one_arm_is_refused_where_chance_may_do_it():
    few, many = ({"a": (n, k), "b": (n, 0)} for n, k in ((1000, 5), (1000, 6)))
    assert stats.fisher_exact([[5, 995], [0, 1000]])[1] / 2 > 0.025 > stats.fisher_exact([[6, 994], [0, 1000]])[1] / 2
    with pytest.raises(Refusal, match="no unit of b has a value other than 0 and 5 of a have"):
        effect(counted(**few), Proportion("y"), "a", "b")
    assert effect(counted(**many), Proportion("y"), "a", "b").low > 0  # nobody in the holdout can opt out, say
    with pytest.raises(Refusal, match="no unit of a has the value 0 and 2 of b have"):
        effect(counted(a=(100, 100), b=(100, 98)), Proportion("y"), "a", "b")


def test_default_intervals(gathered):
    assert [effect(gathered, m, "new", "control").interval for m in (REVENUE, BOUGHT, FREQUENCY)] == [
        "hall",
        "hall",
        "welch",
    ]
    assert default_interval(Mean("x")) == "hall"


# --- cells ----------------------------------------------------------------------------------------------------------


def test_cells_combine_with_their_shares(rows, gathered):
    got = effect(gathered, REVENUE, "new", "control", interval="welch", by="stratum")
    value = variance = spread = 0.0
    gaps, shares = [], []
    for _, part in rows.groupby("stratum"):
        one, two = (part.loc[part["arm"] == arm, "revenue"] for arm in ("new", "control"))
        share = len(part) / len(rows)
        gaps.append(one.mean() - two.mean())
        shares.append(share)
        variance += share**2 * (one.var() / len(one) + two.var() / len(two))
    value = np.dot(shares, gaps)
    spread = np.dot(shares, (np.array(gaps) - value) ** 2) / len(rows)
    assert got.value == pytest.approx(value, rel=1e-10)
    assert got.se == pytest.approx(math.sqrt(variance + spread), rel=1e-10)
    fixed = dict(zip(["north", "south", "west"], shares, strict=True))
    known = effect(gathered, REVENUE, "new", "control", interval="welch", by="stratum", weights=fixed)
    assert (known.value, known.se) == pytest.approx((value, math.sqrt(variance)), rel=1e-10)


def test_lin_within_cells_uses_one_slope_per_arm(rows, gathered):
    got = effect(gathered, REVENUE, "new", "control", interval="welch", adjust="lin", by="stratum")
    value = 0.0
    for arm, sign in (("new", 1), ("control", -1)):
        own = rows[rows["arm"] == arm]
        inside = own[["revenue", "history"]] - own.groupby("stratum")[["revenue", "history"]].transform("mean")
        slope = (inside["revenue"] * inside["history"]).sum() / (inside["history"] ** 2).sum()
        for stratum, part in rows.groupby("stratum"):
            mine = own[own["stratum"] == stratum]
            adjusted = mine["revenue"].mean() - slope * (mine["history"].mean() - part["history"].mean())
            value += sign * len(part) / len(rows) * adjusted
    assert got.value == pytest.approx(value, rel=1e-9)


def ramp(seed, n=6000):
    """Two stages: 5 % get the new thing in quiet weeks, half get it in the season, when everybody buys more."""
    draws = np.random.default_rng(seed)
    season = draws.random(n) < 0.5
    new = draws.random(n) < np.where(season, 0.5, 0.05)
    y = draws.normal(10 + 20 * season + 2 * new, 5)
    return pd.DataFrame(
        {"arm": np.where(new, "new", "control"), "week": np.where(season, "w2", "w1"), "y": y, "z": 1 + 0 * y}
    )


@pytest.mark.parametrize("metric", [Mean("y"), Ratio("y", "z")])
def test_changed_shares_mislead_unless_estimated_within_stage(metric):
    got = moments(ramp(3), metric, "arm", day="week")
    naive = effect(got, metric, "new", "control")
    within = effect(got, metric, "new", "control", by="day")
    assert naive.low > 5  # far from the true 2
    assert within.low < 2 < within.high
    assert within.se < 0.5


def test_fixed_weights_are_used_as_given():
    rows = ramp(4)
    rows.loc[rows["week"] == "w2", "y"] += 6.0 * (rows["arm"] == "new")
    got = moments(rows, Mean("y"), "arm", day="week")
    effects = [
        effect(got, Mean("y"), "new", "control", by="day", weights={"w1": one, "w2": two}).value
        for one, two in ((1, 0), (0, 5), (1, 1))
    ]
    assert effects[2] == pytest.approx((effects[0] + effects[1]) / 2, rel=1e-12)
    assert effects[1] - effects[0] == pytest.approx(6, abs=1)
    with pytest.raises(InputError, match="1 cells have no weight"):
        effect(got, Mean("y"), "new", "control", by="day", weights={"w1": 1})
    with pytest.raises(InputError, match="negative"):
        effect(got, Mean("y"), "new", "control", by="day", weights={"w1": 2, "w2": -1})


def test_two_keys_make_one_cell_each(rows):
    rows = rows.assign(week=np.arange(len(rows)) % 4)
    both = moments(rows, REVENUE, "arm", stratum="stratum", day="week")
    joined = moments(rows.assign(cell=rows["stratum"] + rows["week"].astype(str)), REVENUE, "arm", stratum="cell")
    one = effect(both, REVENUE, "new", "control", by=("stratum", "day"))
    two = effect(joined, REVENUE, "new", "control", by="stratum")
    assert (one.value, one.se, one.low, one.p) == pytest.approx((two.value, two.se, two.low, two.p), rel=1e-10)
    pooled, plain = (effect(m, REVENUE, "new", "control") for m in (both, moments(rows, REVENUE, "arm")))
    assert (pooled.value, pooled.se, pooled.high) == pytest.approx((plain.value, plain.se, plain.high), rel=1e-10)


def test_a_cell_without_an_arm_is_refused(rows):
    lonely = rows[(rows["stratum"] != "west") | (rows["arm"] == "control")]
    got = moments(lonely, REVENUE, "arm", stratum="stratum")
    with pytest.raises(Refusal, match="1 of the cells of stratum have units of control but none of new"):
        effect(got, REVENUE, "new", "control", by="stratum")
    single = pd.concat([lonely, rows[(rows["stratum"] == "west") & (rows["arm"] == "new")].head(1)])
    with pytest.raises(Refusal, match="single unit"):
        effect(moments(single, REVENUE, "arm", stratum="stratum"), REVENUE, "new", "control", by="stratum")


# --- lift -----------------------------------------------------------------------------------------------------------


def test_lift_limits_are_where_the_ratio_is_just_rejected(rows, gathered):
    """Fieller's set inverted by hand: m₁ − ρ m₀ has t = ± the quantile at both ends."""
    got = effect(gathered, REVENUE, "new", "control", interval="welch")
    relative = lift(got, alpha=0.1)
    one, two = (rows.loc[rows["arm"] == arm, "revenue"] for arm in ("new", "control"))
    for limit, side in ((relative.low, 1), (relative.high, -1)):
        ratio = 1 + limit
        t = (one.mean() - ratio * two.mean()) / math.sqrt(one.var() / len(one) + ratio**2 * two.var() / len(two))
        assert t == pytest.approx(side * stats.t.isf(0.05, got.df), rel=1e-6)
    assert relative.value == pytest.approx(one.mean() / two.mean() - 1, rel=1e-12)


def test_lift_leaves_out_zero_when_welch_does():
    for seed in range(25):
        got = effect(moments(retail(600, seed), FREQUENCY, "arm"), FREQUENCY, "new", "control")
        relative = lift(got)
        assert (relative.low > 0 or relative.high < 0) == (got.low > 0 or got.high < 0)


def test_no_lift_near_a_zero_or_below_it():
    draws = np.random.default_rng(1)
    rows = pd.DataFrame({"arm": ["a", "b"] * 200, "y": draws.normal(0.05, 1, 400)})
    with pytest.raises(Refusal, match="cannot be told from 0"):
        lift(effect(moments(rows, Mean("y"), "arm"), Mean("y"), "a", "b"))
    with pytest.raises(Refusal, match="is negative"):
        lift(effect(moments(rows.assign(y=rows["y"] - 9), Mean("y"), "arm"), Mean("y"), "a", "b"))


# --- refusals -------------------------------------------------------------------------------------------------------


def few_buyers(control, new=500):
    spend = np.zeros(20_000)
    spend[:control], spend[10_000 : 10_000 + new] = 20 + np.arange(control), 20 + np.arange(new)
    return moments(pd.DataFrame({"arm": ["c"] * 10_000 + ["n"] * 10_000, "spend": spend}), Mean("spend"), "arm")


def test_hall_needs_buyers_in_both_arms():
    spend = Mean("spend")
    for names in (("n", "c"), ("c", "n")):
        with pytest.raises(Refusal, match="c has 99 units with a value other than 0 and 100 are needed"):
            effect(few_buyers(99), spend, *names)
    assert effect(few_buyers(100), spend, "n", "c").interval == "hall"
    assert effect(few_buyers(99), spend, "n", "c", min_nonzero=99).n_versus == 10_000
    assert effect(few_buyers(99), spend, "n", "c", interval="welch").interval == "welch"


def test_with_few_buyers_the_variance_has_few_degrees_of_freedom():
    spend = Mean("spend")
    widths = {}
    for buyers in (100, 499, 500):
        got = effect(few_buyers(buyers, new=2_000), spend, "n", "c")
        plain = [stats.t.isf(0.025, df) for df in (got.df_limits, got.df)]
        widths[buyers] = (got.fewest, got.df_limits, round(plain[0] / plain[1], 3))
    assert widths[100] == (100, 25.0, 1.051)
    assert widths[499] == (499, 499 / 4, 1.010)
    assert widths[500][2] == 1.0
    assert effect(few_buyers(120), spend, "n", "c", interval="welch").df_limits > 5_000


def test_above_is_the_interval_turned_round(gathered):
    got = effect(gathered, REVENUE, "new", "control")
    assert above(got, got.low) == pytest.approx(0.025, rel=1e-9)
    assert above(got, got.high) == pytest.approx(0.975, rel=1e-9)
    assert 2 * min(above(got, 0), 1 - above(got, 0)) == pytest.approx(got.p, rel=1e-9)


@pytest.mark.parametrize("interval", ["hall", "welch"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e8])
def test_nothing_varies(interval, value):
    rows = pd.DataFrame({"arm": ["a", "b"] * 3000, "y": value, "s": 2.0})
    got = moments(rows, [Mean("y"), Ratio("y", "s")], "arm")
    with pytest.raises(Refusal, match="nothing to compare"):
        effect(got, Mean("y"), "a", "b", interval=interval)
    with pytest.raises(Refusal, match="nothing to compare"):
        effect(got, Ratio("y", "s"), "a", "b")


@pytest.mark.parametrize("value", [0, 1])
def test_a_proportion_that_is_the_same_for_all(value):
    rows = pd.DataFrame({"arm": ["a", "b"] * 50, "visit": value})
    with pytest.raises(Refusal, match="nothing to compare"):
        effect(moments(rows, Proportion("visit"), "arm"), Proportion("visit"), "a", "b")


def test_one_arm_and_empty_arms(rows):
    got = moments(rows[rows["arm"] == "new"], REVENUE, "arm")
    with pytest.raises(Refusal, match=r"arm control has no units.*arms with units: new"):
        effect(got, REVENUE, "new", "control")
    with pytest.raises(Refusal, match="arms with units: none"):
        effect(moments(rows.head(0), REVENUE, "arm"), REVENUE, "new", "control")
    with pytest.raises(Refusal, match="single unit"):
        one = pd.concat([rows[rows["arm"] == "new"], rows[rows["arm"] == "control"].head(1)])
        effect(moments(one, REVENUE, "arm"), REVENUE, "new", "control", interval="welch")


def test_a_ratio_needs_a_denominator(rows):
    nowhere = moments(rows.assign(sessions=np.where(rows["arm"] == "new", rows["sessions"], 0)), FREQUENCY, "arm")
    with pytest.raises(Refusal, match="sessions is 0 for every unit"):
        effect(nowhere, FREQUENCY, "new", "control")


def test_too_few_units_for_the_covariates():
    draws = np.random.default_rng(0)
    rows = pd.DataFrame({"arm": ["a", "b"] * 3, "y": draws.random(6), "u": draws.random(6), "v": draws.random(6)})
    metric = Mean("y", ("u", "v"))
    with pytest.raises(Refusal, match="too few units for 2 covariates"):
        effect(moments(rows, metric, "arm"), metric, "a", "b", interval="welch", adjust="lin")


def test_wrong_questions_are_answered_all_at_once(gathered):
    with pytest.raises(InputError) as refused:
        effect(gathered, BOUGHT, "new", "new", interval="hal", alpha=5, adjust="lin", by="region")
    assert [problem.where for problem in refused.value.problems] == ["arms", "interval", "alpha", "adjust", "by"]
    with pytest.raises(InputError, match="Hall's interval is for means and shares"):
        effect(gathered, FREQUENCY, "new", "control", interval="hall")
    with pytest.raises(InputError, match="nothing was gathered"):
        effect(gathered, Mean("orders", ("history",)), "new", "control", adjust="lin")


def test_reads_well(gathered):
    text = str(effect(gathered, REVENUE, "new", "control", adjust="lin", by="stratum"))
    first, *middle, last = text.splitlines()
    assert first == "mean of revenue: new against control"
    assert len({line.index("SE") for line in middle}) == 1
    assert last.endswith("(Hall, Lin, within stratum)")
    assert "points" in str(effect(gathered, BOUGHT, "new", "control"))
    assert "(Fieller)" in str(lift(effect(gathered, REVENUE, "new", "control")))


# --- a cap ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spenders():
    """A thousand ordinary customers an arm, and in one arm two who spend very much."""
    draws = np.random.default_rng(8)
    ordinary = draws.gamma(2, 10, 2000)
    rows = pd.DataFrame({"arm": np.repeat(["new", "old"], 1000), "spend": ordinary, "before": draws.normal(size=2000)})
    rows.loc[:1, "spend"] = 5_000.0
    return rows


def test_the_cap_is_read_beside_and_not_instead(spenders):
    both = capped(spenders, Mean("spend"), 200.0, "arm", "new", "old", interval="welch")
    clipped = spenders.assign(spend=spenders["spend"].clip(upper=200))
    for seen, rows in ((both.uncapped, spenders), (both.capped, clipped)):
        peer = effect(moments(rows, Mean("spend"), "arm"), Mean("spend"), "new", "old", interval="welch")
        assert (seen.value, seen.low, seen.high) == pytest.approx((peer.value, peer.low, peer.high), rel=1e-12)
    assert both.above == {"new": 2 / 1000, "old": 0.0}
    assert both.agree
    assert "no cap" in str(both) and "capped at 200" in str(both) and "agree" in str(both)


def test_a_few_customers_who_make_the_result_are_seen(spenders):
    """Everybody else lost a little; two customers turn the loss into a gain."""
    lost = spenders.assign(spend=spenders["spend"].where(spenders["arm"] == "old", spenders["spend"] - 3))
    both = capped(lost, Mean("spend", "before"), 200.0, "arm", "new", "old", interval="welch", adjust="lin")
    assert both.uncapped.value > 0 > both.capped.high
    assert not both.agree
    assert "disagree" in str(both)


def test_a_cap_on_a_table_of_a_database(spenders):
    import ibis
    import pyarrow as pa

    frame, table = (
        capped(rows, Mean("spend"), 200.0, "arm", "new", "old")
        for rows in (spenders, ibis.memtable(pa.Table.from_pandas(spenders)))
    )
    assert table.capped.low == pytest.approx(frame.capped.low, rel=1e-12)
    assert table.above == pytest.approx(frame.above)


@pytest.mark.parametrize(
    ("metric", "cap"),
    [(Mean("spend"), 0.0), (Mean("spend"), math.nan), (Mean("spend"), math.inf), (Proportion("y"), 9.0)],
)
def test_what_cannot_be_capped(spenders, metric, cap):
    with pytest.raises(InputError):
        capped(spenders, metric, cap, "arm", "new", "old")


def test_a_cap_that_caps_nobody_or_everybody(spenders):
    idle = capped(spenders, Mean("spend"), 1e6, "arm", "new", "old")
    assert (idle.capped.low, idle.capped.high) == (idle.uncapped.low, idle.uncapped.high)
    with pytest.raises(Refusal, match="nothing to compare"):
        capped(spenders, Mean("spend"), 1e-9, "arm", "new", "old")
