"""Spillover is seen where it is and not where it is not; the experiment that draws customers alone misses it."""

from __future__ import annotations

import ibis
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import statsmodels.api as sm
from benchmarks.calibration.spillover import ALIKE, CROWDED, clusters_of, homes, saturations
from scipy import stats

from fairlift.errors import InputError, Refusal
from fairlift.method.cluster_means import by_cluster
from fairlift.method.clusters import cluster_effect
from fairlift.method.spillover import (
    draw_saturation,
    household_evidence,
    household_spillover,
    saturation,
    saturation_of_clusters,
    weighted_difference,
)
from fairlift.plot import by_level
from fairlift.simulate.saturation import Homes, Neighbourhood, draw_clusters, draw_homes

LEVELS = (0.0, 0.5, 1.0)


def stored(frame: pd.DataFrame) -> ibis.Table:
    return ibis.memtable(pa.Table.from_pandas(frame, preserve_index=False))


def shops(clusters: int, size: int = 20) -> pd.DataFrame:
    return pd.DataFrame({"shop": np.repeat([f"shop {c:03d}" for c in range(clusters)], size)})


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return draw_clusters(Neighbourhood(), np.tile(LEVELS, 10), rng.integers(10, 60, 30), rng)


def read(people, **more):
    return saturation(people, "outcome", "cluster", "treated", "saturation", **more)


# ---------------------------------------------------------------- the draw


def test_the_draw_is_exact_at_both_stages_and_the_seed_s_alone():
    drawn = draw_saturation(shops(12, 50), "shop", (0, 0.3, 0.7), seed=5)
    by_shop = drawn.groupby(shops(12, 50)["shop"]).agg(level=("saturation", "max"), treated=("treated", "sum"))
    assert by_shop["level"].value_counts().to_dict() == {0: 4, 0.3: 4, 0.7: 4}
    assert (by_shop["treated"] == 50 * by_shop["level"]).all()
    again = draw_saturation(shops(12, 50), "shop", (0, 0.3, 0.7), seed=5)
    other = draw_saturation(shops(12, 50), "shop", (0, 0.3, 0.7), seed=6)
    assert again.equals(drawn) and not other.equals(drawn)


def test_the_draw_does_not_depend_on_how_clusters_are_mixed():
    units = shops(6, 50).assign(person=np.tile(np.arange(50), 6))
    mixed = units.sort_values("person", kind="stable")
    one, two = (draw_saturation(frame, "shop", (0, 0.5, 1), seed=1) for frame in (units, mixed))
    assert two.sort_index().equals(one)


def test_every_customer_is_drawn_with_the_probability_of_her_saturation():
    """Shops of three at a half: one or two customers, each of the three equally often."""
    units = shops(3, 3)
    hits, times = np.zeros(9), np.zeros(9)
    for seed in range(1500):
        drawn = draw_saturation(units, "shop", (0, 0.5, 1), seed=seed)
        half = (drawn["saturation"] == 0.5).to_numpy()
        hits[half] += drawn["treated"].to_numpy()[half]
        times[half] += 1
    assert abs(times - 500).max() < 4 * np.sqrt(1500 * 2 / 9)
    assert abs(hits / times - 0.5).max() < 4 * 0.5 / np.sqrt(times.min())


def test_uneven_shares_of_the_clusters_are_kept():
    drawn = draw_saturation(shops(20), "shop", (0, 0.5), (0.75, 0.25), seed=1)
    assert drawn.groupby(shops(20)["shop"])["saturation"].max().value_counts().to_dict() == {0: 15, 0.5: 5}


@pytest.mark.parametrize(
    ("levels", "shares", "said"),
    [
        ((0.5, 1), None, "0 is not among them"),
        ((0, 1.5), None, "not between 0 and 1"),
        ((0, 0), None, "not two or more different"),
        ((0, 0.5), (1,), "do not fit the levels"),
        ((0, 0.5), (1, 0), "do not fit the levels"),
    ],
)
def test_levels_that_are_none_are_refused(levels, shares, said):
    with pytest.raises(InputError, match=said):
        draw_saturation(shops(6), "shop", levels, shares, seed=1)


