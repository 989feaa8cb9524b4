"""Ramps: the arms' shares change while ever other customers enrol; sizes and effects within stage × week, and pooled."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
from benchmarks.calibration import Case
from scipy import special

from fairlift.method.calibration import Row, alarmed, scored
from fairlift.method.effect import effect
from fairlift.method.metric import Mean
from fairlift.method.moments import Moments
from fairlift.method.ramp import pooled_srm

ARMS = ("personalised", "control", "holdout")
STAGES = np.array([[0.10, 0.60, 0.30], [0.35, 0.35, 0.30], [0.60, 0.10, 0.30]])  # two weeks each
CUSTOMERS, WEEKS = 15_000, np.array([4, 3, 2.5, 2, 2, 1.5]) / 15  # share of them who enrol in each week
KEEN = np.array([2.2, 1.8, 1.1, 0.8, 0.4, 0.3])  # how much those of each week spend
LIFT = 1.15
SPEND = Mean("spend")


def weeks_of(draws: np.random.Generator, reps: int) -> np.ndarray:
    """Customers of each experiment, week and arm."""
    sizes = draws.multinomial(CUSTOMERS, WEEKS, reps)
    return np.stack([draws.multinomial(sizes[:, week], STAGES[week // 2]) for week in range(len(WEEKS))], axis=1)


def experiments(draws: np.random.Generator, reps: int, effect_of_arm: float) -> list[Moments]:
    """Moments by week of experiments in which a quarter of the customers buy, for exponential amounts."""
    runs, counts = [], weeks_of(draws, reps)
    for run in counts:
        rows = []
        for week, sizes in enumerate(run):
            for arm, n in zip(ARMS, sizes, strict=True):
                scale = KEEN[week] * (effect_of_arm if arm == "personalised" else 1.0)
                spent = scale * draws.standard_gamma(1.0, draws.binomial(n, 0.25))
                mean = spent.sum() / n
                square, cube = np.dot(spent, spent), np.dot(spent**2, spent)
                second = square - n * mean**2
                third = cube - 3 * mean * square + 2 * n * mean**3
                rows.append((arm, "", f"week {week}", float(n), float(len(spent)), mean, second, third))
        names = ["arm", "stratum", "day", "n", "nonzero spend", "mean spend"]
        names += ["sum spend × spend", "sum spend × spend × spend"]
        runs.append(Moments(pd.DataFrame(rows, columns=names), (SPEND,)))
    return runs


def pooled(reps: int, seed: int) -> list[Row]:
    """The effect of a launch that sells 15 % more, and of one that sells nothing more."""
    rows = []
    for lift, case in ((LIFT, "keen customers first, +15 %"), (1.0, "keen customers first, no effect")):
        draws = np.random.default_rng([seed, round(100 * lift)])
        truth = 0.25 * (lift - 1) * np.dot(WEEKS, KEEN)
        limits: dict[str, list] = {"within": [], "pooled": []}
        for run in experiments(draws, reps, lift):
            for name, by in (("within", ("day",)), ("pooled", ())):
                seen = effect(run, SPEND, "personalised", "holdout", by=by)
                limits[name].append((seen.low, seen.high))
        low, high = np.array(limits["within"]).T
        rows.append(scored("effect within stage and week", case, "closed", low, high, truth))
        low, high = np.array(limits["pooled"]).T
        rows.append(scored("pooled means", case, "closed", low, high, truth, naive=True))
    return rows


def sizes(reps: int, seed: int) -> list[Row]:
    """The sample ratio of a sound ramp, and of one that loses one in twelve of the holdout."""
    draws = np.random.default_rng([seed, 3])
    counts = weeks_of(draws, reps).reshape(reps, 3, 2, 3).sum(axis=2)
    lossy = counts.copy()
    lossy[:, :, 2] -= draws.binomial(counts[:, :, 2], 1 / 12)
    tests = [pooled_srm(ARMS, found, STAGES, 0.001, 0.8) for found in counts]
    found = np.mean([pooled_srm(ARMS, seen, STAGES, 0.001, 0.8).failed for seen in lossy])
    case = "a ramp in three stages"
    total = counts.sum(axis=1)
    planned = STAGES.mean(axis=0)  # each stage two weeks, as if equally many enrolled in each
    rows = [
        alarmed(
            "sizes within stages",
            case,
            "conservative",
            [test.failed for test in tests],
            nominal=0.001,
            power=float(found),
        )
    ]
    for name, shares in (("sizes pooled, shares averaged", planned), ("sizes pooled, last shares", STAGES[-1])):
        expected = total.sum(axis=1, keepdims=True) * shares
        p = special.chdtrc(2, ((total - expected) ** 2 / expected).sum(axis=1))
        rows.append(alarmed(name, case, "conservative", p < 0.001, nominal=0.001, naive=True))
    return rows


def stages() -> list[SimpleNamespace]:
    """The stages as a plan states them."""
    days = pd.to_datetime(["2026-06-15", "2026-06-29", "2026-07-13"]).date
    return [
        SimpleNamespace(start=day, weights=dict(zip(ARMS, weights.tolist(), strict=True)))
        for day, weights in zip(days, STAGES, strict=True)
    ]


CASES = (Case("pooled", 10_000, pooled), Case("sizes", 10_000, sizes))
