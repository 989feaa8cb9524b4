"""Who the customers are, how much they buy left alone, and which arm chance gives them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.stats import gamma

from fairlift.simulate.calendar import Calendar
from fairlift.simulate.scenario import AGES, ARMS, TREATMENTS, Attribute, Scenario

NONE, BESTSELLER, PERSONALISED = range(len(TREATMENTS))


@dataclass(frozen=True)
class People:
    """Customers `first` … `first + n − 1`, one entry each.

    `pre_spend` is spend in the year before, in cents.  `codes` are places in the attribute's list of values; `rate` is orders a week left alone, `price` the price level.  Only the
    `eligible`, who agreed to personalisation, are assigned: `arm` is the arm drawn, `lost` whether its record went missing, and
    `received[arm]` the treatment the customer would receive in that arm.
    """

    first: int
    codes: dict[str, np.ndarray]
    rate: np.ndarray
    price: np.ndarray
    eligible: np.ndarray
    received: np.ndarray
    arm: np.ndarray
    assigned: np.ndarray
    lost: np.ndarray
    age: np.ndarray
    household: np.ndarray
    store: np.ndarray
    favourite: np.ndarray
    pre_spend: np.ndarray

    @property
    def n(self) -> int:
        return len(self.arm)

    @property
    def recorded(self) -> np.ndarray:
        """Who stands in the assignments table."""
        return self.eligible & ~self.lost

    @cached_property
    def treatment(self) -> np.ndarray:
        """What each customer really receives in her window."""
        return self.received[self.arm, np.arange(self.n)]

    def member(self, s: Scenario) -> np.ndarray:
        return self.codes["loyalty_member"] == s.values("loyalty_member").index("yes")


def draw_people(s: Scenario, calendar: Calendar, rng: np.random.Generator, first: int, n: int) -> People:
    """Draw n customers."""
    codes: dict[str, np.ndarray] = {}
    activity, level = np.ones(n), np.ones(n)
    for name, attribute in s.attributes.items():
        shares = table(s, attribute)
        row = codes[attribute.given] if attribute.given else np.zeros(n, dtype=np.int8)
        below = shares.cumsum(axis=1)[row, :-1]
        codes[name] = (rng.random(n)[:, None] >= below).sum(axis=1).astype(np.int8)
        activity *= factors(attribute, "activity")[codes[name]]
        level *= factors(attribute, "price")[codes[name]]
    own = rng.standard_gamma(s.activity.shape, n) / s.activity.shape
    sigma = s.activity.price_sigma
    level *= np.exp(sigma * rng.standard_normal(n) - sigma**2 / 2)
    eligible = rng.random(n) < s.offers.eligible
    reached = rng.random(n)
    drawn = rng.random(n)
    received = np.full((len(ARMS), n), NONE, dtype=np.int8)
    received[ARMS.index("control")][eligible & (reached < s.offers.reach)] = BESTSELLER
    received[ARMS.index("personalised")][eligible & (reached < s.offers.reach * reach_factor(s, codes, n))] = (
        PERSONALISED
    )
    lost = rng.random(n)
    day = rng.integers(len(calendar.batches), size=n)
    limits = np.cumsum([[stage.weights[a] for a in ARMS] for stage in s.stages], axis=1)[:, :-1]
    arm = (drawn[:, None] >= limits[s.stage_of_day[day]]).sum(axis=1).astype(np.int8)
    if s.lost is None:
        lost = np.zeros(n, dtype=bool)
    else:
        quiet = own < gamma.ppf(s.lost.quietest, s.activity.shape) / s.activity.shape
        lost = quiet & (arm == ARMS.index(s.lost.arm)) & (lost < s.lost.share)
    rate = s.activity.orders_a_week * activity * own * s.entry_factor[day]
    low, high = np.array([AGES[band] for band in s.values("age_band")]).T[:, codes["age_band"]]
    per_region = s.stores // len(s.values("region")) or 1
    return People(
        first=first,
        codes=codes,
        rate=rate,
        price=level,
        eligible=eligible,
        received=received,
        arm=arm,
        assigned=calendar.batches[day],
        lost=lost,
        age=rng.integers(low, high + 1),
        household=first + np.maximum.accumulate(np.where(np.append(True, rng.random(n - 1) < 0.6), np.arange(n), 0)),
        store=codes["region"].astype(np.int32) * per_region + rng.integers(per_region, size=n),
        favourite=pick(rng.random(n), [c.share for c in s.basket.categories.values()]),
        pre_spend=np.rint(
            rng.poisson(52 * rate) * level * 100 * _order_value(s) * np.exp(0.2 * rng.standard_normal(n))
        ).astype(np.int64),
    )


def leaked(s: Scenario, people: People, rng: np.random.Generator) -> People:
    """The same customers, some of whom would be sent personalised offers in the holdout too; draws nothing without a leak."""
    if not s.offers.leak:
        return people
    received = people.received.copy()
    received[ARMS.index("holdout")][people.eligible & (rng.random(people.n) < s.offers.leak)] = PERSONALISED
    return replace(people, received=received)


def _order_value(s: Scenario) -> float:
    lines, items = 1 + s.basket.lines, np.dot(np.arange(1, len(s.basket.quantity) + 1), s.basket.quantity)
    return float(lines * items * sum(kind.share * kind.price for kind in s.basket.categories.values()))


def table(s: Scenario, attribute: Attribute) -> np.ndarray:
    """Shares of an attribute's values: one row a value of the attribute it depends on, or one row."""
    groups = s.values(attribute.given) if attribute.given else [""]
    return np.array(
        [
            [v.share.get(g, 0.0) if isinstance(v.share, dict) else v.share for v in attribute.values.values()]
            for g in groups
        ]
    )


def factors(attribute: Attribute, name: str) -> np.ndarray:
    """What each value multiplies orders (`activity`) or prices (`price`) by."""
    return np.array([getattr(value, name) for value in attribute.values.values()])


def reach_factor(s: Scenario, codes: dict[str, np.ndarray], n: int) -> np.ndarray:
    """By what a group's personalised reach is reduced; 1 where targeting is fair."""
    factor = np.ones(n)
    for less in s.offers.less:
        factor[codes[less.attribute] == s.values(less.attribute).index(less.value)] *= less.factor
    return factor


def pick(uniform: np.ndarray, shares: list[float]) -> np.ndarray:
    """Places drawn with these shares, from uniform numbers."""
    return np.searchsorted(np.cumsum(shares)[:-1], uniform, side="right").astype(np.int8)