def test_more_levels_than_clusters_are_refused():
    with pytest.raises(Refusal, match="too few for 3 levels"):
        draw_saturation(shops(2), "shop", (0, 0.5, 1), seed=1)


# ---------------------------------------------------------------- the reading


def test_every_effect_is_the_t_test_of_cluster_means(people):
    """The peer: scipy's tests on the cluster means, to the last digits."""
    found = read(people)
    means = people.groupby(["saturation", "treated", "cluster"])["outcome"].mean()
    everybody = people.groupby(["saturation", "cluster"])["outcome"].mean()
    nobody = means[0.0, 0]
    pairs = {
        ("spillover", 0.5): stats.ttest_ind(means[0.5, 0], nobody, equal_var=False),
        ("total", 0.5): stats.ttest_ind(means[0.5, 1], nobody, equal_var=False),
        ("total", 1.0): stats.ttest_ind(means[1.0, 1], nobody, equal_var=False),
        ("overall", 0.5): stats.ttest_ind(everybody[0.5], nobody, equal_var=False),
        ("direct", 0.5): stats.ttest_rel(means[0.5, 1], means[0.5, 0]),
    }
    for (name, level), peer in pairs.items():
        ours = found.effect(name, level)
        limits = peer.confidence_interval()
        assert (ours.p, ours.low, ours.high) == pytest.approx((peer.pvalue, limits.low, limits.high), rel=1e-9)
        assert ours.df == pytest.approx(peer.df, rel=1e-9)


def test_a_roll_out_against_nothing_is_a_test_of_whole_clusters(people):
    """Without the middle saturation nothing is left of the second stage, and the cluster methods must agree."""
    ends = people[people["saturation"] != 0.5].assign(arm=lambda rows: np.where(rows["treated"] == 1, "all", "none"))
    peer = cluster_effect(by_cluster(ends, "outcome", "cluster", "arm"), "all", "none", inference="t")
    ours = read(people).effect("total", 1.0)
    assert (ours.value, ours.low, ours.high) == pytest.approx((peer.value, peer.low, peer.high), rel=1e-9)


def test_direct_and_spillover_add_up_to_the_total(people):
    found = read(people)
    parts = found.effect("direct", 0.5).value + found.effect("spillover", 0.5).value
    assert parts == pytest.approx(found.effect("total", 0.5).value, rel=1e-12)


def test_the_slope_is_that_of_the_least_squares_line():
    rng = np.random.default_rng(2)
    people = draw_clusters(Neighbourhood(), np.repeat([0, 0.25, 0.5, 0.75], [9, 7, 6, 8]), 20, rng)
    means = people[people["treated"] == 0].groupby(["cluster", "saturation"])["outcome"].mean().reset_index()
    line = sm.OLS(means["outcome"], sm.add_constant(means["saturation"])).fit()
    assert read(people).effect("slope, untreated").value == pytest.approx(line.params["saturation"], rel=1e-9)


def test_counting_clusters_by_their_customers_gives_the_mean_of_the_customers(people):
    found = read(people, average="customers")
    plain = people.groupby("saturation")["outcome"].mean()
    assert found.effect("total", 1.0).value == pytest.approx(plain[1.0] - plain[0.0], rel=1e-12)
    assert found.effect("total", 1.0).value != pytest.approx(read(people).effect("total", 1.0).value, rel=1e-6)


def test_a_table_in_duckdb_gives_the_same(people):
    table = stored(people)
    for ours, theirs in zip(read(table).effects, read(people).effects, strict=True):
        assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high), rel=1e-9)


def test_the_figure_says_every_mean_with_its_interval_and_how_many_hold_the_truth(people):
    means = read(people).means().assign(truth=[20.0, 0.0, 21.3, 21.6])
    held = int(means["truth"].between(means["low"], means["high"]).sum())
    figure, alt, finding = by_level(means, "Spend a customer")
    assert [alt.count(f"{group} at ") for group in ("; treated", "untreated")] == [2, 2]
    assert finding.startswith("From the untreated at 0 % to the treated at 100 %")
    assert f"{held} of 4 intervals hold the truth" in finding and held < 4
    plt.close(figure)
    _, _, plain = by_level(means.drop(columns="truth"), "Spend a customer")
    assert "truth" not in plain
    plt.close("all")


