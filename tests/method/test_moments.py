"""The moment engine: right numbers, cells that add, digits kept at large means, gaps refused."""

import datetime
import math

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fairlift.errors import InputError
from fairlift.method import Covariates, Mean, Proportion, Ratio, cumulate, moments

METRICS = [Mean("revenue", ("history",)), Proportion("bought"), Ratio("orders", "sessions")]


def retail(n=3000, seed=1):
    draws = np.random.default_rng(seed)
    history = draws.exponential(50, n)
    bought = draws.random(n) < 0.3
    return pd.DataFrame(
        {
            "arm": draws.choice(["control", "new"], n, p=[0.2, 0.8]),
            "stratum": draws.choice(["north", "south"], n),
            "day": pd.Timestamp("2026-01-05") + pd.to_timedelta(draws.integers(0, 3, n), unit="D"),
            "history": history,
            "bought": bought,
            "revenue": np.where(bought, draws.lognormal(3, 1, n) + history / 10, 0.0),
            "orders": np.where(bought, 1 + draws.poisson(0.4, n), 0),
            "sessions": 1 + draws.poisson(3, n),
        }
    )


def in_duckdb(rows):
    connection = ibis.duckdb.connect()
    connection.con.register("given", pa.Table.from_pandas(rows, preserve_index=False))
    connection.con.execute("CREATE TABLE units AS SELECT * FROM given")
    return connection.table("units")


def assert_same(left, right, sizes, rel=1e-9):
    """Equal up to rounding of the values that went in, `sizes` being the largest of each column."""
    keys = ["arm", "stratum", "day"]
    one, two = (m.cells.sort_values(keys, ignore_index=True) for m in (left, right))
    assert set(one.columns) == set(two.columns)
    assert one[keys].to_numpy().tolist() == two[keys].to_numpy().tolist()
    for name in one.columns.difference(keys):
        kind, _, factors = name.partition(" ")
        scale = math.prod(sizes.get(factor, 1.0) for factor in factors.split(" × ")) if kind in ("mean", "sum") else 1.0
        assert one[name].to_numpy() == pytest.approx(two[name].to_numpy(), rel=rel, abs=rel * scale), name


@pytest.mark.parametrize("where", [lambda rows: rows, in_duckdb], ids=["frame", "duckdb"])
def test_every_cell_is_what_numpy_says(where):
    rows = retail()
    got = moments(where(rows), METRICS, "arm", "stratum", "day")
    assert len(got.cells) == 12
    cells = got.cells.set_index(["arm", "stratum", "day"])
    for (arm, stratum, day), part in rows.groupby(["arm", "stratum", "day"]):
        cell = cells.loc[(arm, stratum, day.date().isoformat())]
        y, x = part["revenue"], part["history"]
        assert cell["n"] == len(part)
        assert cell["nonzero revenue"] == (y != 0).sum()
        assert cell["nonzero bought"] == part["bought"].sum()
        assert cell["mean revenue"] == pytest.approx(y.mean(), rel=1e-12)
        assert cell["sum revenue × revenue"] == pytest.approx(((y - y.mean()) ** 2).sum(), rel=1e-11)
        assert cell["sum revenue × revenue × revenue"] == pytest.approx(((y - y.mean()) ** 3).sum(), rel=1e-10)
        skewed = ((y - y.mean()) ** 2 * (x - x.mean())).sum()
        assert cell["sum history × revenue × revenue"] == pytest.approx(skewed, rel=1e-9)
        both = np.cov(part["orders"], part["sessions"])[0, 1] * (len(part) - 1)
        assert cell["sum orders × sessions"] == pytest.approx(both, rel=1e-10, abs=1e-9)


