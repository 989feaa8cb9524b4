"""Simulated experiments with a known truth: each tail is missed as often as stated, where the naive method is not.

The cases are those of the published table (benchmarks/calibration), on fewer experiments; the bounds are about four standard
errors of the simulation wide on either side of the nominal rate, and every test shows a naive method breaking them on the
same experiments.
"""

import math

import numpy as np
import pandas as pd
import pytest
from benchmarks.calibration import means, ratios
from benchmarks.calibration.means import dense, heavy, real, sparse, zero_one

from fairlift.method import Mean, Proportion, moments

SEED = 11


def rows(found):
    """The rows of a case by method."""
    return {row.method: row for row in found}


def within(row) -> bool:
    """Both tails of a nominal .025, to four standard errors."""
    slack = 4 * math.sqrt(0.025 * 0.975 / row.reps)
    return row.refused == 0 and all(abs(tail - 0.025) < slack for tail in (row.miss_low, row.miss_high))


@pytest.fixture(scope="module")
def sparse_tails():
    """No effect, a 5 % holdout with 250 buyers: `miss_high` is a false benefit, `miss_low` a false harm."""
    return rows(means.skewed(2500, SEED, case="250 buyers", holdout=5_000, share=0.05, buying=0.05, spend=heavy))


def test_hall_misses_each_tail_as_often_as_it_says(sparse_tails):
    assert within(sparse_tails["Hall"])


def test_welch_does_not_on_the_same_experiments(sparse_tails):
    welch = sparse_tails["Welch"]
    assert not within(welch)
    assert welch.miss_high > 3 * welch.miss_low
    assert welch.coverage > 0.93  # its coverage alone would hardly have shown it


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_hall_with_few_buyers(share):
    found = rows(means.skewed(1500, SEED, case="180 buyers", holdout=20_000, share=share, buying=0.009, spend=real))
    assert within(found["Hall"])


@pytest.mark.parametrize(("holdout", "naive"), [(1_000, 0.09), (5_000, 0.035)])
def test_too_few_buyers_are_always_refused(holdout, naive):
    found = rows(means.skewed(400, SEED, case="few", holdout=holdout, share=0.05, buying=0.009, spend=real))
    assert found["Hall"].refused == 1
    assert found["Welch"].miss_high > naive  # false benefits of a nominal .025


def test_the_simulated_moments_are_the_engine_s():
    """The shortcuts that make the simulations fast give what the engine gives on the rows themselves."""
    draws = np.random.default_rng(1)
    spent = heavy(draws, 300)
    spend = np.concatenate([spent, np.zeros(700)])
    rows = pd.DataFrame(
        {"arm": "a", "spend": spend, "before": draws.normal(size=1000), "bought": (spend > 0).astype(int)}
    )

    class Fixed:
        binomial = staticmethod(lambda n, p, times: np.full(times, 300))

    made = sparse(Fixed, 1000, 0.3, lambda _, n: np.tile(spent, n // 300), 2)
    made |= zero_one(Fixed, 1000, 0.3, 2)
    made |= dense({name: rows[[name]].to_numpy().T for name in ("spend", "before")}, order=3)
    engine = moments(rows, [Mean("spend", "before"), Proportion("bought")], "arm").cells.iloc[0]
    del made["nonzero before"]  # the engine counts outcomes only
    for name, values in made.items():
        assert values[0] == pytest.approx(engine[name], rel=1e-10, abs=1e-8), name
    assert set(engine.index) - set(made) == {"arm", "stratum", "day"}


def test_fieller_covers_where_dividing_by_the_control_does_not():
    """A 5 % holdout of 1,000 and a lift of 30 %."""
    found = rows(means.relative(1200, SEED))
    assert within(found["Fieller"])
    assert found["limits divided by the holdout's mean"].coverage < 0.90


def test_ratio_counts_customers_and_not_sessions():
    """Customers differ in how readily they order, so their sessions are alike; no effect."""
    found = rows(ratios.conversion(1000, SEED))
    assert within(found["delta method over customers"])
    assert found["z-test over sessions"].false_positive > 0.10


def test_money_per_order_counts_orders_and_not_buyers():
    found = rows(ratios.order_value(1000, SEED))
    assert within(found["delta method over customers"])
    assert not within(found["mean over buyers of their own average order"])


def test_adjusted_intervals_cover_the_population_effect():
    """Slopes differ between the arms, so the covariate's sampled mean moves Lin's estimate: 2.5 × as much as the rest."""
    found = rows(means.adjusted(800, SEED))
    for method in ("unadjusted", "Lin", "CUPED, one slope"):
        assert within(found[method]), method
    assert found["Lin"].width < 0.9 * found["CUPED, one slope"].width
    assert found["Lin, earlier spend taken as known"].coverage < 0.85


def test_unequal_variance_and_strata():
    found = rows(means.light_tails(800, SEED))
    assert within(found["Welch"]) and within(found["Hall"])
    assert found["Student, one variance for both arms"].coverage < 0.85
    plain, _, ramp, mixed = means.strata(800, SEED)
    assert within(plain) and within(ramp)
    assert mixed.naive and mixed.coverage < 0.1


def test_a_rare_event_needs_an_interval_that_follows_its_skew():
    found = rows(means.rare(4000, SEED))
    assert within(found["Hall"]) and within(found["Newcombe"])
    assert not within(found["Welch"])