@pytest.fixture(scope="module")
def calibrated():
    """Five clusters a level: the fewest that are read."""
    rows = saturations(5, 40, 0.0, "clusters", "closed", "few")(1_000, 3)
    return {row.method: row for row in rows}


def test_the_saturation_design_holds_the_truth_with_few_clusters(calibrated):
    for name in ("saturation design, total of the roll-out", "saturation design, spillover on the untreated"):
        row = calibrated[name]
        assert abs(row.coverage - 0.95) < 0.0276  # four standard errors
        assert 0.005 < row.miss_low < 0.045 and 0.005 < row.miss_high < 0.045


def test_customers_drawn_alone_miss_the_truth_on_the_same_shops(calibrated):
    assert calibrated["every customer drawn alone, read as the total"].coverage < 0.7
    assert calibrated["saturation design, customers counted as independent"].coverage < 0.88


def test_customers_drawn_alone_find_one_where_the_truth_is_one_sixty():
    """Both on average over many experiments: no noise to hide behind."""
    rng, alone, drawn = np.random.default_rng(4), [], []
    for _ in range(200):
        sizes = np.full(60, 40.0)
        half = clusters_of(rng, np.full(60, 0.5), sizes)
        k, n = half["n_treated"].sum(), half["n"].sum()
        alone.append(half["sum_treated"].sum() / k - (half["sum"] - half["sum_treated"]).sum() / (n - k))
        found = saturation_of_clusters(clusters_of(rng, np.repeat(LEVELS, 20), sizes))
        drawn.append([found.effect("total", 1.0).value, found.effect("spillover", 0.5).value])
    for values, truth in ((np.array(alone), 1.0), (np.array(drawn)[:, 0], 1.6), (np.array(drawn)[:, 1], 0.3)):
        assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(200) < 0.09


def test_without_untouched_clusters_nothing_is_read(people):
    with pytest.raises(Refusal, match="nobody is untouched"):
        read(people[people["saturation"] > 0])
    with pytest.raises(Refusal, match="nothing to compare"):
        read(people[people["saturation"] == 0])


def test_too_few_clusters_are_refused(people):
    few = people[~people["cluster"].isin(people.loc[people["saturation"] == 0.5, "cluster"].unique()[4:])]
    with pytest.raises(Refusal, match="4 clusters at 50 % and 5 are needed"):
        read(few)


def test_the_error_over_customers_has_no_bias_and_its_degrees_of_freedom_are_satterthwaite_s():
    """The peer: the quadratic form itself, with matrices."""
    rng = np.random.default_rng(8)
    sizes = np.rint(rng.lognormal(3, 0.6, 15))
    y = rng.normal(20, 1, 15)
    rows = pd.DataFrame({"saturation": 0.0, "n": sizes, "n_treated": 0.0, "sum": sizes * y, "sum_treated": 0.0})
    alone = rows.assign(saturation=1.0, n_treated=sizes, sum_treated=rows["sum"])
    found = saturation_of_clusters(pd.concat([rows, alone]), average="customers").effect("total", 1.0)
    share = sizes / sizes.sum()
    centred = np.eye(15) - np.outer(np.ones(15), share)
    form = centred.T @ np.diag(share**2) @ centred
    variance = y @ form @ y * (share**2).sum() / np.trace(form)
    df = np.trace(form) ** 2 / np.trace(form @ form)
    assert (found.se, found.df) == pytest.approx((np.sqrt(2 * variance), 2 * df), rel=1e-9)


def test_customers_of_one_giant_are_no_many_clusters(people):
    giant = pd.concat([people, *[people[people["cluster"] == 0]] * 60])
    with pytest.raises(Refusal, match=r"worth .* equal ones"):
        read(giant, average="customers")
    read(giant)


