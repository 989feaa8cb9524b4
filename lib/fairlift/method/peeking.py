"""What may be said before the end: the running comparison and the running sizes of the arms, as evidence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fairlift.evidence import Evidence
from fairlift.format import estimate, number
from fairlift.method.kpi import Kpi
from fairlift.method.sequence import crossed
from fairlift.method.sequential_srm import SequentialSrm


def gained(units: pd.DataFrame, arms: Sequence[str], entered: str = "enrolled") -> pd.DataFrame:
    """How many units each arm gained a day: one row a day of entry, one column an arm, as `sequential_srm` takes them.

    >>> gained(pd.DataFrame({"arm": ["a", "b", "a"], "enrolled": [1, 1, 2]}), ["a", "b"]).to_numpy().tolist()
    [[1, 1], [1, 0]]
    """
    table = pd.crosstab(units[entered], units["arm"])
    return table.reindex(columns=list(arms), fill_value=0)


def stopped(value: np.ndarray, se: np.ndarray, reach: np.ndarray | float) -> float:
    """The share of experiments, one a row, that some look would stop: where the estimate is `reach` errors from 0.

    >>> stopped(np.array([[0.0, 3.0], [1.0, 0.5]]), np.ones((2, 2)), 1.96)
    0.5
    """
    return float((np.abs(value) > reach * se).any(axis=1).mean())


def peeking_evidence(
    running: pd.DataFrame,
    kpi: Kpi,
    arm: str,
    versus: str,
    sizes: SequentialSrm | None,
    *,
    window_days: int,
    currency: str,
    alpha: float = 0.05,
) -> list[Evidence]:
    """Two reported rows: the comparison by its confidence sequence, and the sample ratio watched every day.

    `running` as from `fairlift.method.sequence.running`; `sizes` None where it could not be tested.
    """
    common = {
        "requirement": "method.prereg",
        "design": "randomised",
        "window_start": "day 0",
        "window_end": f"day {window_days}",
    }
    rows = [_sequence_row(running, kpi, arm, versus, currency, alpha, common)]
    if sizes is not None:
        said = f"first at look {sizes.crossed + 1}" if sizes.crossed is not None else "at no look"
        rows.append(
            Evidence(
                id="method.peeking.sample_ratio",
                statement=f"Looked at {number(len(sizes.e), 'count')} times, the arms' sizes were shown to be off {said}.",
                kind="test",
                p=sizes.p,
                n=sum(sizes.counts.values()),
                better="down",
                validity="always",
                tables=("assignments",),
                **common,
            )
        )
    return rows


def _sequence_row(
    running: pd.DataFrame, kpi: Kpi, arm: str, versus: str, currency: str, alpha: float, common: dict
) -> Evidence:
    row = {
        "id": "method.peeking.sequence",
        "kind": "interval",
        "arm": arm,
        "versus": versus,
        "unit": kpi.unit_of_difference,
        "better": kpi.better,
        "validity": "always",
        "tables": ("assignments", "orders"),
        **common,
    }
    known = running.dropna(subset=["low"])
    if known.empty:
        return Evidence(statement=f"{kpi.name}: no confidence sequence yet, too few complete windows.", **row)
    last = known.iloc[-1]
    shown = estimate(last["value"], last["low"], last["high"], kpi.unit_of_difference, currency)
    place = crossed(known["low"], known["high"])
    when = f"it left out zero first on {known['day'].iloc[place]}" if place is not None else "it never left out zero"
    return Evidence(
        statement=f"{kpi.name}, {arm} against {versus}, by a confidence sequence: {shown}; {when}.",
        value=last["value"],
        se=last["se"],
        low=last["low"],
        high=last["high"],
        level=1 - alpha,
        n=int(last["n"]),
        **row,
    )
