"""When things happen: the simulated calendar, and demand that moves by hour, weekday and season."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from fairlift.simulate.scenario import Scenario

DAY = 86_400
WEEK = 7 * DAY
BATCH = time(3)  # assignments are drawn nightly, at this local time


@dataclass(frozen=True)
class Calendar:
    """Times in whole seconds of UTC since 1970; `mass` is the demand up to each of `knots`, in average weeks."""

    begin: int
    as_of: int
    window: int
    batches: np.ndarray
    knots: np.ndarray
    mass: np.ndarray

    @property
    def total(self) -> float:
        return float(self.mass[-1])

    def demand(self, start, end):
        """Average weeks of demand between two times."""
        return np.interp(end, self.knots, self.mass) - np.interp(start, self.knots, self.mass)

    def fading(self, starts: np.ndarray, decay: float) -> np.ndarray:
        """Average weeks of demand in the window after each of `starts`, weighed by exp(−decay × weeks since the start)."""
        weighed = []
        for start in starts:
            inner = self.knots[(self.knots > start) & (self.knots < start + self.window)]
            edges = np.concatenate([[start], inner, [start + self.window]])
            weeks = (edges - start) / WEEK
            level = self.demand(edges[:-1], edges[1:]) / np.diff(weeks)  # constant between two knots
            weighed.append(np.dot(level, -np.diff(np.exp(-decay * weeks))) / decay)
        return np.array(weighed)

    def times(self, uniform: np.ndarray) -> np.ndarray:
        """Times drawn in proportion to demand, from uniform numbers."""
        return np.interp(uniform * self.total, self.mass, self.knots).astype(np.int64)


@lru_cache(maxsize=16)
def calendar_of(
    start: date, timezone: str, enrolment_days: int, pre_weeks: int, window_days: int, as_of: date, season: str
) -> Calendar:
    """The calendar of these dates; `season` is the JSON of a Season."""
    from fairlift.simulate.scenario import Season

    rhythm, zone = Season.model_validate_json(season), ZoneInfo(timezone)
    begin = _seconds(datetime.combine(start - timedelta(weeks=pre_weeks), time(), zone))
    until = _seconds(datetime.combine(as_of, time.max, zone))
    batches = np.array(
        [_seconds(datetime.combine(start + timedelta(days=day), BATCH, zone)) for day in range(enrolment_days)]
    )
    knots = np.append(np.arange(begin, until, 3600), until)
    local = pd.to_datetime(knots[:-1], unit="s", utc=True).tz_convert(timezone)
    level = (
        _mean_one(rhythm.week)[local.day_of_week]
        * _mean_one(rhythm.hours)[local.hour]
        * (1 + rhythm.year * np.cos(2 * np.pi * (local.day_of_year - rhythm.peak_day) / 365.25))
    )
    mass = np.concatenate([[0.0], np.cumsum(np.asarray(level) * np.diff(knots) / WEEK)])
    return Calendar(begin, until, window_days * DAY, batches, knots, mass)


def calendar(scenario: Scenario) -> Calendar:
    """The calendar of a scenario."""
    s = scenario
    return calendar_of(
        s.start, s.timezone, s.enrolment_days, s.pre_weeks, s.window_days, s.as_of, s.season.model_dump_json()
    )


def _mean_one(weights: list[float]) -> np.ndarray:
    return np.array(weights) / np.mean(weights)


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
