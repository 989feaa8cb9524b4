"""Assignment by hash: the same everywhere and forever, uniform, independent between layers, exact where it says so."""

import hashlib
from dataclasses import replace
from itertools import combinations

import ibis
import numpy as np
import pandas as pd
import pytest
from benchmarks.calibration.assignment import CASES
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fairlift.errors import InputError
from fairlift.method.assignment import (
    BUCKETS,
    HELD,
    HOLDOUT,
    Allocation,
    Holdout,
    _edge,
    allocate,
    arm_of,
    association,
    bucket,
    digest,
    draw,
    draw_factors,
    hold_out,
    imbalance,
)
from fairlift.method.factorial import gather
from fairlift.method.metric import Covariates, Mean
from fairlift.method.moments import moments
from fairlift.method.srm import balance
from fairlift.plot import figure_html, love

ARMS = {"new": 0.5, "old": 0.3, "none": 0.2}
HOW = {"salt": "2026", "namespace": "offers"}
AWKWARD = [
    *("C1", "c1", " C1", "C1 ", "C 1", " ", "0", "00", "-1", "1e5", "nan", "None", "NULL", "null", "true"),
    *(
        "a/b",
        "/",
        "'",
        '"',
        "\\",
        "%",
        "O'Neil",
        "ü",
        "u\u0308",
        "ß",
        "ẞ",
        "Ж",
        "客户",
        "🛒",
        "👩‍👩‍👧",
        "\t",
        "line\nbreak",
    ),
    *("x" * 1000, "ann@example.org", "\u00a0", "\u200b", "ﬁ", "İ", ""),
]


def sequential(n: int) -> pd.DataFrame:
    return pd.DataFrame({"id": [f"C{place:08d}" for place in range(n)], "number": range(n)})


@pytest.fixture(scope="module")
def million():
    """A million sequential ids in DuckDB, as an Ibis table."""
    con = ibis.duckdb.connect()
    con.raw_sql("CREATE TABLE people AS SELECT range AS number, range::VARCHAR AS id FROM range(1000000)")
    yield con.table("people")
    con.disconnect()


def counts(table, *columns) -> pd.DataFrame:
    return table.group_by(list(columns)).aggregate(n=table.count()).to_pyarrow().to_pandas()


# --- one hash, everywhere the same -----------------------------------------------------------------------------------


def test_the_hash_is_plain_md5_of_a_plain_text():
    assert digest("C1", "s", "n") == hashlib.md5(b"s/n/C1").hexdigest()
    assert digest("ü", "s", "n") == hashlib.md5("s/n/ü".encode()).hexdigest()
    assert bucket("C1", "s", "n") == int(hashlib.md5(b"s/n/C1").hexdigest()[:15], 16) * 1_000_000 // 16**15
    assert digest(17, "s", "n") == digest("17", "s", "n")


def test_python_and_duckdb_agree_on_awkward_ids():
    people = pd.DataFrame({"id": AWKWARD})
    for holdout in (None, Holdout(0.3, "held")):
        drawn = draw(people, "id", ARMS, holdout=holdout, **HOW)["variant"].tolist()
        assert drawn == [arm_of(one, ARMS, holdout=holdout, **HOW) for one in AWKWARD]
    assert len(set(drawn)) == 4


