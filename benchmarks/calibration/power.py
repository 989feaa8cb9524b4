"""Plans: held against the experiments they plan; at the size computed, is the power what was stated, and are alarms as few?

Every plan states a power of .8.  A false positive is a benefit shown where there is none, or a harm at the margin passed as
harmless: one side of a two-sided 95 % interval, so nominally .025.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from benchmarks.calibration import Case
from scipy import stats

from fairlift.errors import Refusal
from fairlift.method.calibration import Row, alarmed
from fairlift.method.effect import MIN_NONZERO, effect
from fairlift.method.metric import Mean, Proportion, Ratio
from fairlift.method.moments import Moments
from fairlift.method.power import (
    Gate,
    clustered,
    mean_spread,
    sample_size,
    share_spread,
    size_together,
    units_for_buyers,
)

POWER, SIDE = 0.8, 0.025
SPEND, BAD = Mean("spend"), Proportion("bad")


def read(arms: dict[str, pd.DataFrame], metric, interval: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The limits of every experiment, a row of each arm's moments an experiment; NaN where refused."""
    cells = pd.concat([part.assign(arm=arm, stratum="", day="") for arm, part in arms.items()])
    limits = []
    for _, one in cells.groupby(level=0):
        try:
            seen = effect(Moments(one, (metric,)), metric, "new", "old", interval=interval)
            limits.append((seen.low, seen.high))
        except Refusal:
            limits.append((np.nan, np.nan))
    low, high = np.array(limits).T
    return low, high


def spend(draws, n: int, buying: float, reps: int, factor: float = 1.0) -> pd.DataFrame:
    """Moments of n customers of whom a share buys for a lognormal amount; one row an experiment."""
    buyers = np.maximum(draws.binomial(n, buying, reps), 1)
    spent = factor * draws.lognormal(0, 1, buyers.sum())
    s1, s2, s3 = (np.add.reduceat(spent**k, np.concatenate([[0], buyers.cumsum()[:-1]])) for k in (1, 2, 3))
    mean = s1 / n
    square, cube = s2 - n * mean**2, s3 - 3 * mean * s2 + 2 * n * mean**3
    names = ("n", "nonzero spend", "mean spend", "sum spend × spend", "sum spend × spend × spend")
    return pd.DataFrame(dict(zip(names, (np.full(reps, float(n)), buyers, mean, square, cube), strict=True)))


def spend_size(buying: float, factor: float, share: float, skewed: bool = True):
    """The size for a gain in spend, the arm's spread growing with its mean; `skewed` heeds the skew of spend."""
    raw = [buying * np.exp(k**2 / 2) for k in (1, 2, 3)]
    sd = np.sqrt(raw[1] - raw[0] ** 2)
    skew = (raw[2] - 3 * raw[0] * raw[1] + 2 * raw[0] ** 3) / sd**3 if skewed else 0.0
    return sample_size((factor - 1) * raw[0], mean_spread(factor * sd, sd, skew), power=POWER, share=share)


def many_buyers(reps: int, seed: int) -> list[Row]:
    """A holdout of a tenth, one customer in twenty buys, spend up by three tenths: some four hundred buyers in the holdout."""
    draws, buying, factor = np.random.default_rng(seed), 0.05, 1.3
    buyers = sample_size(factor - 1, mean_spread(factor * np.sqrt(np.e - 1), np.sqrt(np.e - 1)), power=POWER, share=0.9)
    rows = []
    for method, naive, size in (
        ("sized over all customers, with their skew", False, spend_size(buying, factor, share=0.9)),
        ("sized by the normal formula", True, spend_size(buying, factor, share=0.9, skewed=False)),
        ("sized over buyers alone", True, buyers),
    ):
        shown = []
        for lift in (1.0, factor):
            arms = {
                "new": spend(draws, size.n_arm, buying, reps, lift),
                "old": spend(draws, size.n_versus, buying, reps),
            }
            low, _ = read(arms, SPEND, "welch" if size is buyers else "hall")
            shown.append(low > 0)
        rows.append(_row(method, "spend, 5 % buy, holdout of 10 %", shown, naive))
    return rows


def few_buyers(reps: int, seed: int) -> list[Row]:
    """The same with a doubling of spend: the formula asks for so few customers that hardly anybody in the holdout buys."""
    draws, buying, factor, case = np.random.default_rng(seed), 0.05, 2.5, "spend, too few buyers, holdout of 20 %"
    size = spend_size(buying, factor, share=0.8, skewed=False)
    least = units_for_buyers(buying)
    rows = []
    for method, naive, interval, n, versus in (
        ("sized by the formula, read with Hall", False, "hall", size.n_arm, size.n_versus),
        ("sized by the formula, read with Welch", True, "welch", size.n_arm, size.n_versus),
        (f"sized for {MIN_NONZERO} buyers, read with Hall", False, "hall", 4 * least, least),
    ):
        shown, refused = [], 0.0
        for lift in (1.0, factor):
            arms = {"new": spend(draws, n, buying, reps, lift), "old": spend(draws, versus, buying, reps)}
            low, _ = read(arms, SPEND, interval)
            refused = float(np.isnan(low).mean())
            shown.append((low > 0)[~np.isnan(low)])
        rows.append(_row(method, case, shown, naive, refused))
    return rows


