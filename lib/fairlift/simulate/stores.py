"""Store trials with a known truth: stores differ, their customers are alike, regions have their own season.

The mean outcome of a customer of store j in region r is  mean + region_r + store_j + noise, with customers' noise of
standard deviation `sd`; `icc` is the share of the variance that lies between stores, and `regional` the part of that share
that all stores of a region have in common.  There are two periods before, `earlier` and `pre`: store differences correlate
by `steady` from one to the next; the region's part is its season, and new in the outcome.  Whole trials are drawn as
sufficient statistics, thousands at once; `customers` draws one trial's people.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fairlift.errors import InputError, Problem
from fairlift.method.cluster_means import Clusters


@dataclass(frozen=True)
class StoreTrial:
    """What a trial is like.  Money in any unit; `customers` is the mean number a store, `cv` its spread over the mean.

    `effect` is the planted effect in a store of mean size; with `lean` it grows with size: a store of n customers has
    effect × (1 + lean × (n / customers − 1)).  `skewed` gives store differences a lognormal's long right tail.

    >>> trial = StoreTrial(stores=8, cv=0.5, effect=2.0, lean=0.4)
    >>> trial.truth("clusters"), round(trial.truth("customers"), 3)
    (2.0, 2.2)
    """

    stores: int
    customers: int = 350
    cv: float = 0.0
    icc: float = 0.05
    regional: float = 0.0
    regions: int = 4
    steady: float = 0.8
    effect: float = 0.0
    lean: float = 0.0
    mean: float = 60.0
    sd: float = 20.0
    skewed: bool = False

    def __post_init__(self) -> None:
        wrong = [
            Problem("store trial", f"{name} is {getattr(self, name)}", mend)
            for name, ok, mend in (
                ("stores", self.stores >= 2, "at least two"),
                ("customers", self.customers >= 2, "at least two"),
                ("cv", self.cv >= 0, "0 or more"),
                ("icc", 0 <= self.icc < 1, "from 0 to below 1"),
                ("regional", 0 <= self.regional <= 1, "a share"),
                ("regions", self.regions >= 1, "at least one"),
                ("steady", 0 <= self.steady <= 1, "a correlation from 0 to 1"),
                ("sd", self.sd > 0, "above 0"),
            )
            if not ok
        ]
        if wrong:
            raise InputError(wrong)

    def truth(self, average: str) -> float:
        """The true effect averaged over "clusters" or over "customers"."""
        return self.effect * (1 + self.lean * self.cv**2) if average == "customers" else self.effect

    @property
    def between(self) -> float:
        """The standard deviation of store means that the ICC stands for."""
        return self.sd * math.sqrt(self.icc / (1 - self.icc))


@dataclass(frozen=True, eq=False)
class StoreTrials:
    """Many trials before the draw, one a row: per store its size, what would be if nothing were done, and its effect."""

    trial: StoreTrial
    size: np.ndarray
    mean: np.ndarray
    within: np.ndarray
    pre: np.ndarray
    earlier: np.ndarray
    effect: np.ndarray
    region: np.ndarray

    def __len__(self) -> int:
        return len(self.size)

    def outcomes(self, treated: np.ndarray) -> np.ndarray:
        """Store means once `treated` (trials × stores) got the programme."""
        return self.mean + treated * self.effect

    def clusters(self, which: int, treated: np.ndarray, block: np.ndarray | None = None) -> Clusters:
        """One trial as `cluster_effect` takes it; arms are called new and old."""
        return Clusters(
            outcome="spend",
            name=np.arange(self.trial.stores),
            n=self.size[which],
            mean=self.mean[which] + treated * self.effect[which],
            within=self.within[which],
            arm=np.where(treated, "new", "old"),
            pre=self.pre[which],
            block=block,
        )


def draw_trials(trial: StoreTrial, times: int, seed: int) -> StoreTrials:
    """Draw many trials of one kind.

    >>> trials = draw_trials(StoreTrial(stores=8), times=3, seed=1)
    >>> trials.mean.shape, trials.region.tolist()
    ((3, 8), [0, 0, 1, 1, 2, 2, 3, 3])
    """
    generator = np.random.default_rng(seed)
    shape = (times, trial.stores)
    region = np.arange(trial.stores) * trial.regions // trial.stores
    size = _sizes(generator, trial, shape)
    earlier = generator.normal(size=shape)
    change = math.sqrt(1 - trial.steady**2)
    before = trial.steady * earlier + change * generator.normal(size=shape)
    own = trial.steady * before + change * generator.normal(size=shape)
    if trial.skewed:
        own = (np.exp(own) - math.exp(0.5)) / math.sqrt((math.e - 1) * math.e)
    season = generator.normal(size=(times, trial.regions))[:, region]
    noise = trial.sd / np.sqrt(size)
    store = trial.between * math.sqrt(1 - trial.regional)
    mean = trial.mean + store * own + trial.between * math.sqrt(trial.regional) * season
    return StoreTrials(
        trial=trial,
        size=size,
        mean=mean + noise * generator.normal(size=shape),
        within=trial.sd**2 * generator.chisquare(np.maximum(size - 1, 1)),
        pre=trial.mean + store * before + noise * generator.normal(size=shape),
        earlier=trial.mean + store * earlier + noise * generator.normal(size=shape),
        effect=trial.effect * (1 + trial.lean * (size / trial.customers - 1)),
        region=region,
    )


def draw_half(trials: StoreTrials, seed: int) -> np.ndarray:
    """Half of the stores of every trial, drawn at random: a boolean array, trials × stores.

    The stream is apart from that of `draw_trials`, so that the same seed may serve both.
    """
    order = np.random.default_rng([seed, 2]).random(trials.size.shape).argsort(axis=1).argsort(axis=1)
    return order < trials.trial.stores // 2


def naive_z(trials: StoreTrials, treated: np.ndarray, robust: bool) -> tuple[np.ndarray, np.ndarray]:
    """What goes wrong: differences per customer and their standard errors as if customers were independent.

    `robust` takes the usual clustered sandwich instead (CRV1; Liang and Zeger 1986), which needs many clusters.
    """
    size, outcome = trials.size, trials.outcomes(treated)
    value, variance = np.zeros(len(trials)), np.zeros(len(trials))
    people, stores = size.sum(axis=1), size.shape[1]
    spread, scores = np.zeros(len(trials)), np.zeros(len(trials))
    for sign, mine in ((1, treated), (-1, ~treated)):
        n = (size * mine).sum(axis=1)
        mean = (size * mine * outcome).sum(axis=1) / n
        away = (outcome - mean[:, None]) * mine
        inside = ((trials.within + size * away**2) * mine).sum(axis=1)
        value += sign * mean
        spread += inside / (n - 1) / n
        scores += ((size * away) ** 2).sum(axis=1) / n**2
    variance = scores * stores / (stores - 1) * (people - 1) / (people - 2) if robust else spread
    return value, np.sqrt(variance)


def customers(trial: StoreTrial, seed: int, treated: np.ndarray | None = None) -> pd.DataFrame:
    """One trial's people, a row each: store, region, arm, spend, and spend in the two periods before.

    Half of the stores are drawn into the arm "new" unless `treated` names them.  Spend is a gamma around the store's mean
    with the trial's `sd`, so that nobody spends less than nothing.

    >>> people = customers(StoreTrial(stores=4, customers=50), seed=1)
    >>> people.shape, sorted(set(people["arm"]))
    ((200, 7), ['new', 'old'])
    """
    trials = draw_trials(trial, 1, seed)
    treated = draw_half(trials, seed)[0] if treated is None else np.asarray(treated, dtype=bool)
    generator = np.random.default_rng([seed, 1])
    n = trials.size[0].astype(int)
    store = np.repeat(np.arange(trial.stores), n)
    mean = {
        "spend": trials.outcomes(treated[None, :])[0],
        "spend_before": trials.pre[0],
        "spend_earlier": trials.earlier[0],
    }
    shape = (trial.mean / trial.sd) ** 2
    spent = {
        name: np.maximum(of, 0)[store] * generator.gamma(shape, 1 / shape, len(store)) for name, of in mean.items()
    }
    return pd.DataFrame(
        {
            "customer": [f"C{i:06}" for i in range(len(store))],
            "store": [f"S{i:02}" for i in store],
            "region": [f"R{i}" for i in trials.region[store]],
            "arm": np.where(treated, "new", "old")[store],
            **{name: values.round(2) for name, values in spent.items()},
        }
    )


def _sizes(generator: np.random.Generator, trial: StoreTrial, shape: tuple[int, int]) -> np.ndarray:
    if trial.cv == 0:
        return np.full(shape, float(trial.customers))
    shape_of_size = 1 / trial.cv**2
    drawn = generator.gamma(shape_of_size, trial.customers / shape_of_size, shape)
    return np.maximum(drawn.round(), 2.0)