def test_python_and_duckdb_agree_on_numbers_as_text_and_on_those_outside():
    people = pd.DataFrame({"id": [0, 7, -7, 10**15, 2**62], "text": ["0", "7", "-7", str(10**15), str(2**62)]})
    some = allocate(ARMS, share=0.5)
    by_number = draw(people, "id", some, **HOW)["variant"]
    by_text = draw(people, "text", some, **HOW)["variant"]
    alone = [arm_of(one, some, **HOW) for one in people["id"]]
    assert [None if pd.isna(one) else one for one in by_number] == alone
    assert by_number.equals(by_text)
    assert None in alone and len(set(alone)) > 1


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 16**32 - 1), st.integers(0, BUCKETS))
def test_comparing_texts_is_comparing_buckets(whole, place):
    text = f"{whole:032x}"
    assert (text < _edge(place)) == (int(text[:15], 16) * BUCKETS // 16**15 < place)


@pytest.mark.parametrize("place", [1, 2, 333_333, 500_000, 999_999])
def test_the_edge_itself_belongs_to_the_bucket_above(place):
    first = int(_edge(place), 16)
    assert first * BUCKETS // 16**15 == place and (first - 1) * BUCKETS // 16**15 == place - 1


@pytest.mark.parametrize("dialect", ["postgres", "snowflake", "pyspark", "mysql"])
def test_other_databases_get_their_own_md5_and_a_comparison_of_texts(dialect):
    people = ibis.table({"id": "string"}, name="people")
    hashed = ibis.to_sql(people.select(v=ibis.cases((_hash(people.id), "new"), else_="old")), dialect=dialect)
    assert "MD5(" in hashed and "2026/offers/" in hashed


def _hash(column):
    from fairlift.method.assignment import _md5

    return _md5("2026/offers/" + column) < _edge(500_000)


# --- uniform and independent, where the naive hash is not -----------------------------------------------------------


def test_sequential_ids_fall_evenly_into_buckets_and_layers_are_independent(million):
    tenths = {str(place): 1.0 for place in range(10)}
    drawn = draw(million, "id", tenths, salt="2026", namespace="one", into="one")
    drawn = draw(drawn, "id", tenths, salt="2026", namespace="two", into="two")
    drawn = draw(drawn, "id", tenths, salt="2027", namespace="one", into="later")
    for left, right in combinations(("one", "two", "later"), 2):
        cells = counts(drawn, left, right)
        assert len(cells) == 100
        assert stats.chisquare(cells["n"]).pvalue > 1e-4


def test_neighbouring_ids_are_independent(million):
    drawn = draw(million, "id", {"a": 1, "b": 1}, **HOW).order_by("number").to_pyarrow()["variant"].to_numpy() == "a"
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 4 / 1000
    assert abs(np.corrcoef(drawn[:-10], drawn[10:])[0, 1]) < 4 / 1000


def test_naive_a_salt_shared_by_two_tests_gives_both_the_same_arms(million):
    shared = draw(draw(million, "id", {"a": 1, "b": 1}, **HOW, into="one"), "id", {"a": 1, "b": 1}, **HOW, into="two")
    assert len(counts(shared, "one", "two")) == 2  # of four combinations


def test_naive_the_remainder_of_a_number_is_no_hash(million):
    """`id % 100` without a salt: every test takes the same customers, and ids that end alike are customers who came alike."""
    people = million.mutate(naive=(million.number % 100 < 10), store=million.number % 20)
    in_it = counts(people.filter(people.naive), "store")
    assert set(in_it["store"]) == set(range(10))  # half of the stores have nobody in the test
    right = draw(million.mutate(store=million.number % 20), "id", allocate({"new": 1}, share=0.1), **HOW)
    in_it = counts(right.filter(right.variant.notnull()), "store")
    assert len(in_it) == 20 and stats.chisquare(in_it["n"]).pvalue > 1e-4


def test_an_arm_depends_on_nobody_else():
    people = sequential(3000)
    drawn = draw(people, "id", ARMS, **HOW).set_index("id")["variant"]
    few = people.sample(frac=0.3, random_state=1)
    assert draw(few, "id", ARMS, **HOW).set_index("id")["variant"].equals(drawn[few["id"]])
    more = draw(sequential(5000), "id", ARMS, **HOW).set_index("id")["variant"]
    assert more[drawn.index].equals(drawn)
    assert draw(few, "id", ARMS, **HOW).index.equals(few.index)


# --- buckets and ramps ----------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from("abcde"), st.floats(0.01, 100), min_size=1), st.floats(0.001, 1).map(float)
        ),
        min_size=2,
        max_size=5,
    )
)
def test_a_ramp_moves_no_more_than_it_must(stages):
    before = None
    for weights, share in stages:
        now = allocate(weights, share, before)
        total = sum(weights.values())
        for arm, got in now.shares.items():
            assert got == pytest.approx(share * weights[arm] / total, abs=2 / BUCKETS)
        assert sum(now.shares.values()) == pytest.approx(share, abs=1 / BUCKETS)
        edges = [edge for low, high, _ in now.segments for edge in (low, high)]
        assert edges == sorted(edges) and edges[0] >= 0 and edges[-1] <= BUCKETS
        if before:
            least = sum(max(0, size - now.shares.get(arm, 0)) for arm, size in before.shares.items())
            assert before.moved(now) == pytest.approx(least, abs=1e-9)
        before = now


