"""Stores drawn as a whole: cluster means, randomisation inference and pairs, beside tests that count customers."""

from __future__ import annotations

import numpy as np
from benchmarks.calibration import Case
from scipy import special

from fairlift.errors import Refusal
from fairlift.method.calibration import Row, alarmed, scored
from fairlift.method.clusters import cluster_effect
from fairlift.method.geo import match_pairs
from fairlift.method.icc import icc
from fairlift.method.randomisation import Design
from fairlift.simulate.stores import StoreTrial, StoreTrials, draw_half, draw_trials, naive_z

EIGHT = StoreTrial(stores=8)
SKEWED = StoreTrial(stores=8, skewed=True)
THIRTY = StoreTrial(stores=30, cv=0.65, effect=3.0)
LEANING = StoreTrial(stores=40, cv=0.5, effect=3.0, lean=0.8)
MANY = StoreTrial(stores=24)
GEO = StoreTrial(stores=16, regional=0.4, steady=0.9, effect=4.0)


def limits(trials: StoreTrials, treated: np.ndarray, block=None, **options) -> np.ndarray:
    """Low and high of every trial, two rows; NaN where the method refuses."""
    found = np.full((2, len(trials)), np.nan)
    for which in range(len(trials)):
        try:
            mine = None if block is None else block[which]
            seen = cluster_effect(trials.clusters(which, treated[which], mine), "new", "old", **options)
        except Refusal:
            continue
        found[:, which] = seen.low, seen.high
    return found


def shifted(trials: StoreTrials, effect: float) -> StoreTrials:
    """The same trials with a constant effect planted."""
    return StoreTrials(**(vars(trials) | {"effect": np.full_like(trials.mean, effect)}))


def found_share(trials: StoreTrials, treated: np.ndarray, **options) -> float:
    """The share of trials whose interval leaves out 0."""
    low, high = limits(trials, treated, **options)
    return float(((low > 0) | (high < 0)).mean())


def naive(trials: StoreTrials, treated: np.ndarray, robust: bool) -> np.ndarray:
    value, se = naive_z(trials, treated, robust)
    half = -special.ndtri(0.025) * se
    return np.array([value - half, value + half])


