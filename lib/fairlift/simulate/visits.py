"""Visits: one with every order, and browsing that ends in none; thinned by arm like orders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fairlift.simulate.calendar import Calendar
from fairlift.simulate.orders import Possible
from fairlift.simulate.people import People, pick
from fairlift.simulate.scenario import Scenario


@dataclass(frozen=True)
class Visits:
    """Possible visits: first those of the possible orders, then browsing (whose `ordered` is −1)."""

    owner: np.ndarray
    at: np.ndarray
    ordered: np.ndarray
    mark: np.ndarray
    in_window: np.ndarray
    seconds: np.ndarray
    pages: np.ndarray
    channel: np.ndarray

    def kept(self, s: Scenario, treatment: np.ndarray, sold: np.ndarray) -> np.ndarray:
        """Which visits happen: browsing under this treatment (one entry a visit), and those of the orders `sold`."""
        kept = self.mark < (s.effect("browsing") / s.effect("browsing").max())[treatment]
        kept[: len(sold)] = sold
        return kept


def draw_visits(
    s: Scenario, calendar: Calendar, people: People, possible: Possible, rng: np.random.Generator
) -> Visits:
    """Draw the visits of these customers."""
    count = rng.poisson(people.rate * s.browsing * s.effect("browsing").max() * calendar.total)
    orders, browsing = len(possible.owner), int(count.sum())
    owner = np.concatenate([possible.owner, np.repeat(np.arange(people.n, dtype=np.int32), count)])
    at = np.concatenate([np.maximum(possible.at - possible.lead, calendar.begin), calendar.times(rng.random(browsing))])
    since = at - people.assigned[owner]
    browses = pick(rng.random(browsing, dtype=np.float32), list(s.basket.channels.values()))
    return Visits(
        owner=owner,
        at=at,
        ordered=np.concatenate([np.arange(orders), np.full(browsing, -1)]),
        mark=np.concatenate([np.zeros(orders, dtype=np.float32), rng.random(browsing, dtype=np.float32)]),
        in_window=(since >= 0) & (since < calendar.window),
        seconds=np.ceil(np.exp(4.6 + 0.9 * rng.standard_normal(orders + browsing, dtype=np.float32))).astype(np.int64),
        pages=1 + rng.poisson(3.0, orders + browsing),
        channel=np.concatenate([possible.channel, browses]),
    )