def test_customers_keep_their_arm_while_the_experiment_grows():
    people, last, stage = sequential(5000), None, None
    for share in (0.01, 0.1, 0.5, 1.0):
        stage = allocate(ARMS, share, stage)
        drawn = draw(people, "id", stage, **HOW)["variant"]
        if last is not None:
            assert drawn[last.notna()].equals(last[last.notna()])
        last = drawn
    assert drawn.notna().all()
    fresh = draw(people, "id", allocate(ARMS), **HOW)["variant"]
    assert (fresh != drawn).mean() > 0.3  # naive: cutting the range anew at each stage


def test_the_order_in_which_arms_are_written_changes_nothing():
    turned = dict(reversed(ARMS.items()))
    assert allocate(turned) == allocate(ARMS)
    grown = {"b": 2, "a": 1, "c": 1}
    assert allocate(grown, before=allocate(ARMS)) == allocate(dict(sorted(grown.items())), before=allocate(turned))


def test_an_allocation_reads_well():
    assert str(allocate({"new": 3, "old": 1}, share=0.5)).splitlines() == [
        "allocation: new 37.50 %, old 12.50 %",
        "  new  buckets       0 to 374,999",
        "  old  buckets 375,000 to 499,999",
    ]
    assert Allocation(((0, 10, "a"),)).arm(10) is None
    assert sum(allocate({"a": 1, "b": 1, "c": 1}).shares.values()) == 1


# --- the holdout ----------------------------------------------------------------------------------------------------


def test_the_universal_holdout_is_the_same_in_every_experiment_and_never_treated():
    people, holdout = sequential(20_000), Holdout(0.05, "held 2026")
    one = draw(people, "id", {"new": 1, "old": 1}, holdout=holdout, salt="2026", namespace="one")["variant"]
    two = draw(people, "id", {"new": 1, "old": 1}, holdout=holdout, salt="2027", namespace="two")["variant"]
    held = hold_out(people, "id", holdout)["holdout"]
    assert (one == HELD).equals(held) and (two == HELD).equals(held)
    assert pytest.approx(held.mean(), abs=4 * np.sqrt(0.05 * 0.95 / 20_000)) == 0.05
    assert held.tolist()[:500] == [
        bucket(one, "held 2026", HOLDOUT) < 0.05 * BUCKETS for one in people["id"].tolist()[:500]
    ]
    # the others are split as if there were no holdout
    alone = draw(people, "id", {"new": 1, "old": 1}, salt="2026", namespace="one")["variant"]
    assert one[~held].equals(alone[~held])


def test_naive_a_holdout_drawn_in_each_test_is_treated_by_the_others():
    people = sequential(20_000)
    arms = {"offers": 0.95, HELD: 0.05}
    held = [
        draw(people, "id", arms, salt="2026", namespace=name)["variant"] == HELD for name in ("mail", "app", "site")
    ]
    untouched = (held[0] & held[1] & held[2]).sum() / held[0].sum()
    assert untouched < 0.02  # of the first test's holdout


