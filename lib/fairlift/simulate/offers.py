"""Offers shown: sent at fixed times of the week after assignment, delivered or not, opened or not, stopped by a withdrawal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fairlift.simulate.calendar import DAY, WEEK
from fairlift.simulate.people import NONE, PERSONALISED, People
from fairlift.simulate.scenario import Scenario
from fairlift.simulate.voice import Withdrawals


@dataclass(frozen=True)
class Slots:
    """The sending times of a window: seconds after assignment and whether each goes by e-mail; `channel` names it."""

    after: np.ndarray
    email: np.ndarray
    channel: np.ndarray


def slots(s: Scenario) -> Slots:
    """Every sending time of one outcome window, in order."""
    ordered = sorted(s.offers.slots, key=lambda slot: (slot.day, slot.hour))
    week = np.array([slot.day * DAY + slot.hour * 3600 for slot in ordered])
    after = (np.arange(s.window_weeks)[:, None] * WEEK + week).ravel()
    channel = np.array([slot.channel for slot in ordered] * s.window_weeks, dtype=object)
    return Slots(after, channel == "email", channel)


@dataclass(frozen=True)
class Shown:
    """Offers shown under one treatment a customer: rows and places in `slots` of those shown; counts a customer."""

    owner: np.ndarray
    slot: np.ndarray
    personalised: np.ndarray


def draw_delivery(s: Scenario, people: People, rng: np.random.Generator) -> np.ndarray:
    """Whether each customer's offer would be delivered at each sending time: customers × slots."""
    return rng.random((people.n, len(slots(s).after)), dtype=np.float32) < s.offers.delivered


def show(s: Scenario, delivered: np.ndarray, treatment: np.ndarray, withdrawals: Withdrawals) -> Shown:
    """What each customer is shown under this treatment; a withdrawal counts from its very second."""
    plan = slots(s)
    opted_out, unsubscribed = withdrawals.under(s, treatment)
    reach = delivered & (treatment != NONE)[:, None]
    leaving = np.flatnonzero(unsubscribed < plan.after[-1])
    reach[leaving] &= ~plan.email | (plan.after < unsubscribed[leaving, None])
    owner, slot = np.nonzero(reach)
    return Shown(
        owner.astype(np.int32), slot, (treatment[owner] == PERSONALISED) & (plan.after[slot] < opted_out[owner])
    )


@dataclass(frozen=True)
class Reactions:
    """What customers did with the offers they were really shown; places in `Shown`."""

    opened: np.ndarray
    clicked: np.ndarray
    open_delay: np.ndarray
    click_delay: np.ndarray


def draw_reactions(s: Scenario, shown: Shown, treatment: np.ndarray, rng: np.random.Generator) -> Reactions:
    """Opens and clicks, within the same day as the showing."""
    n = len(shown.owner)
    received = treatment[shown.owner]
    opened = rng.random(n, dtype=np.float32) < s.effect("opened")[received]
    clicked = opened & (rng.random(n, dtype=np.float32) < s.effect("clicked")[received])
    delays = rng.integers(30, 4 * 3600, n), rng.integers(5, 600, n)
    return Reactions(opened, clicked, *delays)
