"""Simulated experiments with a known truth: each tail is missed as often as stated, where the naive method is not.

The bounds are about four standard errors of the simulation wide on either side of the nominal rate, and every test
shows a naive method breaking them on the same experiments.
"""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fairlift.method import Mean, Moments, Proportion, Ratio, effect, lift, moments

SPEND = Mean("spend")


def apart(gathered: Moments) -> list[Moments]:
    """One experiment per stratum: simulations are gathered in one pass and analysed one by one."""
    parts = gathered.cells.groupby("stratum")
    return [Moments(part.assign(stratum=""), gathered.metrics, gathered.missing) for _, part in parts]


def sparse_spend(draws, n, buying, sigma, times):
    """Moments of n customers of whom a share buys, spending a lognormal amount; one row a simulation."""
    buyers = draws.binomial(n, buying, times)
    spent = draws.lognormal(0, sigma, buyers.sum())
    s1, s2, s3 = (np.add.reduceat(spent**k, np.concatenate([[0], buyers.cumsum()[:-1]])) for k in (1, 2, 3))
    mean = s1 / n
    square, cube = s2 - n * mean**2, s3 - 3 * mean * s2 + 2 * n * mean**3
    names = ("n", "nonzero spend", "mean spend", "sum spend × spend", "sum spend × spend × spend")
    return pd.DataFrame(dict(zip(names, (np.full(times, float(n)), buyers, mean, square, cube), strict=True)))


def experiments(seed, times, holdout, new, buying=0.05, sigma=1.0, factor=1.0):
    draws = np.random.default_rng(seed)
    arms = {"holdout": sparse_spend(draws, holdout, buying, sigma, times)}
    arms["new"] = sparse_spend(draws, new, buying * factor, sigma, times)
    cells = pd.concat([part.assign(arm=arm, stratum=range(times), day="") for arm, part in arms.items()])
    return apart(Moments(cells, (SPEND,)))


@pytest.fixture(scope="module")
def sparse_tails():
    """How often each interval lies wholly above (false benefit) and below (false harm) the truth, which is no effect.

    A 5 % holdout with 250 buyers.
    """
    runs = experiments(seed=11, times=2500, holdout=5_000, new=95_000)
    tails = {}
    for interval in ("welch", "hall"):
        limits = [(e.low, e.high) for run in runs if (e := effect(run, SPEND, "new", "holdout", interval=interval))]
        low, high = np.array(limits).T
        tails[interval] = ((low > 0).mean(), (high < 0).mean())
    return tails


def within(tail: float) -> bool:
    return 0.0135 < tail < 0.0375


def test_hall_misses_each_tail_as_often_as_it_says(sparse_tails):
    benefit, harm = sparse_tails["hall"]
    assert within(benefit)
    assert within(harm)


def test_welch_does_not_on_the_same_experiments(sparse_tails):
    benefit, harm = sparse_tails["welch"]
    assert not within(benefit)
    assert benefit > 3 * harm
    assert 1 - benefit - harm > 0.93  # its coverage alone would hardly have shown it


def test_the_simulated_moments_are_the_engine_s():
    """The shortcut that makes the simulation fast gives what the engine gives on the rows themselves."""
    spent = np.random.default_rng(1).lognormal(0, 1, 300)
    rows = pd.DataFrame({"arm": "a", "spend": np.concatenate([spent, np.zeros(700)])})
    engine = moments(rows, SPEND, "arm").cells.iloc[0]

    class Fixed:
        binomial = staticmethod(lambda n, p, times: np.array([300]))
        lognormal = staticmethod(lambda mean, sigma, size: spent)

    shortcut = sparse_spend(Fixed, 1000, 0.3, 1.0, 1).iloc[0]
    for name, value in shortcut.items():
        assert value == pytest.approx(engine[name], rel=1e-10), name


def test_fieller_covers_where_dividing_by_the_control_does_not():
    """A 5 % holdout of 1,000 and a lift of 30 %."""
    draws = np.random.default_rng(12)
    arms = []
    for arm, n, share in (("new", 19_000, 0.26), ("holdout", 1_000, 0.20)):
        hits = draws.binomial(n, share, 1200)
        cells = {"arm": arm, "stratum": range(1200), "day": "", "n": float(n), "nonzero y": hits, "mean y": hits / n}
        arms.append(pd.DataFrame(cells | {"sum y × y": hits * (1 - hits / n)}))
    metric = Proportion("y")
    runs = [effect(run, metric, "new", "holdout") for run in apart(Moments(pd.concat(arms), (metric,)))]
    lifts = [lift(run) for run in runs]
    above, below = np.mean([(one.low > 0.3, one.high < 0.3) for one in lifts], axis=0)
    assert 0.008 < above < 0.043
    assert 0.008 < below < 0.043
    assert np.mean([run.low / run.mean_versus <= 0.3 <= run.high / run.mean_versus for run in runs]) < 0.90


def test_ratio_counts_customers_and_not_sessions():
    """Customers differ in how readily they order, so their sessions are alike; no effect."""
    times, customers = 500, 300
    draws = np.random.default_rng(13)
    size = (times, customers)
    sessions = 1 + draws.poisson(6, size)
    orders = draws.binomial(sessions, draws.beta(0.8, 3.2, size))
    rows = pd.DataFrame({"orders": orders.ravel(), "sessions": sessions.ravel()})
    rows["run"], rows["arm"] = np.arange(len(rows)) // customers, np.where(np.arange(len(rows)) % 3 > 0, "new", "old")
    metric = Ratio("orders", "sessions")
    delta = [effect(run, metric, "new", "old").p for run in apart(moments(rows, metric, "arm", stratum="run"))]
    total = rows.groupby(["run", "arm"])[["orders", "sessions"]].sum().unstack()
    rate = total["orders"] / total["sessions"]
    spread = np.sqrt((rate * (1 - rate) / total["sessions"]).sum(axis=1))
    naive = 2 * stats.norm.sf(abs(rate["new"] - rate["old"]) / spread)
    assert 0.02 < np.mean(np.array(delta) < 0.05) < 0.09
    assert np.mean(naive < 0.05) > 0.10


@pytest.mark.parametrize("adjust", [None, "lin", "pooled"])
def test_adjusted_intervals_cover_the_population_effect(adjust):
    """Slopes differ between the arms, so the covariate's sampled mean moves Lin's estimate: 2.5 × as much as the rest."""
    times, n = 600, 200
    draws = np.random.default_rng(14)
    x, noise = draws.normal(size=times * n), draws.normal(size=times * n)
    new = np.arange(times * n) % 4 > 0
    rows = pd.DataFrame({"x": x, "y": 5 + np.where(new, 3 * x + 1, -x) + noise, "arm": np.where(new, "new", "old")})
    rows["run"] = np.arange(times * n) // n
    metric = Mean("y", "x")
    runs = [
        effect(run, metric, "new", "old", interval="welch", adjust=adjust)
        for run in apart(moments(rows, metric, "arm", stratum="run"))
    ]
    above = np.mean([run.low > 1 for run in runs])
    below = np.mean([run.high < 1 for run in runs])
    assert 0.003 < above < 0.05
    assert 0.003 < below < 0.05
    if adjust == "lin":  # as if the covariate's mean were known
        shared = [math.sqrt(run.se**2 - 16 * 1.0 / n) if run.se**2 > 16 / n else 0.0 for run in runs]
        known = [abs(run.value - 1) < 1.96 * se for run, se in zip(runs, shared, strict=True)]
        assert np.mean(known) < 0.85