def stores(reps: int, seed: int) -> list[Row]:
    """Stores drawn whole, their sizes varying by four fifths of the mean, an intracluster correlation of .05."""
    draws, icc, members, cv, gain = np.random.default_rng(seed), 0.05, 50, 0.8, 0.15
    rows = []
    for method, naive, assumed in (("sized with the stores' sizes", False, cv), ("sizes taken as equal", True, 0.0)):
        size = sample_size(gain, clustered(mean_spread(1.0), icc, members, assumed), power=POWER)
        shown = []
        for lift in (0.0, gain):
            arms = {
                "new": _stores(draws, size.n_arm, members, cv, icc, lift, reps),
                "old": _stores(draws, size.n_versus, members, cv, icc, 0.0, reps),
            }
            low, _ = read(arms, Ratio("total", "members"))
            shown.append(low > 0)
        rows.append(_row(method, "stores of unequal size", shown, naive))
    return rows


def _stores(draws, stores: int, members: float, cv: float, icc: float, lift: float, reps: int) -> pd.DataFrame:
    own = np.sqrt(cv**2 - 1 / members)  # the Poisson draw adds the rest
    size = 1 + draws.poisson((members - 1) * draws.gamma(1 / own**2, own**2, (reps, stores)))
    total = size * (lift + draws.normal(0, np.sqrt(icc), size.shape)) + draws.normal(0, np.sqrt((1 - icc) * size))
    away, off = total - total.mean(1, keepdims=True), size - size.mean(1, keepdims=True)
    columns = {"n": np.full(reps, float(stores)), "mean total": total.mean(1), "mean members": size.mean(1)}
    columns |= {"nonzero total": float(stores), "nonzero members": float(stores)}
    columns |= {"sum total × total": (away**2).sum(1), "sum members × total": (away * off).sum(1)}
    return pd.DataFrame(columns | {"sum members × members": (off**2).sum(1)})


def guardrail(reps: int, seed: int) -> list[Row]:
    """Complaints of 3 per thousand, a margin of 2: what passes though harm is at the margin, and what passes without harm."""
    draws, rate, margin = np.random.default_rng(seed), 0.003, 0.002
    size = sample_size(margin, share_spread(rate, rate), power=POWER)
    safe, silent = [], []
    for harm in (margin, 0.0):
        arms = {"new": _share(draws, size.n_arm, rate + harm, reps), "old": _share(draws, size.n_versus, rate, reps)}
        low, high = read(arms, BAD)
        safe.append(high < margin)
        silent.append((low <= 0) & (high >= 0))
    case = "guardrail: complaints at the margin"
    return [
        _row("the interval lies within the margin", case, safe, False),
        _row("not significant, so taken as safe", case, silent, True),
    ]


def _share(draws, n: int, rate: float, reps: int) -> pd.DataFrame:
    hits = draws.binomial(n, rate, reps)
    columns = {"n": np.full(reps, float(n)), "nonzero bad": hits, "mean bad": hits / n}
    return pd.DataFrame(columns | {"sum bad × bad": hits * (1 - hits / n)})


def all_gates(reps: int, seed: int) -> list[Row]:
    """Revenue, profit and two guardrails, all of which a launch needs; revenue and profit go together."""
    draws = np.random.default_rng(seed)
    outcomes = np.array([[1, 0.9, 0.1, 0.4], [0.9, 1, 0.1, 0.3], [0.1, 0.1, 1, 0], [0.4, 0.3, 0, 1.0]])
    sds, needed = np.array([100.0, 40, 0.05, 60]), np.array([5.0, 2.0, 0.0022, 3.0])
    names = ("revenue", "profit", "complaints", "order value")
    gates = [
        Gate(name, *one, "new", "old")
        for name, one in zip(names, zip(needed, map(mean_spread, sds), strict=True), strict=True)
    ]
    found = size_together(gates, outcomes, {"new": 3, "old": 1}, power=POWER)
    rows = []
    for method, naive, n in (
        ("sized on the joint power", False, found.n),
        ("sized on revenue alone", True, found.alone["revenue"]),
    ):
        se = sds * np.sqrt(1 / n["new"] + 1 / n["old"])
        chance = draws.multivariate_normal(np.zeros(4), outcomes, reps) * se
        shown = [
            (chance + truth - stats.norm.isf(SIDE) * se > 0).all(axis=1)
            for truth in (needed * [0, 1, 1, 1], needed)  # without a gain in revenue, and with it
        ]
        rows.append(_row(method, "all gates of a plan", shown, naive))
    return rows


def _row(method: str, case: str, shown, naive: bool, refused: float = 0.0) -> Row:
    without, with_effect = shown
    power = float(with_effect.mean()) if len(with_effect) else None
    return alarmed(method, case, "conservative", without, nominal=SIDE, naive=naive, power=power, refused=refused)


CASES = (
    Case("many buyers", 2_000, many_buyers),
    Case("few buyers", 4_000, few_buyers),
    Case("stores", 4_000, stores),
    Case("guardrail", 4_000, guardrail),
    Case("all gates", 40_000, all_gates),
)
