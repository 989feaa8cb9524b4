"""Whole clusters drawn: against peers, an exact published answer, known truths, and what must be refused."""

import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from benchmarks.calibration.clusters import eight, geo, leaning, refused, thirty, unlike
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fairlift.errors import InputError, Refusal
from fairlift.method.cluster_evidence import cluster_evidence, likeness_evidence
from fairlift.method.cluster_means import by_cluster
from fairlift.method.clusters import cluster_effect
from fairlift.method.geo import draw_pairs, match_pairs, placebo
from fairlift.method.icc import icc
from fairlift.method.power import design_effect
from fairlift.method.randomisation import Design, Studentised, fewest, randomise
from fairlift.simulate.stores import StoreTrial, customers, draw_trials, naive_z

# Darwin's cross- and self-fertilised maize, 15 pairs, differences in eighths of an inch (Fisher 1935, section 21)
MAIZE = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


@pytest.fixture(scope="module")
def people():
    """Ten stores of unequal size with a pre-period; pairs are neighbours, one of each treated."""
    rows = customers(StoreTrial(stores=10, customers=60, cv=0.6, effect=4.0), seed=3, treated=np.arange(10) % 2 == 0)
    return rows.assign(pair=rows["store"].str[1:].astype(int) // 2)


@pytest.fixture(scope="module")
def stores(people):
    means = people.groupby(["store", "arm", "pair"], as_index=False)[["spend", "spend_before"]].mean()
    return means.assign(n=people.groupby("store").size().to_numpy(), new=(means["arm"] == "new").astype(float))


def read(people, **options):
    columns = {key: options.pop(key) for key in ("pre", "block") if key in options}
    return cluster_effect(by_cluster(people, "spend", "store", "arm", **columns), "new", "old", **options)


# ---------------------------------------------------------------- one pass


def test_customers_are_reduced_to_clusters_as_pandas_would(people):
    found = by_cluster(people, "spend", "store", "arm", pre="spend_before", block="pair")
    groups = people.groupby("store")
    assert found.name.tolist() == list(groups.groups)
    assert found.n == pytest.approx(groups.size().to_numpy())
    assert found.mean == pytest.approx(groups["spend"].mean().to_numpy(), rel=1e-12)
    assert found.within == pytest.approx((groups["spend"].var() * (groups.size() - 1)).to_numpy(), rel=1e-10)
    assert found.pre == pytest.approx(groups["spend_before"].mean().to_numpy(), rel=1e-12)


def test_an_ibis_table_gives_the_same(people):
    import ibis

    connection = ibis.duckdb.connect()
    connection.con.register("given", pa.Table.from_pandas(people, preserve_index=False))
    connection.con.execute("CREATE TABLE people AS SELECT * FROM given")
    table = connection.table("people")
    one, two = (read(rows, pre="spend_before", adjust=True) for rows in (table, people))
    assert (one.value, one.se, one.low, one.high) == pytest.approx((two.value, two.se, two.low, two.high), rel=1e-9)
    assert (one.p, one.draws, one.n_arm) == (two.p, two.draws, two.n_arm)


def test_spread_within_survives_a_large_mean(people):
    far = by_cluster(people.assign(spend=people["spend"] + 1e8), "spend", "store", "arm")
    assert far.within == pytest.approx(by_cluster(people, "spend", "store", "arm").within, rel=1e-6)


def test_every_problem_is_told_at_once(people):
    broken = people.copy()
    broken.loc[0, "store"] = None
    broken.loc[1, "spend"] = np.nan
    broken.loc[2, "arm"] = "old"
    with pytest.raises(InputError) as refusal:
        by_cluster(broken, "spend", "store", "arm")
    text = str(refusal.value)
    for said in ("1 customers have no cluster", "1 customers have no value", "1 clusters stand in two arms"):
        assert said in text


def test_an_absent_column_and_text_are_refused(people):
    with pytest.raises(InputError, match="there is no such column"):
        by_cluster(people, "spend", "shop", "arm")
    with pytest.raises(InputError, match="not numbers"):
        by_cluster(people, "region", "store", "arm")


# ---------------------------------------------------------------- against peers


def test_the_t_is_welch_s_on_store_means(people, stores):
    found = read(people, inference="t")
    peer = stats.ttest_ind(
        stores.query("arm == 'new'")["spend"], stores.query("arm == 'old'")["spend"], equal_var=False
    )
    low, high = peer.confidence_interval()
    assert (found.p, found.df, found.low, found.high) == pytest.approx((peer.pvalue, peer.df, low, high), rel=1e-9)


def test_the_paired_t_is_scipy_s(people, stores):
    found = read(people, block="pair", inference="t")
    wide = stores.pivot(index="pair", columns="arm", values="spend")
    peer = stats.ttest_rel(wide["new"], wide["old"])
    low, high = peer.confidence_interval()
    assert (found.p, found.df, found.low, found.high) == pytest.approx((peer.pvalue, peer.df, low, high), rel=1e-9)


def test_the_adjusted_difference_is_the_ancova_with_hc2(people, stores):
    import statsmodels.formula.api as smf

    found = read(people, pre="spend_before", adjust=True, inference="t")
    peer = smf.ols("spend ~ new + spend_before", stores).fit(cov_type="HC2")
    assert (found.value, found.se) == pytest.approx((peer.params["new"], peer.bse["new"]), rel=1e-9)


def test_the_average_over_customers_is_the_regression_on_customers_with_cr2(people):
    """By the definition: residuals of each cluster times (I − H)^(−1/2), on one row a customer."""
    found = read(people, average="customers", inference="t")
    x = np.column_stack([np.ones(len(people)), people["arm"] == "new"]).astype(float)
    y = people["spend"].to_numpy()
    bread = np.linalg.inv(x.T @ x)
    beta = bread @ x.T @ y
    meat, columns = np.zeros((2, 2)), []
    hat = x @ bread @ x.T
    for store in sorted(set(people["store"])):
        mine = (people["store"] == store).to_numpy()
        size, vectors = np.linalg.eigh(np.eye(mine.sum()) - hat[np.ix_(mine, mine)])
        root = vectors @ np.diag(1 / np.sqrt(size)) @ vectors.T
        score = x[mine].T @ root @ (y - x @ beta)[mine]
        meat += np.outer(score, score)
        columns.append((np.eye(len(y)) - hat)[:, mine] @ root @ x[mine] @ bread[:, 1])
    theta = icc(by_cluster(people, "spend", "store", "arm")).value
    same = np.equal.outer(people["store"].to_numpy(), people["store"].to_numpy())
    omega = (1 - theta) * np.eye(len(y)) + theta * same
    g = np.column_stack(columns)
    eigen = np.linalg.eigvalsh(g.T @ omega @ g)  # Imbens and Kolesár (2016), equation 10
    assert found.value == pytest.approx(beta[1], rel=1e-10)
    assert found.se == pytest.approx(math.sqrt((bread @ meat @ bread)[1, 1]), rel=1e-9)
    assert found.df == pytest.approx(eigen.sum() ** 2 / (eigen**2).sum(), rel=1e-7)


def test_the_naive_sandwich_shown_failing_is_statsmodels_crv1():
    import statsmodels.formula.api as smf

    trial = StoreTrial(stores=6, customers=40, cv=0.4)
    rows = customers(trial, seed=5)
    found = by_cluster(rows, "spend", "store", "arm")
    trials = draw_trials(trial, 1, 5)
    fields = {"size": found.n, "mean": found.mean, "within": found.within, "effect": np.zeros(6)}
    same = type(trials)(**(vars(trials) | {name: value[None, :] for name, value in fields.items()}))
    fit = smf.ols(
        "spend ~ new", rows.assign(new=(rows["arm"] == "new").astype(float), code=rows["store"].str[1:].astype(int))
    )
    treated = (found.arm == "new")[None, :]
    value, se = naive_z(same, treated, robust=True)
    crv1 = fit.fit(cov_type="cluster", cov_kwds={"groups": rows["store"].str[1:].astype(int)})
    assert (value[0], se[0]) == pytest.approx((crv1.params["new"], crv1.bse["new"]), rel=1e-9)
    _, naive = naive_z(same, treated, robust=False)
    spend = [rows.loc[rows["arm"] == arm, "spend"] for arm in ("new", "old")]
    assert naive[0] == pytest.approx(math.sqrt(sum(s.var() / len(s) for s in spend) * 1.0), rel=1e-9)


@pytest.mark.parametrize("split", [(4, 4), (5, 5), (4, 6)])
def test_the_exact_p_is_scipy_s_permutation_test(split):
    draws = np.random.default_rng(sum(split) * split[0])
    values = [draws.normal(1.2 * (arm == "new"), 1, n).round(2) for arm, n in zip(("new", "old"), split, strict=True)]
    rows = pd.DataFrame({"store": range(sum(split)), "arm": ["new"] * split[0] + ["old"] * split[1]})
    found = read(rows.assign(spend=np.concatenate(values)))

    def welch(x, y, axis):
        spread = x.var(axis=axis, ddof=1) / x.shape[axis] + y.var(axis=axis, ddof=1) / y.shape[axis]
        return (x.mean(axis=axis) - y.mean(axis=axis)) / np.sqrt(spread)

    peer = stats.permutation_test(values, welch, n_resamples=np.inf, vectorized=True)
    assert found.exact
    assert found.p == pytest.approx(peer.pvalue, abs=1e-12)


def test_the_exact_p_of_pairs_is_scipy_s(people, stores):
    found = read(people, block="pair", alpha=0.1)
    wide = stores.pivot(index="pair", columns="arm", values="spend")
    peer = stats.permutation_test(
        ((wide["new"] - wide["old"]).to_numpy(),), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert found.p == pytest.approx(peer.pvalue, abs=1e-12)


def maize():
    rows = [(pair, arm, float(value)) for pair, d in enumerate(MAIZE) for arm, value in (("crossed", d), ("selfed", 0))]
    table = pd.DataFrame(rows, columns=["pair", "arm", "height"]).reset_index(names="pot")
    return by_cluster(table, "height", "pot", "arm", block="pair")


def test_darwin_s_maize_gives_fisher_s_p():
    """Fisher 1935: 1,726 of 32,768 sign changes give a sum as large in either direction as the observed 314."""
    found = cluster_effect(maize(), "crossed", "selfed", inference="randomisation", exact_up_to=40_000)
    assert found.draws == 32_768
    assert found.p == pytest.approx(1_726 / 32_768, abs=1e-12)
    assert found.value == pytest.approx(314 / 15)
    assert found.low < 0 < found.high
    assert cluster_effect(maize(), "crossed", "selfed", inference="t").p == pytest.approx(0.0497, abs=5e-5)  # and his t


def test_drawn_assignments_come_near_the_exact_answer_and_repeat():
    drawn = {"inference": "randomisation", "draws": 20_000}
    some = [cluster_effect(maize(), "crossed", "selfed", seed=seed, **drawn) for seed in (1, 1, 2)]
    assert some[0] == some[1]
    assert some[0].p != some[2].p
    for one in some:
        assert not one.exact
        assert one.draws == 20_001
        assert one.p == pytest.approx(1_726 / 32_768, abs=4 * math.sqrt(2 * 0.026 * 0.974 / 20_000))


# ---------------------------------------------------------------- randomisation inference


def brute_force_p(values, treated, effect):
    """The two-sided p of a constant effect, by hand from every way to choose the treated."""
    base = values - effect * treated
    seen = []
    for drawn in Design(treated, np.zeros(len(values), dtype=int)).all():
        one, two = base[drawn], base[~drawn]
        spread = one.var(ddof=1) / len(one) + two.var(ddof=1) / len(two)
        seen.append((one.mean() - two.mean()) / math.sqrt(spread))
    one, two = (values - effect * treated)[treated], (values - effect * treated)[~treated]
    t = (one.mean() - two.mean()) / math.sqrt(one.var(ddof=1) / len(one) + two.var(ddof=1) / len(two))
    seen = np.array(seen)
    return 2 * min((seen >= t - 1e-9).mean(), (seen <= t + 1e-9).mean())


def test_the_interval_holds_the_effects_that_the_draws_do_not_reject():
    values = np.random.default_rng(8).normal(0, 1, 10) + 2 * (np.arange(10) < 5)
    rows = pd.DataFrame({"store": range(10), "arm": ["new"] * 5 + ["old"] * 5, "spend": values})
    found, treated = read(rows), np.arange(10) < 5
    for limit, inwards in ((found.low, 1), (found.high, -1)):
        assert brute_force_p(values, treated, limit + inwards * 1e-4) > 0.05
        assert brute_force_p(values, treated, limit - inwards * 1e-4) <= 0.05


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.floats(-100, 100).map(lambda x: round(x, 2)), min_size=10, max_size=10),
    shift=st.floats(-500, 500).map(lambda x: round(x, 1)),
)
def test_shifting_and_swapping_move_the_interval_and_p_agrees_with_it(values, shift):
    values = np.array(values) + np.linspace(0, 0.5, 10) ** 2
    rows = pd.DataFrame({"store": range(10), "arm": ["new", "old"] * 5, "spend": values})
    found = read(rows)
    assert (found.p <= 0.05) == (found.low > 0 or found.high < 0)
    assert found.low <= found.value <= found.high
    moved = read(rows.assign(spend=values + shift * (rows["arm"] == "new")))
    near = {"abs": 1e-5 + 1e-7 * abs(shift)}
    assert (moved.low, moved.high) == pytest.approx((found.low + shift, found.high + shift), **near)
    swapped = cluster_effect(by_cluster(rows, "spend", "store", "arm"), "old", "new")
    assert (swapped.low, swapped.high, swapped.p) == pytest.approx((-found.high, -found.low, found.p), **near)


