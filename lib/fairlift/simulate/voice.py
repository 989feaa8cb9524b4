"""What customers say back: complaints, requests under data-protection law, and withdrawals of consent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fairlift.simulate.calendar import WEEK, Calendar
from fairlift.simulate.people import People
from fairlift.simulate.scenario import Scenario

PER = 10_000  # rates are per this many customers and week


@dataclass(frozen=True)
class Letters:
    """Possible complaints or requests, evenly over the calendar; kept where the mark lies below the treatment's share."""

    kind: str
    owner: np.ndarray
    at: np.ndarray
    mark: np.ndarray
    in_window: np.ndarray

    def kept(self, s: Scenario, treatment: np.ndarray) -> np.ndarray:
        """Which of them are written under this treatment (one entry a letter)."""
        rates = s.effect(self.kind)
        return self.mark < (rates / max(rates.max(), 1e-300))[treatment]


def draw_letters(s: Scenario, calendar: Calendar, people: People, kind: str, rng: np.random.Generator) -> Letters:
    """Draw complaints or requests of these customers."""
    span = calendar.as_of - calendar.begin
    owner = np.sort(rng.integers(people.n, size=rng.poisson(people.n * s.effect(kind).max() / PER * span / WEEK)))
    at = rng.integers(calendar.begin, calendar.as_of, len(owner))
    since = at - people.assigned[owner]
    return Letters(kind, owner.astype(np.int32), at, rng.random(len(owner)), (since >= 0) & (since < calendar.window))


@dataclass(frozen=True)
class Withdrawals:
    """Waiting times until a customer withdraws consent, in units of the treatment's mean waiting time."""

    opt_out: np.ndarray
    unsubscribe: np.ndarray

    def under(self, s: Scenario, treatment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whole seconds from assignment to opting out of personalisation and to leaving the e-mail list, as far as they matter."""
        with np.errstate(divide="ignore", invalid="ignore"):
            waits = tuple(
                np.where(
                    s.effect(kind)[treatment] > 0, np.ceil(wait / (s.effect(kind)[treatment] / PER / WEEK)), np.inf
                )
                for kind, wait in (("opt_outs", self.opt_out), ("unsubscribes", self.unsubscribe))
            )
        return waits


def draw_withdrawals(people: People, rng: np.random.Generator) -> Withdrawals:
    """Draw both waiting times for every customer."""
    return Withdrawals(rng.standard_exponential(people.n), rng.standard_exponential(people.n))
