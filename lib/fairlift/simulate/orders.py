"""Orders and their lines: one stream of possible orders, from which every arm keeps its own.

Possible orders come at the highest rate any treatment has, each with a uniform mark; a treatment keeps those whose mark lies below
its share of that rate (thinning; Lewis and Shedler 1979).  So all arms see the same customers, days, goods and prices, and the
difference between two arms is exact for every customer.  Money is held in whole cents.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from fairlift.simulate.calendar import DAY, WEEK, Calendar
from fairlift.simulate.people import People, pick
from fairlift.simulate.scenario import TREATMENTS, Scenario


@dataclass(frozen=True)
class Possible:
    """Possible orders, and their lines in the same order (`starts` is each order's first line, `order` each line's order).

    `since` is seconds from the customer's assignment.
    """

    owner: np.ndarray
    at: np.ndarray
    mark: np.ndarray
    in_window: np.ndarray
    since: np.ndarray
    extra: np.ndarray
    redeems: np.ndarray
    channel: np.ndarray
    lead: np.ndarray
    starts: np.ndarray
    order: np.ndarray
    category: np.ndarray
    quantity: np.ndarray
    price: np.ndarray
    offer: np.ndarray
    back: np.ndarray
    returned_at: np.ndarray

    @property
    def last(self) -> np.ndarray:
        """Whether a line is the last of its order: the one that only some treatments sell."""
        return np.append(self.order[1:] != self.order[:-1], True)[: len(self.order)]

    @cached_property
    def inside(self) -> Possible:
        """Those in their customer's outcome window, by themselves."""
        here = self.in_window
        size = np.diff(np.append(self.starts, len(self.order)))[here]
        found = {"starts": np.cumsum(size) - size, "order": np.repeat(np.arange(len(size), dtype=np.int32), size)}
        of_line = here[self.order]
        for part in fields(self):  # an order has two lines at least, so lengths tell orders from lines
            values = getattr(self, part.name)
            found.setdefault(part.name, values[here if len(values) == len(here) else of_line])
        return Possible(**found)

    def kept(self, s: Scenario, treatment: np.ndarray) -> np.ndarray:
        """Which orders are placed under this treatment (one entry an order)."""
        share = (s.effect("orders") / s.highest_orders)[treatment]
        for place, name in enumerate(TREATMENTS):
            if novelty := s.treatments[name].novelty:
                left = novelty.extra * np.exp(-novelty.decay / WEEK * np.maximum(self.since, 0))
                share = share * np.where(treatment == place, 1 + left, 1.0)
        return self.mark < share


@dataclass(frozen=True)
class Sold:
    """What was sold under one treatment an order: `kept` over possible orders and lines, then cents (zero where not kept)."""

    kept: np.ndarray
    kept_line: np.ndarray
    line_discount: np.ndarray
    line_cost: np.ndarray
    line_returned: np.ndarray
    items: np.ndarray
    revenue: np.ndarray
    discount: np.ndarray
    reward: np.ndarray
    cost_of_goods: np.ndarray
    refund: np.ndarray
    cost_recovered: np.ndarray
    fulfilment_cost: np.ndarray
    supplier_funding: np.ndarray

    @property
    def contribution(self) -> np.ndarray:
        """Cents: price paid − goods − refunds + goods back on sale − fulfilment + supplier funding."""
        kept_goods = self.cost_of_goods - self.cost_recovered
        return self.revenue - kept_goods - self.refund - self.fulfilment_cost + self.supplier_funding