def test_clusters_without_both_kinds_are_refused_and_never_dropped(people):
    lonely = people[(people["cluster"] != 1) | (people["treated"] == 1)]
    with pytest.raises(Refusal, match="1 clusters at 50 % have only treated"):
        read(lonely)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"treated": 2}, "other than 0 and 1"),
        ({"saturation": 0.3}, "more than one saturation"),
        ({"outcome": np.nan}, "1 have no value"),
        ({"outcome": np.inf}, "1 clusters have an infinite sum"),
        ({"saturation": np.nan}, "1 have no value"),
    ],
)
def test_columns_that_contradict_the_design_are_refused(people, change, said):
    wrong = people.copy()
    for column, value in change.items():
        wrong[column] = wrong[column].astype(float)
        wrong.loc[wrong.index[25], column] = value
    for units in (wrong, stored(wrong)):
        with pytest.raises(InputError, match=said):
            read(units)


def test_offers_in_a_cluster_without_any_are_refused(people):
    wrong = people.assign(treated=people["treated"].where(people["cluster"] != 0, 1))
    with pytest.raises(InputError, match="do not have what saturation 0 or 1 means"):
        read(wrong)
    with pytest.raises(InputError, match="no such column"):
        saturation(people, "spent", "cluster", "treated", "saturation")
    with pytest.raises(InputError, match="`shops` is not known"):
        read(people, average="shops")


def test_an_effect_that_the_design_lacks_is_named(people):
    with pytest.raises(InputError, match=r"direct at 100 %.*there are: direct at 50 %"):
        read(people).effect("direct", 1.0)
    assert "total at 100 %" in str(read(people))


# ---------------------------------------------------------------- households


def test_the_weights_are_the_inverse_of_the_true_probabilities():
    """Counted over every way to draw a household of three, by hand."""
    units = pd.DataFrame({"home": np.repeat(range(400), 3)})
    rng = np.random.default_rng(6)
    units["arm"] = np.where(rng.random(1200) < 0.6, "personalised", "holdout")
    units["spend"] = rng.exponential(10, 1200)
    found = household_spillover(units, "spend", "home", 0.6, min_effective=5)
    treated = units["arm"] == "personalised"
    mate = treated.groupby(units["home"]).transform("sum") - treated > 0
    weight = np.where(mate, 1 / (1 - 0.4**2), 1 / 0.4**2)
    by_hand = [np.average(units["spend"][~treated & at], weights=weight[~treated & at]) for at in (mate, ~mate)]
    assert found.effect("spillover on holdout").value == pytest.approx(by_hand[0] - by_hand[1], rel=1e-12)


def test_the_error_is_that_of_a_clustered_regression():
    """The peer: weighted least squares with clustered errors, up to its own correction for the number of clusters."""
    rng = np.random.default_rng(7)
    n = 600
    cluster, one = rng.integers(0, 150, n), rng.random(n) < 0.5
    y, weight = rng.normal(0, 1, n) + rng.normal(0, 1, 150)[cluster], rng.uniform(1, 4, n)
    value, se, *_ = weighted_difference(y, weight, one, ~one, cluster)
    peer = sm.WLS(y, sm.add_constant(one.astype(float)), weights=weight)
    fitted = peer.fit(cov_type="cluster", cov_kwds={"groups": cluster, "use_correction": False})
    assert value == pytest.approx(fitted.params[1], rel=1e-9)
    assert se == pytest.approx(fitted.bse[1], rel=0.01)


@pytest.fixture(scope="module")
def crowded():
    return {row.method: row for row in homes(CROWDED, 8_000, 0.6, "closed", "")(150, 8)}


def test_no_influence_is_found_where_there_is_none(crowded):
    row = crowded["households, weighted by exposure"]
    assert row.refused < 0.05
    assert row.false_positive < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 150)


def test_exposures_compared_as_they_come_find_an_influence_that_is_not_there(crowded):
    """Crowded households spend more and are exposed more often."""
    assert crowded["with a mate against without, unweighted"].false_positive > 0.12


def test_persons_of_a_household_are_no_independent_customers():
    rows = {
        row.method: row
        for row in homes(Homes(sizes=(0.2, 0.4, 0.4), buying=0.9, like=0.6, own=0.2), 2_000, 0.5, "closed", "")(150, 9)
    }
    assert rows["the same, households ignored"].false_positive > 0.1