def test_a_household_is_held_out_whole_and_alone_where_there_is_none():
    people = sequential(6000).assign(house=lambda f: [None if n % 5 == 0 else f"H{n // 3}" for n in f["number"]])
    holdout = Holdout(0.2, "held", cluster="house")
    drawn = draw(people, "id", {"new": 1}, holdout=holdout, **HOW)
    held = drawn["variant"] == HELD
    assert held.groupby(drawn["house"]).nunique().max() == 1
    assert 0.15 < held[drawn["house"].isna()].mean() < 0.25
    alone = [
        arm_of(r.id, {"new": 1}, holdout=holdout, household=None if pd.isna(r.house) else r.house, **HOW)
        for r in drawn.head(200).itertuples()
    ]
    assert drawn["variant"].tolist()[:200] == alone


# --- exact shares, strata, clusters ---------------------------------------------------------------------------------


def test_shares_are_exact_within_strata():
    people = sequential(4000).assign(region=lambda f: np.where(f["number"] % 3 == 0, "north", None))
    drawn = draw(people, "id", ARMS, strata=["region"], **HOW)
    table = pd.crosstab(drawn["region"].fillna("none"), drawn["variant"])
    wanted = np.outer(table.sum(axis=1), [ARMS[arm] for arm in table.columns])
    assert np.abs(table - wanted).to_numpy().max() < 1
    loose = draw(people, "id", ARMS, **HOW)
    assert (
        np.abs(pd.crosstab(people["region"].fillna("none"), loose["variant"]) - wanted).to_numpy().max() > 5
    )  # simple


def test_remainders_are_fair_and_every_unit_has_its_chance():
    """Strata of three and two equal arms: one unit is always left over."""
    people = sequential(60_000).assign(stratum=lambda f: f["number"] // 3, seat=lambda f: f["number"] % 3)
    drawn = draw(people, "id", {"a": 1, "b": 1}, strata=["stratum"], **HOW)
    of_three = (drawn["variant"] == "a").groupby(drawn["stratum"]).sum()
    assert set(of_three) == {1, 2}
    assert of_three.mean() == pytest.approx(1.5, abs=4 * 0.5 / np.sqrt(20_000))
    by_seat = (drawn["variant"] == "a").groupby(drawn["seat"]).mean()
    assert by_seat.to_numpy() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(20_000))


def test_remainders_keep_unequal_weights():
    people = sequential(50_000).assign(stratum=lambda f: f["number"] // 5)
    drawn = draw(people, "id", {"a": 0.7, "b": 0.2, "c": 0.1}, strata=["stratum"], **HOW)
    got = drawn["variant"].value_counts(normalize=True)
    for arm, share in {"a": 0.7, "b": 0.2, "c": 0.1}.items():
        assert got[arm] == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 50_000))


