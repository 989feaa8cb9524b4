"""One chunk of customers: everything that happens to them, and what adds up to them in any arm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fairlift.simulate.calendar import Calendar, calendar
from fairlift.simulate.offers import Reactions, Shown, draw_delivery, draw_reactions, show
from fairlift.simulate.orders import Possible, Sold, draw_orders, sell
from fairlift.simulate.people import People, draw_people, leaked
from fairlift.simulate.scenario import CHUNK, Scenario
from fairlift.simulate.visits import Visits, draw_visits
from fairlift.simulate.voice import Letters, Withdrawals, draw_letters, draw_withdrawals

# One random stream a topic, so that a topic can be drawn, left out or extended without moving the others.
TOPICS = (
    "people",
    "orders",
    "lines",
    "visits",
    "offers",
    "reactions",
    "complaints",
    "requests",
    "withdrawals",
    "records",
    "leaks",
)


@dataclass(frozen=True)
class Chunk:
    """Customers and what could happen to them (possible …), with what really does in the arm drawn."""

    number: int
    calendar: Calendar
    people: People
    possible: Possible
    sold: Sold
    visits: Visits
    visited: np.ndarray
    delivered: np.ndarray
    withdrawals: Withdrawals
    shown: Shown
    reactions: Reactions
    complaints: Letters
    requests: Letters


def stream(seed: int, chunk: int, topic: str) -> np.random.Generator:
    """The random numbers of one topic in one chunk: a function of the seed and nothing else."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(chunk, TOPICS.index(topic)))))


def chunks(s: Scenario, seed: int, customers: int) -> Iterator[Chunk]:
    """Every chunk in turn; memory holds one."""
    for number, first in enumerate(range(0, customers, CHUNK)):
        yield draw_chunk(s, seed, number, first, min(CHUNK, customers - first))


def draw_chunk(s: Scenario, seed: int, number: int, first: int, n: int) -> Chunk:
    """Draw customers `first` … `first + n − 1` and all that happens to them."""
    rng = {topic: stream(seed, number, topic) for topic in TOPICS}
    when = calendar(s)
    people = leaked(s, draw_people(s, when, rng["people"], first, n), rng["leaks"])
    possible = draw_orders(s, when, people, rng["orders"], rng["lines"])
    sold = sell(s, when, possible, met(people.treatment, possible))
    visits = draw_visits(s, when, people, possible, rng["visits"])
    withdrawals = draw_withdrawals(people, rng["withdrawals"])
    delivered = draw_delivery(s, people, rng["offers"])
    shown = show(s, delivered, people.treatment, withdrawals)
    return Chunk(
        number=number,
        calendar=when,
        people=people,
        possible=possible,
        sold=sold,
        visits=visits,
        visited=visits.kept(s, met(people.treatment, visits), sold.kept),
        delivered=delivered,
        withdrawals=withdrawals,
        shown=shown,
        reactions=draw_reactions(s, shown, people.treatment, rng["reactions"]),
        complaints=draw_letters(s, when, people, "complaints", rng["complaints"]),
        requests=draw_letters(s, when, people, "requests", rng["requests"]),
    )


def met(treatment: np.ndarray, events) -> np.ndarray:
    """The treatment each event meets: the customer's own inside her window, none outside."""
    return np.where(events.in_window, treatment[events.owner], 0)