def test_draws_keep_to_the_blocks():
    treated, block = np.array([1, 0, 0, 1, 1, 0, 0], dtype=bool), np.array([0, 0, 0, 1, 1, 1, 1])
    design = Design(treated, block)
    assert design.draws == 3 * 6
    for drawn in (design.all(), design.some(500, seed=1)):
        assert (drawn[0] == treated).all()
        assert (drawn[:, :3].sum(axis=1) == 1).all()
        assert (drawn[:, 3:].sum(axis=1) == 2).all()
    assert len(np.unique(design.all(), axis=0)) == 18
    assert len(np.unique(design.some(500, seed=1), axis=0)) == 18


def test_blocks_take_their_difference_out_of_the_spread():
    base = np.repeat([0.0, 100.0, 200.0], 6)
    rows = pd.DataFrame({"store": range(18), "region": np.repeat([0, 1, 2], 6), "arm": ["new", "old"] * 9})
    rows["spend"] = base + np.random.default_rng(2).normal(0, 1, 18) + 3 * (rows["arm"] == "new")
    blocked, loose = read(rows, block="region"), read(rows)
    assert blocked.low > 0
    assert blocked.high - blocked.low < 5 < 50 < loose.high - loose.low


def test_too_few_draws_for_alpha_are_refused():
    statistic = Studentised(
        np.arange(8.0) ** 2, np.arange(8)[None, :] < np.full((11, 1), 4), np.ones((8, 1)), np.ones(8)
    )
    with pytest.raises(InputError, match="too few"):
        randomise(statistic, 0.05)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("split", "least"), [((3, 3), "0.1000"), ((3, 4), "0.0571"), ((2, 6), "0.0714"), ((2, 2), "0.3333")]
)
def test_an_unattainable_level_is_refused_and_the_least_number_said(split, least):
    rows = pd.DataFrame({"store": range(sum(split)), "arm": ["new"] * split[0] + ["old"] * split[1]})
    with pytest.raises(Refusal, match=rf"least two-sided p is {least}.*8 clusters, 4 in each arm"):
        read(rows.assign(spend=np.arange(sum(split)) ** 1.5))