def test_pairs_in_a_stratum_are_drawn_alike():
    """Each of the ten ways to choose two of five is equally likely: the order is a permutation."""
    people = sequential(25_000).assign(stratum=lambda f: f["number"] // 5, seat=lambda f: f["number"] % 5)
    drawn = draw(people, "id", {"a": 0.4, "b": 0.6}, strata=["stratum"], **HOW)
    chosen = drawn[drawn["variant"] == "a"].groupby("stratum")["seat"].agg(tuple)
    seen = chosen.value_counts()
    assert len(seen) == 10 and stats.chisquare(seen).pvalue > 1e-4


def test_an_exact_draw_is_repeated_whatever_the_order_of_rows():
    people = sequential(2000).assign(region=lambda f: f["number"] % 7)
    drawn = draw(people, "id", ARMS, strata=["region"], **HOW).set_index("id")["variant"]
    again = draw(people.sample(frac=1, random_state=3), "id", ARMS, strata=["region"], **HOW).set_index("id")["variant"]
    assert again[drawn.index].equals(drawn)


def test_clusters_share_their_arm_and_stores_can_be_split_evenly():
    people = sequential(6000).assign(store=lambda f: f["number"] % 12)
    loose = draw(people, "id", {"a": 1, "b": 1}, cluster="store", **HOW)
    even = draw(people, "id", {"a": 1, "b": 1}, cluster="store", exact=True, **HOW)
    for drawn in (loose, even):
        assert drawn.groupby("store")["variant"].nunique().max() == 1
    assert even.groupby("store")["variant"].first().value_counts().tolist() == [6, 6]
    assert loose["variant"].tolist()[:12] == [arm_of(n, {"a": 1, "b": 1}, **HOW) for n in range(12)]


def test_stores_within_regions_and_a_holdout_of_customers():
    people = sequential(6000).assign(store=lambda f: f["number"] % 20, region=lambda f: f["number"] % 20 // 10)
    holdout = Holdout(0.1, "held")
    drawn = draw(people, "id", {"a": 1, "b": 1}, holdout=holdout, cluster="store", strata="region", **HOW)
    held = drawn["variant"] == HELD
    assert held.equals(hold_out(people, "id", holdout)["holdout"])
    stores = (
        drawn[~held].groupby("store").agg(arms=("variant", "nunique"), arm=("variant", "first"), r=("region", "first"))
    )
    assert stores["arms"].max() == 1
    assert pd.crosstab(stores["r"], stores["arm"]).to_numpy().tolist() == [[5, 5], [5, 5]]


# --- several channels at once ---------------------------------------------------------------------------------------


def test_channels_are_switched_independently_and_read_by_the_factorial_engine():
    people = sequential(40_000).assign(spend=1.0)
    shares = {"email": 0.5, "push": 0.8}
    drawn = draw_factors(people, "id", shares, **HOW)
    for name, share in shares.items():
        assert drawn[name].mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 40_000))
    assert abs(np.corrcoef(drawn["email"], drawn["push"])[0, 1]) < 4 / 200
    assert set(gather(drawn, Mean("spend"), list(shares)).arms) == {"none", "email", "push", "email + push"}


def test_all_combinations_in_one_exact_draw():
    people = sequential(1600).assign(region=lambda f: f["number"] % 2)
    drawn = draw_factors(people, "id", {"email": 0.5, "push": 0.5, "app": 0.5}, strata=["region"], **HOW)
    assert set(drawn.groupby(["region", "email", "push", "app"]).size()) == {100}


