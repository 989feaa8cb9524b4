"""Sample ratio and balance: known answers, peers, power as promised, refusals."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fairlift.errors import InputError, Refusal
from fairlift.method import Covariates, balance, moments, srm


def test_published_mismatch():
    test = srm({"control": 821_588, "treatment": 815_482}, {"control": 1, "treatment": 1})
    assert f"{test.p:.1e}" == "1.8e-06"
    assert test.failed
    assert "not as planned" in str(test)


def test_unequal_weights_on_any_scale():
    counts = {"control": 5_050, "holdout": 1_030, "new": 14_020}
    for weights in ({"control": 25, "holdout": 5, "new": 70}, {"control": 0.25, "holdout": 0.05, "new": 0.7}):
        test = srm(counts, weights)
        peer = stats.chisquare(list(counts.values()), [0.25 * 20_100, 0.05 * 20_100, 0.7 * 20_100])
        assert (test.statistic, test.p) == pytest.approx((peer.statistic, peer.pvalue), rel=1e-12)


def test_equal_weights_would_hide_the_plan():
    counts = {"holdout": 5_000, "new": 95_000}
    assert srm(counts, {"holdout": 1, "new": 19}).p > 0.99
    assert srm(counts, {"holdout": 1, "new": 1}).failed


def test_false_alarms_and_power_are_as_stated():
    draws = np.random.default_rng(3)
    weights = {"a": 0.25, "b": 0.05, "c": 0.7}
    n, planned = 20_000, np.array(list(weights.values()))

    def alarms(shares):
        rows = draws.multinomial(n, shares, 4000)
        return np.mean([srm(dict(zip("abc", row, strict=True)), weights, alpha=0.05).failed for row in rows])

    assert 0.040 < alarms(planned) < 0.060
    detectable = srm(dict(zip("abc", (n * planned).astype(int), strict=True)), weights, alpha=0.05).detectable
    off = planned.copy()
    off[2] += detectable  # the arm nearest to a half is the hardest, and the one stated
    off[:2] -= detectable * planned[:2] / planned[:2].sum()
    assert 0.78 < alarms(off) < 0.82


@pytest.mark.parametrize(
    ("counts", "weights", "words"),
    [
        ({"a": 10, "b": 10}, {"a": 1, "b": 0}, ["b", "weight 0"]),
        ({"a": 10, "b": 10}, {"a": 1, "b": float("nan")}, ["weight nan"]),
        ({"a": 10}, {"a": 1, "b": 1}, ["b", "no count"]),
        ({"a": 10, "b": 10, "c": 1}, {"a": 1, "b": 1}, ["c", "no planned weight"]),
        ({"a": 10, "b": -1}, {"a": 1, "b": 1}, ["count -1"]),
        ({"a": 10.5, "b": 1}, {"a": 1, "b": 1}, ["count 10.5"]),
        ({"a": 1}, {"a": -1, "b": 1}, ["weight -1", "no count"]),
    ],
)
def test_bad_input_names_every_arm(counts, weights, words):
    with pytest.raises(InputError) as refused:
        srm(counts, weights)
    assert all(word in str(refused.value) for word in words)


def test_refuses_what_has_no_ratio():
    with pytest.raises(Refusal, match="single arm"):
        srm({"a": 100}, {"a": 1})
    with pytest.raises(Refusal, match="5 are needed"):
        srm({"a": 0, "b": 0}, {"a": 1, "b": 1})
    with pytest.raises(Refusal, match="5 are needed"):
        srm({"a": 3, "b": 60}, {"a": 1, "b": 19})


def test_an_empty_arm_is_a_mismatch_and_not_an_error():
    assert srm({"a": 1000, "b": 0}, {"a": 1, "b": 1}).failed


def people(n, seed, shift=0.0):
    draws = np.random.default_rng(seed)
    arm = np.where(draws.random(n) < 0.3, "b", "a")
    age = draws.normal(45, 12, n) + shift * 12 * (arm == "b")
    spend = np.exp(draws.normal(3, 1, n) + age / 40)
    return pd.DataFrame({"arm": arm, "age": age, "spend": spend, "twice": 2 * age, "same": 1.0})


def test_balance_is_hotellings_test():
    rows = people(3000, 5)
    test = balance(moments(rows, Covariates("age", "spend"), "arm"), ["age", "spend"], "a", "b")
    one, two = (rows.loc[rows.arm == arm, ["age", "spend"]].to_numpy() for arm in "ab")
    gap = one.mean(0) - two.mean(0)
    dof = len(rows) - 2
    pooled = (np.cov(one.T) * (len(one) - 1) + np.cov(two.T) * (len(two) - 1)) / dof
    squared = len(one) * len(two) / len(rows) * gap @ np.linalg.solve(pooled, gap)
    assert test.statistic == pytest.approx(squared, rel=1e-9)
    assert test.p == pytest.approx(stats.f.sf(squared * (dof - 1) / (2 * dof), 2, dof - 1), rel=1e-9)
    halves = np.sqrt((one.var(0, ddof=1) + two.var(0, ddof=1)) / 2)
    assert list(test.differences.values()) == pytest.approx(list(gap / halves), rel=1e-9)


def test_one_covariate_is_the_t_test():
    rows = people(500, 6)
    test = balance(moments(rows, Covariates("age"), "arm"), ["age"], "a", "b")
    assert test.p == pytest.approx(
        stats.ttest_ind(rows.age[rows.arm == "a"], rows.age[rows.arm == "b"]).pvalue, rel=1e-9
    )


def test_repeated_and_constant_covariates_count_once():
    rows = people(3000, 5)
    alone = balance(moments(rows, Covariates("age"), "arm"), ["age"], "a", "b")
    names = ["age", "twice", "same"]
    more = balance(moments(rows, Covariates(*names), "arm"), names, "a", "b")
    assert (more.df, more.p) == (1, pytest.approx(alone.p, rel=1e-9))


def test_missing_covariates_are_themselves_compared():
    rows = people(4000, 8)
    rows.loc[(rows.arm == "b") & (rows.age > 50), "age"] = np.nan
    test = balance(moments(rows, Covariates("age"), "arm"), ["age"], "a", "b")
    assert test.failed
    assert abs(test.differences["age missing"]) > 0.5


def test_balance_alarms_as_often_as_stated_and_finds_what_it_says():
    def alarms(shift):
        tests = []
        for seed in range(60):  # each split of one table into ten is ten experiments
            rows = people(4000, seed, shift)
            rows["piece"] = np.arange(len(rows)) % 10
            cells = moments(rows, Covariates("age", "spend"), "arm", stratum="piece")
            for piece in range(10):
                part = cells.cells[cells.cells["stratum"] == str(piece)].assign(stratum="")
                one = type(cells)(part, cells.metrics)
                tests.append(balance(one, ["age", "spend"], "a", "b", alpha=0.05))
        return np.mean([test.failed for test in tests]), np.mean([test.detectable for test in tests])

    false, detectable = alarms(0.0)
    assert 0.03 < false < 0.075
    assert alarms(detectable)[0] > 0.7


def test_balance_refuses():
    rows = people(100, 1)
    with pytest.raises(Refusal, match="no covariate varies"):
        balance(moments(rows, Covariates("same"), "arm"), ["same"], "a", "b")
    with pytest.raises(Refusal, match="arm c has fewer than two units"):
        balance(moments(rows, Covariates("age"), "arm"), ["age"], "a", "c")
    with pytest.raises(InputError, match="nothing was gathered"):
        balance(moments(rows, Covariates("age"), "arm"), ["age", "spend"], "a", "b")