def test_four_against_four_is_the_least_that_can_reach_five_per_cent():
    rows = pd.DataFrame({"store": range(8), "arm": ["new"] * 4 + ["old"] * 4, "spend": np.arange(8) ** 1.5})
    assert read(rows).p == pytest.approx(2 / 70)
    assert read(rows).least_p == pytest.approx(2 / 70)
    assert fewest(0.05) == 8
    assert fewest(0.01) == 10
    with pytest.raises(Refusal, match="10 clusters, 5 in each arm"):
        read(rows, alpha=0.01)


def test_five_pairs_are_refused_and_six_are_not(people):
    with pytest.raises(Refusal, match=r"5 pairs allow 32 draws.*0\.0625.*at least 6 pairs"):
        read(people, block="pair")
    six = customers(StoreTrial(stores=12, customers=20), seed=1, treated=np.arange(12) % 2 == 0)
    assert read(six.assign(pair=six["store"].str[1:].astype(int) // 2), block="pair").least_p == 2 / 64


def test_no_inference_takes_customers_as_independent(people):
    with pytest.raises(InputError, match="never taken as independent"):
        read(people, inference="iid")


def test_a_single_cluster_is_no_arm_however_many_its_customers(people):
    one = people.assign(arm=np.where(people["store"] == "S00", "new", "old"))
    for inference in ("t", "randomisation"):
        with pytest.raises(Refusal, match="single cluster"):
            read(one, inference=inference)


def test_one_huge_store_is_refused_as_a_t(people):
    huge = people[people["store"] == "S00"]
    rows = pd.concat([people, *[huge] * 60])
    with pytest.raises(Refusal, match="degrees of freedom"):
        read(rows, average="customers", inference="t")


def test_stores_that_do_not_differ_are_refused():
    rows = pd.DataFrame({"store": range(8), "arm": ["new", "old"] * 4, "spend": 3.0})
    for inference in ("t", "randomisation"):
        with pytest.raises(Refusal, match="no cluster differs"):
            read(rows, inference=inference)


def test_wrong_options_are_told_at_once(people):
    with pytest.raises(InputError) as refusal:
        read(people, average="stores", adjust=True, alpha=2)
    assert len(refusal.value.problems) == 3
    with pytest.raises(InputError, match="`newest` has no clusters"):
        cluster_effect(by_cluster(people, "spend", "store", "arm"), "newest", "old")
    with pytest.raises(InputError, match="one arm only"):
        read(people.assign(pair=people["store"] == "S00"), block="pair")
    with pytest.raises(Refusal, match="within blocks that are not pairs"):
        read(people.assign(pair=people["pair"] // 3), block="pair", average="customers", inference="t")


# ---------------------------------------------------------------- how alike


def test_the_icc_is_the_analysis_of_variance():
    import statsmodels.api as sm
    import statsmodels.formula.api as smf

    rows = customers(StoreTrial(stores=9, customers=40, cv=0.5, icc=0.2), seed=4)
    table = sm.stats.anova_lm(smf.ols("spend ~ C(store)", rows).fit())
    between, within = table["mean_sq"]
    n = rows.groupby("store").size().to_numpy()
    typical = (n.sum() - (n**2).sum() / n.sum()) / (len(n) - 1)
    found = icc(by_cluster(rows, "spend", "store"))
    assert found.value == pytest.approx((between - within) / (between + (typical - 1) * within), rel=1e-9)
    assert found.low < found.value < found.high


def test_the_icc_s_interval_is_searle_s_where_sizes_are_equal():
    rows = customers(StoreTrial(stores=12, customers=30, icc=0.2), seed=4)
    found = icc(by_cluster(rows, "spend", "store"))
    groups = rows.groupby("store")["spend"]
    f = 30 * groups.mean().var() / groups.var().mean()
    for limit, quantile in ((found.low, 0.975), (found.high, 0.025)):
        ratio = f / stats.f.ppf(quantile, 11, 12 * 29)
        assert limit == pytest.approx((ratio - 1) / (ratio + 29), rel=1e-8)


def test_an_effect_does_not_make_customers_look_alike():
    rows = customers(StoreTrial(stores=20, customers=200, icc=0.02, effect=60.0), seed=1)
    assert icc(by_cluster(rows, "spend", "store")).value > 0.3
    assert icc(by_cluster(rows, "spend", "store", "arm")).value < 0.1


def test_the_design_effect_is_the_variance_that_is_seen():
    """Means of arms of unequal stores vary as much as the formula says, and not as customers alone would make them."""
    trial = StoreTrial(stores=40, customers=100, cv=0.5, icc=0.05)
    trials = draw_trials(trial, 4_000, seed=2)
    means = (trials.size * trials.mean).sum(axis=1) / trials.size.sum(axis=1)
    alone = trial.sd**2 / (1 - trial.icc) / (trial.stores * trial.customers)
    assert means.var() / alone == pytest.approx(design_effect(0.05, 100, cv=0.5), rel=0.1)
    assert means.var() / alone > 1.1 * design_effect(0.05, 100)


def test_an_icc_that_cannot_be_computed_is_refused():
    rows = pd.DataFrame({"store": range(4), "arm": ["new", "old"] * 2, "spend": [1.0, 2, 3, 4]})
    with pytest.raises(Refusal, match="single customer"):
        icc(by_cluster(rows, "spend", "store"))


# ---------------------------------------------------------------- pairs


def test_pairs_are_the_best_and_repeat():
    """Against every way to pair eight stores on two covariates; and whatever the order of the rows."""
    draws = np.random.default_rng(6)
    table = pd.DataFrame(
        {"store": [f"s{i}" for i in range(8)], "before": draws.normal(size=8), "size": draws.normal(size=8)}
    )
    found = match_pairs(table, "store", ["before", "size"])
    x = table[["before", "size"]].to_numpy()
    inverse = np.linalg.inv(np.cov(x, rowvar=False))

    def far(i, j):
        return math.sqrt((x[i] - x[j]) @ inverse @ (x[i] - x[j]))

    def best(free):
        if not free:
            return 0.0
        first, *rest = free
        return min(far(first, other) + best([i for i in rest if i != other]) for other in rest)

    assert found.pairs["distance"].sum() == pytest.approx(best(list(range(8))), rel=1e-9)
    again = match_pairs(table.sample(frac=1, random_state=1), "store", ["before", "size"])
    pd.testing.assert_frame_equal(again.pairs, found.pairs)


def test_pairs_stay_within_their_region_and_the_odd_one_is_named():
    table = pd.DataFrame({"store": list("abcde"), "region": [1, 1, 1, 2, 2], "before": [1.0, 9.0, 2.0, 1.5, 8.0]})
    found = match_pairs(table, "store", ["before"], within=["region"])
    assert {tuple(pair) for pair in found.pairs[["first", "second"]].to_numpy()} == {("a", "c"), ("d", "e")}
    assert found.left == ("b",)


def test_wrong_stores_are_refused_at_once():
    table = pd.DataFrame({"store": ["a", "a"], "before": [1.0, np.nan], "size": 1.0})
    with pytest.raises(InputError) as refusal:
        match_pairs(table, "store", ["before", "size"])
    assert len(refusal.value.problems) == 3


def test_a_draw_repeats_by_its_salt_and_is_fair():
    stores = pd.DataFrame({"store": [f"s{i:02}" for i in range(12)], "before": np.arange(12.0)})
    pairs = match_pairs(stores, "store", ["before"])
    pd.testing.assert_frame_equal(draw_pairs(pairs, "new", "old", "a"), draw_pairs(pairs, "new", "old", "a"))
    firsts = [draw_pairs(pairs, "new", "old", f"salt {i}")["arm"].to_numpy()[::2] == "new" for i in range(400)]
    assert np.abs(np.mean(firsts, axis=0) - 0.5).max() < 0.1
    assert len({tuple(first.tolist()) for first in firsts}) == 64


def test_fewer_than_six_pairs_are_not_drawn():
    stores = pd.DataFrame({"store": [f"s{i:02}" for i in range(10)], "before": np.arange(10.0)})
    with pytest.raises(Refusal, match=r"5 pairs.*at least 6 pairs"):
        draw_pairs(match_pairs(stores, "store", ["before"]), "new", "old", "a")


def test_the_placebo_sees_a_hand_in_the_draw_and_what_pairs_can_detect():
    trials = draw_trials(StoreTrial(stores=24, regional=0.3), 1, seed=9)
    rows = pd.DataFrame({"store": np.arange(24), "earlier": trials.earlier[0], "before": trials.pre[0], "spend": 1.0})
    rows["spend"] = trials.mean[0]
    drawn = draw_pairs(match_pairs(rows, "store", ["earlier"]), "new", "old", "fair")
    fair = rows.merge(drawn.assign(store=drawn["unit"].astype(int)), on="store")
    check = placebo(by_cluster(fair, "spend", "store", "arm", pre="before", block="pair"), "new", "old")
    assert not check.failed
    best = fair.groupby("pair")["before"].transform("max") == fair["before"]
    picked = fair.assign(arm=np.where(best, "new", "old"))
    assert placebo(by_cluster(picked, "spend", "store", "arm", pre="before", block="pair"), "new", "old").failed
    t = stats.nct(11, check.detectable / check.effect.se)
    assert t.sf(stats.t.ppf(0.975, 11)) == pytest.approx(0.8, abs=1e-6)


# ---------------------------------------------------------------- evidence


def test_what_was_drawn_whole_becomes_evidence_over_customers(people):
    units = people.assign(cluster=people["store"], revenue=people["spend"], stratum=None)
    (row,) = cluster_evidence(units, "revenue", [("new", "old")], 56, "EUR")
    found = read(people, average="customers")
    assert (row.value, row.low, row.high, row.p) == (found.value, found.low, found.high, found.p)
    assert (row.verdict, row.n, row.design) == ("reported", len(people), "randomised")


def test_where_customers_were_drawn_there_is_no_cluster_effect(people):
    assert cluster_evidence(people, "spend", [("new", "old")], 56, "EUR") == []
    assert cluster_evidence(people.assign(cluster=np.nan), "spend", [("new", "old")], 56, "EUR") == []


def test_a_refusal_is_told_in_the_evidence_without_a_number(people):
    few = people[people["store"] < "S06"].assign(cluster=people["store"])
    (row,) = cluster_evidence(few, "spend", [("new", "old")], 56, "EUR")
    assert row.value is None and "8 clusters, 4 in each arm" in row.statement
    split = people.assign(cluster="one " + people["pair"].astype(str))
    (row,) = cluster_evidence(split, "spend", [("new", "old")], 56, "EUR")
    assert row.value is None and "stand in two arms" in row.statement


def test_the_cost_of_drawing_stores_becomes_evidence(people):
    alike, cost = likeness_evidence(people, "spend", "store", 56)
    found = icc(by_cluster(people, "spend", "store"))
    assert (alike.value, alike.low, alike.high) == (found.value, found.low, found.high)
    assert cost.value == pytest.approx(1 + ((found.cv**2 + 1) * found.size - 1) * found.value)
    assert likeness_evidence(people, "spend", "shop", 56) == []
    assert likeness_evidence(people.assign(store=np.nan), "spend", "store", 56) == []
    (row, _) = likeness_evidence(people.assign(spend=1.0), "spend", "store", 56)
    assert row.value is None and "do not differ" in row.statement


# ---------------------------------------------------------------- known truths


def by_method(rows):
    return {row.method: row for row in rows}


def test_eight_stores_are_eight_however_many_customers():
    rows = by_method(eight(800, seed=5))
    assert 0.57 < rows["customers as if independent"].false_positive < 0.73
    assert rows["clustered sandwich (CRV1)"].false_positive > 0.09
    assert 0.022 < rows["t of store means"].false_positive < 0.078
    assert rows["randomisation inference"].false_positive < 0.05  # 2 of 70 draws: .0286
    assert rows["randomisation inference"].power > 0.15


def test_unequal_stores_keep_their_level_and_the_sandwich_does_not():
    rows = by_method(thirty(600, seed=5))
    assert rows["customers as if independent"].coverage < 0.5
    for method in (
        "t of store means",
        "average over customers (CR2, Imbens–Kolesár)",
        "t of store means, pre-period adjusted",
    ):
        assert 0.914 < rows[method].coverage < 0.986, method
    assert rows["t of store means, pre-period adjusted"].width < 0.8 * rows["t of store means"].width


def test_the_two_averages_are_two_questions():
    rows = by_method(leaning(1_500, seed=5))
    assert 0.927 < rows["average over customers (CR2, Imbens–Kolesár)"].coverage < 0.973
    naive = rows["store means read as the average over customers"]
    assert naive.miss_low > 3 * naive.miss_high


def test_the_raw_difference_alarms_more_often_where_effects_differ():
    rows = by_method(unlike(800, seed=5))
    raw, studentised = rows["draws of the raw difference"], rows["randomisation inference"]
    assert raw.false_positive > max(0.06, studentised.false_positive)
    assert 0.907 < studentised.coverage < 0.98
    assert 0.919 < rows["t of store means"].coverage < 0.981


def test_pairs_find_more_and_hold_their_level():
    rows = {(row.method, row.case.rpartition(", ")[2]): row for row in geo(60, seed=5)}
    paired, loose = (rows[f"{how}, randomisation inference", "no effect"] for how in ("pairs", "no pairs"))
    assert paired.power > loose.power + 0.05
    assert max(paired.false_positive, loose.false_positive) < 0.15
    assert rows["pairs, read as if unpaired", "effect 4.00"].coverage > 0.97


def test_where_the_level_cannot_be_reached_every_trial_is_refused():
    assert [row.refused for row in refused(20, seed=5)] == [1.0, 1.0, 1.0]
