"""Small synthetic trials of channels whose truth has a closed form: factorial, reached or not, and matched or not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

EAGERNESS = 1.5  # gamma shape: how much customers differ in how often they buy
BASKET = 0.8  # standard deviation of the logarithm of an order's value


@dataclass(frozen=True)
class Trial:
    """One row a customer, and the expected effects behind the rows."""

    units: pd.DataFrame
    truth: dict[str, float]


@dataclass(frozen=True)
class Place:
    """What channels do to sales in one place: `base` is money a customer with all off, changes are shares of it.

    `alone` is a channel's change when the others are off, `together` what two bring beyond their sum.
    """

    base: float
    alone: Mapping[str, float] = field(default_factory=dict)
    together: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def mean(self, on: Sequence[str]) -> float:
        """Expected money a customer with these channels on."""
        change = sum(self.alone.get(name, 0.0) for name in on)
        change += sum(extra for pair, extra in self.together.items() if set(pair) <= set(on))
        return self.base * (1 + change)


SHARES = {"email": 0.7, "push": 0.5, "site": 0.5, "store": 0.4}
PLACES = {
    "online": Place(
        24.0,
        {"email": 0.14, "push": 0.10, "site": 0.12},
        {("email", "push"): -0.08, ("email", "site"): -0.04},
    ),
    "in_store": Place(40.0, {"email": 0.06, "store": 0.10}, {("email", "store"): -0.03}),
}


def draw_channels(
    customers: int, seed: int, shares: Mapping[str, float] = SHARES, places: Mapping[str, Place] = PLACES
) -> Trial:
    """A factorial trial: each channel is on for its share of customers, drawn independently of the others.

    Units have a 0/1 column a channel, a money column a place and their sum `revenue`.  `truth` is keyed "COLUMN: WHAT",
    where WHAT is a channel (averaged over `shares`), "A × B", "A alone", "all on", "sum of each alone" or "overlap".

    >>> trial = draw_channels(1_000, seed=1)
    >>> round(trial.truth["revenue: all on"], 2), round(trial.truth["revenue: sum of each alone"], 2)
    (10.96, 15.04)
    """
    rng = np.random.default_rng(seed)
    names = tuple(shares)
    drawn = {name: (rng.random(customers) < share).astype(np.int8) for name, share in shares.items()}
    eager = rng.gamma(EAGERNESS, 1 / EAGERNESS, customers)
    spent = {}
    for place, spec in places.items():
        change = sum(spec.alone.get(name, 0.0) * drawn[name] for name in names) + np.zeros(customers)
        for pair, extra in spec.together.items():
            change += extra * np.prod([drawn[name] for name in pair], axis=0)
        spent[place] = _spend(rng, eager * (1 + change), spec.base)
    units = pd.DataFrame(drawn | spent)
    units["revenue"] = sum(spent.values())
    truth = {}
    for column, parts in {
        **{place: [spec] for place, spec in places.items()},
        "revenue": list(places.values()),
    }.items():
        truth |= {f"{column}: {what}": value for what, value in _effects(parts, shares).items()}
    return Trial(units, truth)


def draw_reached(
    customers: int, seed: int, lift: float = 0.1, holdout: float = 0.2, keen: float = 0.8, base: float = 60.0
) -> Trial:
    """One channel against a holdout, where eager customers open more: who was reached is not up to chance.

    A customer opens with probability 1 − exp(−keen × eagerness), and only who opens buys more, by `lift`.  Units have
    `arm` ("offers", "holdout"), `opened` (never in the holdout) and `revenue`.  `truth` has "reached" (share), "cace",
    "itt" and "naive": openers less everybody else in their arm.

    >>> truth = draw_reached(10, seed=1, lift=0.0).truth
    >>> truth["cace"], truth["naive"] > 20
    (0.0, True)
    """
    rng = np.random.default_rng(seed)
    offers = rng.random(customers) >= holdout
    eager = rng.gamma(EAGERNESS, 1 / EAGERNESS, customers)
    opened = offers & (rng.random(customers) < -np.expm1(-keen * eager))
    revenue = _spend(rng, eager * (1 + lift * opened), base)
    units = pd.DataFrame({"arm": np.where(offers, "offers", "holdout"), "opened": opened.astype(np.int8)})
    missed = (1 + keen / EAGERNESS) ** -EAGERNESS
    eager_missed = (1 + keen / EAGERNESS) ** -(EAGERNESS + 1)  # their share of all eagerness
    extra = lift * base * (1 - eager_missed)
    truth = {"reached": 1 - missed, "itt": extra, "cace": extra / (1 - missed)}
    truth["naive"] = (base * (1 - eager_missed) + extra) / (1 - missed) - base * eager_missed / missed
    return Trial(units.assign(revenue=revenue), truth)


def draw_matched(
    customers: int,
    seed: int,
    lift: float = 0.1,
    holdout: float = 0.3,
    matched: Mapping[str, float] | None = None,
    audited: int = 1000,
    base: float = 60.0,
) -> tuple[Trial, dict[str, int], dict[str, int]]:
    """A trial on store sales of which only those with a loyalty card can be joined, and an audit of purchases.

    `matched` is the chance by arm that an order is joined (default 60 % in both).  Units have `arm`, `revenue` (all
    orders, which nobody sees) and `matched_revenue`; then follow matched and audited purchases by arm.

    >>> trial, hits, audited = draw_matched(1_000, seed=1)
    >>> sorted(trial.units), audited, round(trial.truth["itt"], 6)
    (['arm', 'matched_revenue', 'revenue'], {'offers': 1000, 'holdout': 1000}, 6.0)
    """
    rng = np.random.default_rng(seed)
    rates = matched or {"offers": 0.6, "holdout": 0.6}
    offers = rng.random(customers) >= holdout
    eager = rng.gamma(EAGERNESS, 1 / EAGERNESS, customers)
    mean = eager * (1 + lift * offers)
    rate = np.where(offers, rates["offers"], rates["holdout"])
    seen = _spend(rng, mean * rate, base)  # orders split by chance are independent
    unseen = _spend(rng, mean * (1 - rate), base)
    units = pd.DataFrame({"arm": np.where(offers, "offers", "holdout"), "matched_revenue": seen})
    hits = {arm: int(rng.binomial(audited, rates[arm])) for arm in rates}
    return Trial(units.assign(revenue=seen + unseen), {"itt": lift * base}), hits, dict.fromkeys(rates, audited)


def _spend(rng: np.random.Generator, rate: np.ndarray, base: float, orders: float = 1.2) -> np.ndarray:
    """Money a customer: Poisson orders of lognormal value, on average `base` × rate."""
    placed = rng.poisson(orders * rate)
    values = rng.lognormal(math.log(base / orders) - BASKET**2 / 2, BASKET, placed.sum())
    return np.bincount(np.repeat(np.arange(len(rate)), placed), values, len(rate))


def _effects(parts: Sequence[Place], shares: Mapping[str, float]) -> dict[str, float]:
    names = tuple(shares)

    def mean(on: Sequence[str]) -> float:
        return sum(part.mean(on) for part in parts)

    pairs: dict[tuple[str, str], float] = {}
    for part in parts:
        for pair, extra in part.together.items():
            pairs[pair] = pairs.get(pair, 0.0) + part.base * extra
    found = {f"{name} alone": mean([name]) - mean([]) for name in names}
    for name in names:  # effects are linear in the share with which the others are on
        mixed = sum(extra * shares[next(o for o in pair if o != name)] for pair, extra in pairs.items() if name in pair)
        found[name] = found[f"{name} alone"] + mixed
    for i, one in enumerate(names):
        for two in names[i + 1 :]:
            found[f"{one} × {two}"] = pairs.get((one, two), 0.0) + pairs.get((two, one), 0.0)
    found["all on"] = mean(names) - mean([])
    found["sum of each alone"] = sum(found[f"{name} alone"] for name in names)
    found["overlap"] = found["all on"] - found["sum of each alone"]
    return found