def paired(trials: StoreTrials, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Every trial's stores matched within region on the period before, and one of each pair drawn: who, and which pair."""
    import pandas as pd

    generator = np.random.default_rng([seed, 7])
    treated = np.zeros(trials.size.shape, dtype=bool)
    block = np.zeros(trials.size.shape, dtype=int)
    names = np.array([f"{place:03}" for place in range(trials.trial.stores)])
    for which in range(len(trials)):
        stores = pd.DataFrame({"store": names, "region": trials.region, "before": trials.pre[which]})
        pairs = match_pairs(stores, "store", ["before"], within=["region"]).pairs[["first", "second"]].astype(int)
        for place, pair in enumerate(pairs.to_numpy()):
            block[which, pair] = place
            treated[which, pair[generator.integers(2)]] = True
    return treated, block


def eight(reps: int, seed: int) -> list[Row]:
    case, trials = "8 stores, ICC .05, no effect", draw_trials(EIGHT, reps, seed)
    treated = draw_half(trials, seed)
    some = slice(0, max(1, reps // 5))
    few = part(trials, some)
    power = found_share(shifted(few, 8.0), treated[some])
    return [
        scored("customers as if independent", case, "closed", *naive(trials, treated, False), truth=0.0, naive=True),
        scored("clustered sandwich (CRV1)", case, "closed", *naive(trials, treated, True), truth=0.0, naive=True),
        scored("t of store means", case, "costly", *limits(trials, treated, inference="t"), truth=0.0),
        scored("randomisation inference", case, "conservative", *limits(trials, treated), truth=0.0, power=power),
    ]


def skewed(reps: int, seed: int) -> list[Row]:
    case, trials = "8 stores with a long right tail, no effect", draw_trials(SKEWED, reps, seed)
    treated = draw_half(trials, seed)
    some = slice(0, max(1, reps // 5))
    power = found_share(shifted(part(trials, some), 8.0), treated[some])
    return [
        scored("clustered sandwich (CRV1)", case, "closed", *naive(trials, treated, True), truth=0.0, naive=True),
        scored("randomisation inference", case, "conservative", *limits(trials, treated), truth=0.0, power=power),
    ]


def thirty(reps: int, seed: int) -> list[Row]:
    case, trials = "30 stores of unequal size (CV .65)", draw_trials(THIRTY, reps, seed)
    treated = draw_half(trials, seed)
    truth = THIRTY.truth("clusters")
    weighted = limits(trials, treated, average="customers")
    return [
        scored("customers as if independent", case, "closed", *naive(trials, treated, False), truth=truth, naive=True),
        scored("clustered sandwich (CRV1)", case, "closed", *naive(trials, treated, True), truth=truth, naive=True),
        scored("t of store means", case, "closed", *limits(trials, treated), truth=truth),
        scored("average over customers (CR2, Imbens–Kolesár)", case, "costly", *weighted, truth=truth),
        scored(
            "t of store means, pre-period adjusted", case, "closed", *limits(trials, treated, adjust=True), truth=truth
        ),
    ]


def leaning(reps: int, seed: int) -> list[Row]:
    case, trials = "40 stores, effect grows with size, average over customers", draw_trials(LEANING, reps, seed)
    treated, truth = draw_half(trials, seed), LEANING.truth("customers")
    weighted = limits(trials, treated, average="customers")
    return [
        scored(
            "store means read as the average over customers",
            case,
            "closed",
            *limits(trials, treated),
            truth=truth,
            naive=True,
        ),
        scored("average over customers (CR2, Imbens–Kolesár)", case, "costly", *weighted, truth=truth),
    ]


def refused(reps: int, seed: int) -> list[Row]:
    rows = []
    for stores in (6, 7):
        trials = draw_trials(StoreTrial(stores=stores), reps, seed)
        case = f"{stores // 2} against {stores - stores // 2} stores, no effect"
        seen = limits(trials, draw_half(trials, seed))
        rows.append(scored("randomisation inference", case, "conservative", *seen, truth=0.0))
    trials = draw_trials(StoreTrial(stores=10), reps, seed)
    block = np.tile(np.arange(10) // 2, (reps, 1))
    first = np.random.default_rng([seed, 5]).random((reps, 5)) < 0.5
    treated = np.stack([first, ~first], axis=2).reshape(reps, 10)
    seen = limits(trials, treated, block=block)
    return [*rows, scored("randomisation inference", "5 pairs of stores, no effect", "conservative", *seen, truth=0.0)]


def geo(reps: int, seed: int) -> list[Row]:
    none, some = "16 stores in 4 regions, no effect", "16 stores in 4 regions, effect 4.00"
    with_effect = draw_trials(GEO, reps, seed)
    trials = shifted(with_effect, 0.0)
    treated, block = paired(trials, seed)
    half = draw_half(trials, seed)
    power = found_share(with_effect, treated, block=block)
    apart = found_share(with_effect, half)
    truth = GEO.truth("clusters")
    return [
        scored(
            "pairs, randomisation inference",
            none,
            "conservative",
            *limits(trials, treated, block=block),
            truth=0.0,
            power=power,
        ),
        scored(
            "no pairs, randomisation inference", none, "conservative", *limits(trials, half), truth=0.0, power=apart
        ),
        scored(
            "pairs, paired t", some, "costly", *limits(with_effect, treated, block=block, inference="t"), truth=truth
        ),
        scored("no pairs, t of store means", some, "costly", *limits(with_effect, half, inference="t"), truth=truth),
        scored(
            "pairs, read as if unpaired",
            some,
            "costly",
            *limits(with_effect, treated, inference="t"),
            truth=truth,
            naive=True,
        ),
    ]


def unlike(reps: int, seed: int) -> list[Row]:
    """The effect is none on average but differs by store, and fewer stores are treated: the raw difference alarms too often."""
    case, trials = "8 of 24 stores treated, effects differ by store, none on average", draw_trials(MANY, reps, seed)
    generator = np.random.default_rng([seed, 3])
    mixed = generator.normal(0, MANY.between, trials.mean.shape)
    trials = StoreTrials(**(vars(trials) | {"effect": mixed}))
    order = generator.random(trials.mean.shape).argsort(axis=1)
    treated = order < 8
    draws = Design(treated[0], np.zeros(24, dtype=int)).some(999, seed)[1:]
    outcome = trials.outcomes(treated)
    centred = outcome - outcome.mean(axis=1, keepdims=True)
    seen, could = (treated * centred).sum(axis=1), centred @ draws.T.astype(float)
    p = (1 + (np.abs(could) >= np.abs(seen)[:, None]).sum(axis=1)) / 1000
    return [
        alarmed("draws of the raw difference", case, "conservative", p <= 0.05, naive=True),
        scored("randomisation inference", case, "costly", *limits(trials, treated, draws=999), truth=0.0),
        scored("t of store means", case, "costly", *limits(trials, treated, inference="t"), truth=0.0),
    ]


def alike(reps: int, seed: int) -> list[Row]:
    """The interval of the ICC itself."""
    rows = []
    for trial, case in (
        (StoreTrial(stores=30), "30 stores, equal sizes"),
        (StoreTrial(stores=30, cv=0.65), "30 stores, CV .65"),
    ):
        trials = draw_trials(trial, reps, seed)
        treated = draw_half(trials, seed)
        seen = [icc(trials.clusters(which, treated[which])) for which in range(reps)]
        rows.append(
            scored("ICC (Wald)", case, "costly", [e.low for e in seen], [e.high for e in seen], truth=trial.icc)
        )
    return rows


def part(trials: StoreTrials, some: slice) -> StoreTrials:
    """Some of the trials."""
    whole = ("trial", "region")
    return StoreTrials(**{name: value if name in whole else value[some] for name, value in vars(trials).items()})


CASES = (
    Case("eight stores", 10_000, eight),
    Case("eight skewed stores", 5_000, skewed),
    Case("thirty stores of unequal size", 10_000, thirty),
    Case("effect grows with size", 10_000, leaning),
    Case("too few stores", 500, refused),
    Case("pairs of stores", 600, geo),
    Case("effects that differ", 2_000, unlike),
    Case("how alike customers are", 5_000, alike),
)