def test_an_arm_pools_its_cells():
    rows = retail()
    pooled = moments(rows, METRICS, "arm", "stratum", "day").arm("new")
    values = rows.loc[rows["arm"] == "new", "revenue"]
    assert pooled.n == len(values)
    assert pooled.mean("revenue") == pytest.approx(values.mean(), rel=1e-12)
    assert pooled.var("revenue") == pytest.approx(values.var(), rel=1e-12)
    assert pooled.third("revenue") == pytest.approx(stats.kstat(values, 3), rel=1e-10)
    assert pooled.nonzero("revenue") == (values != 0).sum()
    everyone = moments(rows, METRICS, "arm").arm("control", "new")
    assert everyone.cov("revenue", "history") == pytest.approx(rows[["revenue", "history"]].cov().iloc[0, 1], rel=1e-12)


numbers = st.floats(-100, 100, allow_subnormal=False) | st.just(0.0)
unit = st.tuples(
    st.sampled_from(["a", "b"]), st.sampled_from(["x", "y"]), numbers, st.none() | numbers, st.integers(1, 9)
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(unit, st.integers(0, 2)), min_size=1, max_size=40), st.sampled_from([0.0, 1e3, 1e7]))
def test_cells_add(units, far):
    rows = pd.DataFrame([u for u, _ in units], columns=["arm", "stratum", "y", "x", "s"]).astype({"x": float})
    rows["y"] += far
    part = np.array([p for _, p in units])
    metrics = [Mean("y", "x"), Ratio("s", "y")]
    whole = moments(rows, metrics, "arm", "stratum")
    pieces = [moments(rows[part == p], metrics, "arm", "stratum") for p in np.unique(part)]
    added = pieces[0]
    for piece in pieces[1:]:
        added = added + piece
    assert added.missing == whole.missing
    # deviations are at most 200, whatever the mean; a mean of 1e7 is itself known to 1e-9
    assert_same(added, whole, {"y": 200.0, "x": 200.0, "s": 9.0}, rel=1e-8 if far == 1e7 else 1e-11)


def test_adding_needs_the_same_metrics_and_keeps_both():
    rows = retail(200)
    one = moments(rows, [Mean("revenue")], "arm")
    with pytest.raises(InputError, match="different metrics"):
        one + moments(rows, [Mean("orders")], "arm")
    other = moments(rows.assign(arm="third"), [Mean("revenue")], "arm")
    assert (one + other).counts == {**one.counts, "third": 200}


@pytest.mark.parametrize("where", [lambda rows: rows, in_duckdb], ids=["frame", "duckdb"])
@pytest.mark.parametrize("order", ["random", "sorted"])
def test_large_means_keep_their_digits(where, order):
    """At a mean of 1e8 a raw sum of squares gives nonsense; also when the first rows mislead about the mean."""
    noise = np.random.default_rng(4).random(200_000)
    value = 1e8 + (noise if order == "random" else np.sort(noise))
    if order == "sorted":
        value[:2000] = 0.0
    rows = pd.DataFrame({"arm": "a", "y": value, "late": value})
    truth = ((value - value.mean()) ** 2).sum() / (len(value) - 1)
    raw = ((value**2).sum() - value.sum() ** 2 / len(value)) / (len(value) - 1)
    got = moments(where(rows), [Mean("y")], "arm").arm("a")
    assert got.var("y") == pytest.approx(truth, rel=1e-6)
    assert got.third("y") == pytest.approx(stats.kstat(value - value.mean(), 3), rel=1e-6, abs=1e-6 * truth**1.5)
    if order == "random":
        assert abs(raw / truth - 1) > 0.1


def test_a_sample_far_from_the_mean_is_mended():
    value = np.concatenate([np.zeros(1000), 1e8 + np.random.default_rng(4).random(100)])
    rows = pd.DataFrame({"arm": ["a"] * 1000 + ["b"] * 100, "stratum": "s", "y": value})
    late = moments(rows[rows["arm"] == "b"], [Mean("y")], "arm").arm("b").var("y")
    assert late == pytest.approx(np.var(value[1000:] - 1e8, ddof=1), rel=1e-6)


