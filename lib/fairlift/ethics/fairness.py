"""Fairness of exposure: among customers who may be personalised, does each group get personalised offers alike?"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from fairlift.evidence import Evidence, Look
from fairlift.format import estimate, number
from fairlift.method.interval import newcombe
from fairlift.method.kpi import stricter

TOLERANCE = 0.05
MIN_N = 200


def exposure_gaps(units: pd.DataFrame, attributes: Sequence[str], alpha: float = 0.05) -> pd.DataFrame:
    """The share with a personalised offer in each group minus the share among everybody else, with Newcombe's interval.

    `units` needs the columns `personalised_exposures`, `arm` and the attributes; only the personalised arm is read, because
    only there chance gave everybody the same right to an offer (conditional parity of a benefit).  A missing attribute is a
    group of its own, "not stated".  Returns one row a group: attribute, group, n, share, share_others, gap, low, high.
    A gap of largest minus smallest is not computed: its interval excludes zero even where nothing differs (Newcombe 1998).
    """
    treated = units[units["arm"].str.startswith("personalised")]
    exposed = treated["personalised_exposures"].gt(0)
    rows = []
    for attribute in attributes:
        groups = treated[attribute].astype("object").where(treated[attribute].notna(), "not stated")
        for group in sorted(groups.unique(), key=str):
            inside = groups == group
            hits, n = int(exposed[inside].sum()), int(inside.sum())
            hits_others, n_others = int(exposed[~inside].sum()), int((~inside).sum())
            if not n_others:
                continue
            low, high = newcombe(hits, n, hits_others, n_others, alpha)
            share, others = hits / n, hits_others / n_others
            rows.append((attribute, str(group), n, share, others, share - others, low, high))
    columns = ["attribute", "group", "n", "share", "share_others", "gap", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def fairness_evidence(
    units: pd.DataFrame,
    attributes: Sequence[str],
    window_days: int,
    tolerance: float = TOLERANCE,
    look: Look | None = None,
) -> list[Evidence]:
    """One row a group: its gap against `-tolerance`; groups under `MIN_N` customers stay inconclusive.

    `look` says how the plan lets results be read before the end; the intervals are then as wide as that asks.
    """
    gaps = exposure_gaps(units, [name for name in attributes if name in units], stricter(look))
    return [
        Evidence(
            id="ethics.fairness.exposure",
            requirement="ethics.fairness",
            statement=(
                f"Personalised offers reach {number(row.share, 'share')} of {row.attribute} {row.group} and "
                f"{number(row.share_others, 'share')} of the others; difference {estimate(row.gap, row.low, row.high, 'points')}."
            ),
            kind="interval",
            design="descriptive",
            segment=f"{row.attribute}={row.group}",
            arm="personalised",
            window_start="day 0",
            window_end=f"day {window_days}",
            value=row.gap,
            low=row.low,
            high=row.high,
            level=0.95,
            unit="points",
            n=row.n,
            min_n=MIN_N,
            threshold=-tolerance,
            threshold_from="checklist",
            hard_limit=-2 * tolerance,
            better="up",
            family="fairness",
            validity=look.validity if look else "end",
            tables=("customers", "exposures"),
        )
        for row in gaps.itertuples()
    ]