# --- refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda f: draw(f, "nobody", ARMS, **HOW), "nobody"),
        (lambda f: draw(f.assign(id=f["number"] / 2), "id", ARMS, **HOW), "neither text nor whole numbers"),
        (lambda f: draw(f.assign(id=[None, *f["id"][1:]]), "id", ARMS, **HOW), "some rows have no id"),
        (lambda f: draw(f, "id", ARMS, salt="", namespace="x"), "salt is empty"),
        (lambda f: draw(f, "id", ARMS, salt="a/b", namespace="c/d"), "without `/`"),
        (lambda f: draw(f, "id", {"a": 0.0, "b": 1}, **HOW), "weight 0.0"),
        (lambda f: draw(f, "id", {}, **HOW), "no arm"),
        (lambda f: draw(f, "id", allocate(ARMS, share=1.5), **HOW), "share"),
        (lambda f: draw(f.assign(variant="x"), "id", ARMS, **HOW), "there already"),
        (lambda f: draw(f.assign(id="C1"), "id", ARMS, exact=True, **HOW), "repeat a unit"),
        (lambda f: draw(f.assign(s=f["number"] // 2), "id", ARMS, cluster="s", strata=["id"], **HOW), "one stratum"),
        (lambda f: Holdout(0, "x"), "share is 0"),
        (lambda f: Holdout(0.1, "x/y"), "without `/`"),
        (lambda f: draw_factors(f, "id", {"email": 1.0}, **HOW), "between 0 and 1"),
        (lambda f: bucket(1.5, "s", "n"), "whole number"),
        (lambda f: bucket(True, "s", "n"), "whole number"),
    ],
)
def test_refused(call, said):
    with pytest.raises(InputError, match=said):
        call(sequential(10))


def test_every_problem_at_once():
    with pytest.raises(InputError) as caught:
        draw(sequential(3), "id", ARMS, salt="", namespace="a/b")
    assert len(caught.value.problems) == 2


# --- calibration: the same cases as in the published table, fewer experiments ---------------------------------------


@pytest.fixture(scope="module")
def rows():
    return [row for case in CASES for row in case.run(500, 5)]


def named(rows, method):
    return next(row for row in rows if row.method == method)


@pytest.mark.parametrize(
    ("method", "naive"),
    [
        ("a namespace of its own", "a salt shared with the other test"),
        ("universal holdout", "a holdout drawn by each programme"),
        ("difference within strata", "difference that forgets the strata"),
        ("a layer for each channel", "one hash for both channels"),
    ],
)
def test_the_draw_carries_its_analysis_and_the_naive_one_does_not(rows, method, naive):
    right, wrong = named(rows, method), named(rows, naive)
    assert 0.911 < right.coverage < 0.989
    assert max(right.miss_low, right.miss_high) < 0.053
    assert not 0.911 < wrong.coverage < 0.989


def test_stores_are_counted_and_not_their_customers(rows):
    right, wrong = named(rows, "sample ratio of stores"), named(rows, "sample ratio of customers")
    assert right.false_positive < 0.089 and right.power > 0.5
    assert wrong.false_positive > 0.5


# --- looking at a draw ----------------------------------------------------------------------------------------------


def test_standardised_differences_are_those_of_balance_and_are_drawn_with_their_limits():
    draws = np.random.default_rng(2)
    people = sequential(4000).assign(age=draws.normal(40, 12, 4000), spend=draws.gamma(2, 30, 4000))
    drawn = draw(people, "id", {"new": 1, "old": 1}, **HOW)
    drawn.loc[drawn["variant"] == "new", "age"] += 6
    known = moments(drawn, Covariates("age", "spend"), "variant")
    found = imbalance(known, ["age", "spend"], "new", "old")
    assert found["value"].to_dict() == pytest.approx(balance(known, ["age", "spend"], "new", "old").differences)
    assert found.loc["age", "low"] > 0.3 and found.loc["spend", "low"] < 0 < found.loc["spend", "high"]
    figure, alt, finding = love(found)
    page = figure_html(figure, alt, finding, found)
    assert "age +0.494" in alt and "1 of 2 lie beyond 0.100" in finding and "data:image/svg" in page


def test_the_interval_of_a_standardised_difference_and_of_an_association_cover():
    draws, times, n = np.random.default_rng(3), 2000, 300
    run = np.repeat(np.arange(times), n)
    people = pd.DataFrame({"run": run, "arm": np.where(draws.random(len(run)) < 0.5, "a", "b")})
    people["x"] = draws.normal(0, 1, len(run)) + 0.3 * (people["arm"] == "a")
    parts = moments(people, Covariates("x"), "arm", stratum="run").cells.groupby("stratum")
    gathered = moments(people.head(10), Covariates("x"), "arm")
    limits = [imbalance(replace(gathered, cells=part.assign(stratum="")), ["x"], "a", "b") for _, part in parts]
    held = [float(one["low"].iloc[0]) <= 0.3 <= float(one["high"].iloc[0]) for one in limits]
    assert 0.93 < np.mean(held) < 0.97
    two = draws.random((times, n, 2)) < 0.4
    covered = [association(pd.DataFrame(one, columns=["l", "r"]), "l", "r") for one in two[:1000]]
    assert 0.92 < np.mean([low <= 0 <= high for _, low, high in covered]) < 0.98