def test_an_aggregated_expression_is_computed_once_and_right():
    rows = retail()
    table = in_duckdb(
        rows.assign(id=np.arange(len(rows)) // 3, arm=np.array(["a", "b"])[np.arange(len(rows)) // 3 % 2])
    )
    units = table.group_by(["id", "arm"]).aggregate(revenue=table.revenue.sum() + 1e8)
    got = moments(units, [Mean("revenue")], "arm").arm("a")
    frame = units.to_pandas()
    assert got.var("revenue") == pytest.approx(frame.loc[frame.arm == "a", "revenue"].var(), rel=1e-6)


def test_missing_covariates_become_zero_and_an_indicator():
    rows = retail()
    rows.loc[rows.index % 5 == 0, "history"] = np.nan
    filled = rows.assign(history=rows["history"].fillna(0.0), gone=rows["history"].isna())
    got = moments(rows, [Mean("revenue", "history")], "arm")
    peer = moments(filled, [Mean("revenue", ("history", "gone"))], "arm")
    assert got.missing == ("history",)
    assert got.arm("new").mean("history missing") == pytest.approx(peer.arm("new").mean("gone"), rel=1e-12)
    for pair, same in ((("history", "revenue"),) * 2, (("history missing", "revenue"), ("gone", "revenue"))):
        assert got.arm("new").cov(*pair) == pytest.approx(peer.arm("new").cov(*same), rel=1e-10)


@pytest.mark.parametrize("where", [lambda rows: rows, in_duckdb], ids=["frame", "duckdb"])
@pytest.mark.parametrize("hole", [np.nan, None, np.inf])
def test_outcomes_must_exist(where, hole):
    rows = retail(500)
    rows.loc[:6, "revenue"] = hole
    with pytest.raises(InputError) as refused:
        moments(where(rows), METRICS, "arm")
    (problem,) = refused.value.problems
    assert (problem.column, problem.count) == ("revenue", 7)
    assert "7 of 500" in str(problem)


def test_nan_in_a_database_is_missing_too():
    table = in_duckdb(retail(500)).mutate(history=ibis.cases((ibis._.orders > 1, float("nan")), else_=ibis._.history))
    got = moments(table, METRICS, "arm")
    assert got.missing == ("history",)
    assert np.isfinite(got.arm("new").var("history"))
    with pytest.raises(InputError, match="have no value"):
        moments(table, Mean("history"), "arm")


def test_all_problems_are_told_at_once():
    rows = retail(50).assign(segment="x", price=["1,50", 2.0] * 25)
    with pytest.raises(InputError) as refused:
        moments(rows, [Mean("revenu"), Mean("sesions")], "arm")
    assert [problem.column for problem in refused.value.problems] == ["revenu", "sesions"]
    assert "did you mean `revenue`?" in str(refused.value)
    with pytest.raises(InputError) as refused:
        moments(rows, [Mean("segment"), Mean("stratum")], "arm")
    assert [problem.column for problem in refused.value.problems] == ["segment", "stratum"]
    with pytest.raises(InputError, match=r"price: mixes numbers with text"):
        moments(rows, [Mean("price")], "arm")


def test_units_need_an_arm_and_proportions_two_values():
    rows = retail(50)
    rows.loc[:2, "arm"] = None
    with pytest.raises(InputError, match="3 units have no value"):
        moments(rows, Mean("revenue"), "arm")
    with pytest.raises(InputError, match="other than 0 and 1"):
        moments(retail(50), Proportion("orders"), "arm")
    # 3 − 1 − 1 − 1 + … : values whose squares happen to sum like a proportion's are found out as well
    odd = pd.DataFrame({"arm": "a", "y": [-1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]})
    with pytest.raises(InputError, match="other than 0 and 1"):
        moments(odd, Proportion("y"), "arm")


def test_a_zoned_time_is_no_day():
    rows = retail(50)
    rows["day"] = rows["day"].dt.tz_localize("Europe/Berlin")
    with pytest.raises(InputError, match="local date"):
        moments(rows, Mean("revenue"), "arm", day="day")


def test_no_rows_is_no_arm():
    empty = moments(retail(5).head(0), METRICS, "arm")
    assert (empty.arms, empty.counts) == ((), {})
    with pytest.raises(InputError, match="`new` has no units"):
        empty.arm("new")
    full = moments(retail(50), METRICS, "arm")
    assert_same(empty + full, full, {})


def test_whole_numbers_booleans_decimals_and_enums():
    rows = pd.DataFrame({"arm": ["a", "a", "b"], "n": [2**40, 2**40 + 2, 2**40], "yes": [True, False, True]})
    table = in_duckdb(rows).mutate(
        money=ibis._.n.cast("decimal(18, 2)"), big=ibis._.n.cast("decimal(38, 0)"), arm=ibis._.arm
    )
    got = moments(table, [Mean("n"), Mean("money"), Mean("big"), Proportion("yes")], "arm").arm("a")
    assert [float(got.var(name)) for name in ("n", "money", "big", "yes")] == [2.0, 2.0, 2.0, 0.5]
    got = moments(rows.assign(arm=pd.Categorical(rows["arm"])), [Mean("n")], "arm")
    assert got.counts == {"a": 2, "b": 1}


def test_later_looks_total_each_customers_days():
    days = pd.DataFrame(
        {
            "id": ["x", "x", "y", "x", "y"],
            "on": [datetime.date(2026, 1, d) for d in (1, 1, 2, 3, 4)],
            "revenue": [1.0, 2.0, 5.0, 10.0, 20.0],
            "orders": [1, 1, 1, 1, 2],
        }
    )

    def totals(until=None):
        rows = cumulate(days, "id", "on", ["revenue", "orders"], until=until).order_by("id").to_pyarrow().to_pylist()
        return {row["id"]: (row["revenue"], row["orders"]) for row in rows}

    assert totals(datetime.date(2026, 1, 2)) == {"x": (3.0, 2.0), "y": (5.0, 1.0)}
    assert totals() == {"x": (13.0, 3.0), "y": (25.0, 3.0)}
    with pytest.raises(InputError, match="no such column"):
        cumulate(days, "customer", "on", ["revenue"])


def test_moments_of_cumulated_days_are_moments_of_customers():
    draws = np.random.default_rng(9)
    days = pd.DataFrame({"id": draws.integers(0, 200, 3000), "on": draws.integers(1, 30, 3000)})
    days["revenue"] = draws.exponential(10, 3000)
    arms = pd.DataFrame({"id": np.arange(200), "arm": np.where(np.arange(200) % 2, "a", "b")})
    connected = ibis.memtable(arms).join(cumulate(days, "id", "on", ["revenue"], until=20), "id", how="left")
    units = connected.mutate(revenue=ibis._.revenue.fill_null(0.0))
    got = moments(units, Mean("revenue"), "arm").arm("a")
    total = days[days.on <= 20].groupby("id")["revenue"].sum().reindex(range(200), fill_value=0.0)
    assert (got.n, got.var("revenue")) == (100, pytest.approx(total[1::2].var(), rel=1e-10))


def test_the_query_forms_each_sum_once():
    got = moments(retail(100), [*METRICS, Mean("revenue"), Covariates("history")], "arm")
    assert got.cells.columns.is_unique
    assert not any("orders × revenue" in name for name in got.cells.columns)  # no metric needs it


def test_a_frame_is_let_go():
    units = pd.DataFrame({"arm": ["a", "b"] * 5, "x": range(10)})
    moments(units, Mean("x"), arm="arm")  # the backend exists from here on
    views = "SELECT count(*) FROM duckdb_views() WHERE NOT internal"
    before = ibis.get_backend().con.execute(views).fetchall()
    for _ in range(3):
        moments(units, Mean("x"), arm="arm")
        with pytest.raises(InputError):
            moments(units, Mean("arm"), arm="arm")
    assert ibis.get_backend().con.execute(views).fetchall() == before