def draw_orders(
    s: Scenario, calendar: Calendar, people: People, rng: np.random.Generator, lines: np.random.Generator
) -> Possible:
    """Draw every possible order of these customers, from the start of the calendar to its end."""
    count = rng.poisson(people.rate * s.highest_orders * calendar.total)
    owner = np.repeat(np.arange(people.n, dtype=np.int32), count)
    n = len(owner)
    at = calendar.times(rng.random(n))
    since = at - people.assigned[owner]
    basket = s.basket
    mark, extra, redeem, channel, lead = (rng.random(n, dtype=np.float32) for _ in range(5))
    size = 2 + lines.poisson(basket.lines, n)  # one line always, one perhaps
    order = np.repeat(np.arange(n, dtype=np.int32), size)
    m = len(order)
    kinds = list(basket.categories.values())
    category = pick(lines.random(m, dtype=np.float32), [kind.share for kind in kinds])
    own = lines.random(m, dtype=np.float32) < basket.favourite
    category[own] = people.favourite[owner[order[own]]]
    mean = np.log([100 * kind.price for kind in kinds]) - basket.sigma**2 / 2
    noise = np.exp(mean[category] + basket.sigma * lines.standard_normal(m, dtype=np.float32))
    offer, back = lines.random(m, dtype=np.float32), lines.random(m, dtype=np.float32)
    quantity = 1 + pick(lines.random(m, dtype=np.float32), basket.quantity)
    low, high = basket.return_days
    soon = lines.integers(low * DAY, high * DAY + 1, m, dtype=np.int32)
    return Possible(
        owner=owner,
        at=at,
        mark=mark,
        in_window=(since >= 0) & (since < calendar.window),
        since=since,
        extra=extra,
        redeems=(redeem < basket.redeem) & people.member(s)[owner],
        channel=pick(channel, list(basket.channels.values())),
        lead=(60 + 1740 * lead).astype(np.int64),
        starts=np.cumsum(size) - size,
        order=order,
        category=category,
        quantity=quantity,
        price=np.maximum(np.rint(noise * people.price[owner[order]]), 1).astype(np.int64),
        offer=offer,
        back=back,
        returned_at=at[order] + soon,
    )


def sell(s: Scenario, calendar: Calendar, possible: Possible, treatment: np.ndarray) -> Sold:
    """What is sold when each possible order meets this treatment (one entry an order)."""
    basket, kinds = s.basket, list(s.basket.categories.values())
    kept = possible.kept(s, treatment)
    more = possible.extra < s.effect("extra_line")[treatment]
    kept_line = kept[possible.order] & (more[possible.order] | ~possible.last)
    of_line = treatment[possible.order]
    quantity = np.where(kept_line, possible.quantity, 0)
    listed = possible.price * quantity
    offered = possible.offer < s.effect("discounted")[of_line]
    discount = _cents(listed * np.where(offered, s.effect("depth")[of_line], 0.0))
    paid = listed - discount
    reward = _cents(paid * np.where(possible.redeems, basket.reward, 0.0)[possible.order])
    cost = _cents(listed * np.array([kind.cost for kind in kinds])[possible.category])
    chance = s.effect("returns")[of_line] * np.array([kind.returns for kind in kinds])[possible.category]
    returned = (possible.back < chance) & kept_line & (possible.returned_at <= calendar.as_of)

    def total(line: np.ndarray) -> np.ndarray:
        return np.add.reduceat(line, possible.starts) if len(line) else np.zeros(0, dtype=np.int64)

    off = total(discount)
    fee = np.array([round(100 * basket.fulfilment[name]) for name in basket.channels])
    return Sold(
        kept=kept,
        kept_line=kept_line,
        line_discount=discount,
        line_cost=cost,
        line_returned=np.where(returned, quantity, 0),
        items=total(quantity),
        revenue=total(paid - reward),
        discount=off,
        reward=total(reward),
        cost_of_goods=total(cost),
        refund=total(np.where(returned, paid - reward, 0)),
        cost_recovered=total(_cents(np.where(returned, cost, 0) * basket.resale)),
        fulfilment_cost=np.where(kept, fee[possible.channel], 0)
        + round(100 * basket.handling) * total(returned.astype(np.int64)),
        supplier_funding=_cents(off * s.effect("funded")[treatment]),
    )


def _cents(amount: np.ndarray) -> np.ndarray:
    """Rounded to whole cents, halves to even: without bias over many."""
    return np.rint(amount).astype(np.int64)
