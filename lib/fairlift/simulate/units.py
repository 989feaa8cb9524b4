"""The units of a simulated study without its tables: the rows that `prepare` would make of them, fast enough to draw thousands of studies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from fairlift.simulate.calendar import DAY
from fairlift.simulate.chunk import Chunk, chunks
from fairlift.simulate.scenario import ARMS, VARIANTS, Scenario, read_scenario
from fairlift.simulate.truth import outcomes

# the outcomes of units.parquet, in its order
OUTCOMES = (
    *("orders", "converted", "revenue", "discount", "refund", "contribution", "items"),
    *("sessions", "visited", "seconds", "pages"),
    *("exposures", "personalised_exposures", "opened", "clicked"),
    *("complaints", "complained", "privacy_requests", "requested", "opted_out", "unsubscribed", "returned_orders"),
)


def draw_units(scenario: str | Path | Scenario, seed: int = 1, customers: int | None = None) -> pd.DataFrame:
    """One row an assigned customer, as in out/mart/units.parquet: arm, attributes, what was known before, outcomes in the window.

    Equal to what `simulate` with the same scenario, seed and customers writes and `prepare` aggregates.

    >>> units = draw_units("clean-win", seed=1, customers=500)
    >>> list(units.columns[:3]), bool(units["revenue"].ge(0).all())
    (['unit', 'arm', 'variant'], True)
    """
    s = scenario if isinstance(scenario, Scenario) else read_scenario(scenario)
    found = [_units(s, chunk) for chunk in chunks(s, seed, customers or s.customers)]
    columns = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    labels = {"arm": list(ARMS), "variant": [VARIANTS[arm] for arm in ARMS], "enrolled": _days(s)}
    labels |= {name: s.values(name) for name in s.attributes if name != "loyalty_member"}
    n = len(columns["arm"])
    frame = {"unit": np.arange(n)}
    for name, values in columns.items():
        frame[name] = np.array(labels[name], dtype=object)[values] if name in labels else values
    for name in ("household", "store"):
        frame[name] = np.unique(frame[name], return_inverse=True)[1]
    return pd.DataFrame(frame)


def draw_unit_days(
    scenario: str | Path | Scenario, seed: int = 1, customers: int | None = None, days: int | None = None
) -> pd.DataFrame:
    """Orders and revenue by customer and day since assignment, as in out/mart/unit_days.parquet; days without an order have no row.

    `unit` is that of `draw_units` with the same scenario, seed and customers; `days` is how many days from assignment are
    kept, by default those of the outcome window.

    >>> rows = draw_unit_days("clean-win", seed=1, customers=500)
    >>> units = draw_units("clean-win", seed=1, customers=500)
    >>> bool(abs(rows["revenue"].sum() - units["revenue"].sum()) < 1e-6)
    True
    """
    s = scenario if isinstance(scenario, Scenario) else read_scenario(scenario)
    parts, first = [], 0
    for chunk in chunks(s, seed, customers or s.customers):
        unit = np.where(chunk.people.recorded, first + np.cumsum(chunk.people.recorded) - 1, -1)
        owner = chunk.possible.owner
        day = chunk.possible.since // DAY
        here = chunk.sold.kept & (unit[owner] >= 0) & (day >= 0) & (day < (days or s.window_days))
        money = chunk.sold.revenue[here] / 100
        parts.append(pd.DataFrame({"unit": unit[owner[here]], "day": day[here], "orders": 1, "revenue": money}))
        first += int(chunk.people.recorded.sum())
    return pd.concat(parts).groupby(["unit", "day"], as_index=False).sum()


def _units(s: Scenario, chunk: Chunk) -> dict[str, np.ndarray]:
    people, possible, sold, when = chunk.people, chunk.possible, chunk.sold, chunk.calendar
    found = outcomes(s, chunk, people.treatment)
    for name, hits in (("opened", chunk.reactions.opened), ("clicked", chunk.reactions.clicked)):
        found[name] = np.bincount(chunk.shown.owner[hits], minlength=people.n).astype(float)
    since = possible.at - people.assigned[possible.owner]
    before = sold.kept & (since < 0) & (since >= -7 * DAY * s.pre_weeks)
    here = people.recorded
    columns = {
        "arm": people.arm,
        "variant": people.arm,
        "stratum": np.full(people.n, None),
        "cluster": np.full(people.n, np.nan),
    }
    columns |= {"household": people.household, "store": people.store}
    columns |= {"enrolled": np.searchsorted(when.batches, people.assigned), "complete": np.ones(people.n, dtype=bool)}
    columns |= {name: codes for name, codes in people.codes.items() if name != "loyalty_member"}
    columns |= {"loyalty_member": people.member(s), "pre_spend_year": people.pre_spend / 100}
    columns["pre_orders"] = np.bincount(possible.owner[before], minlength=people.n).astype(float)
    columns["pre_revenue"] = np.bincount(possible.owner[before], sold.revenue[before], people.n) / 100
    columns |= {name: found[name] for name in OUTCOMES}
    return {name: values[here] for name, values in columns.items()}


def _days(s: Scenario) -> list:
    return list(pd.date_range(s.start, periods=s.enrolment_days).date)