def test_an_influence_that_is_there_is_found():
    world = Homes(direct=3.0, indirect=2.0)
    found = [
        household_spillover(draw_homes(world, 4_000, 0.5, np.random.default_rng(seed)), "outcome", "household", 0.5)
        for seed in range(60)
    ]
    for name, truth in (
        ("spillover on holdout", 2.0),
        ("spillover on personalised", 2.0),
        ("own offers, no mate's", 3.0),
        ("own offers and a mate's", 5.0),
    ):
        values = np.array([read.effect(name).value for read in found])
        assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(60) < 0.5, name


def test_too_few_customers_of_an_exposure_are_refused():
    units = draw_homes(ALIKE, 150, 0.5, np.random.default_rng(1))
    with pytest.raises(Refusal, match="400 are needed; collect more customers"):
        household_spillover(units, "outcome", "household", 0.5)
    alone = units.assign(household=range(len(units)))
    with pytest.raises(Refusal, match="the 0 customers of holdout"):
        household_spillover(alone, "outcome", "household", 0.5)


def test_one_effect_may_be_refused_and_another_read():
    units = draw_homes(Homes(sizes=(0.3, 0.7)), 3_000, 0.8, np.random.default_rng(1))
    found = household_spillover(units, "outcome", "household", 0.8)
    assert [e.name for e in found.effects] == ["spillover on personalised"]
    with pytest.raises(Refusal, match="spillover on holdout"):
        found.effect("spillover on holdout")


def test_who_is_left_out_is_counted():
    units = draw_homes(ALIKE, 4_000, 0.5, np.random.default_rng(2))
    size = units.groupby("household")["arm"].transform("size")
    found = household_spillover(units, "outcome", "household", 0.5)
    assert (found.alone, found.crowded) == ((size == 1).sum(), (size == 4).sum())
    units["household"] = units["household"].astype(float)
    units.loc[units.index[:10], "household"] = np.nan
    assert household_spillover(units, "outcome", "household", 0.5).unknown == 10
    assert "10 of no known household" in str(household_spillover(units, "outcome", "household", 0.5))


def test_who_is_not_complete_is_a_mate_and_has_no_outcome():
    units = draw_homes(ALIKE, 4_000, 0.5, np.random.default_rng(3)).assign(complete=True)
    late = units.index % 10 == 0
    units.loc[late, "complete"] = False
    units.loc[late, "outcome"] = np.nan
    with pytest.raises(InputError, match="who did nothing has 0"):
        household_spillover(units, "outcome", "household", 0.5)
    found = household_spillover(units, "outcome", "household", 0.5, complete="complete")
    assert found.read + found.alone + found.crowded == (~late).sum()


def test_a_table_of_persons_in_duckdb_gives_the_same():
    units = draw_homes(ALIKE, 3_000, 0.5, np.random.default_rng(4))
    ours, theirs = (household_spillover(u, "outcome", "household", 0.5) for u in (units, stored(units)))
    assert str(ours) == str(theirs)


@pytest.mark.parametrize(
    ("changes", "said"), [({"share": 1.0}, "probability"), ({"household": "home"}, "no such column")]
)
def test_what_cannot_be_read_is_refused(changes, said):
    units = draw_homes(ALIKE, 100, 0.5, np.random.default_rng(5))
    with pytest.raises(InputError, match=said):
        household_spillover(units, "outcome", **({"household": "household", "share": 0.5} | changes))


def test_the_evidence_is_reported_and_carries_a_refusal_as_its_statement():
    units = draw_homes(ALIKE, 4_000, 0.5, np.random.default_rng(6))
    (row,) = household_evidence(units, "outcome", 0.5, 56, "EUR")
    assert (row.id, row.verdict, row.arm) == ("method.spillover.household", "reported", "holdout")
    assert row.low < row.value < row.high and "EUR" in row.statement
    (refused,) = household_evidence(units[:200], "outcome", 0.5, 56, "EUR")
    assert refused.value is None and "are needed" in refused.statement
