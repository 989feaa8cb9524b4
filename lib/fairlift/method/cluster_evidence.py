"""Clusters as evidence: what a study drew whole, and what drawing its stores whole would cost."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from fairlift.errors import InputError, Refusal
from fairlift.evidence import Evidence
from fairlift.format import estimate, number
from fairlift.method.cluster_means import by_cluster
from fairlift.method.clusters import cluster_effect
from fairlift.method.icc import icc


def likeness_evidence(units: pd.DataFrame, outcome: str, cluster: str, window_days: int) -> list[Evidence]:
    """How alike customers of one `cluster` are in `outcome`, and the design effect of drawing such clusters whole.

    `units` has one row a customer; those without a cluster are left out.  Empty where the study names no clusters of that
    kind, or fewer than two.

    >>> units = pd.DataFrame({"store": [1, 1, 2, 2, 3, 3], "revenue": [1.0, 3.0, 2.0, 5.0, 4.0, 3.0]})
    >>> [row.id for row in likeness_evidence(units, "revenue", "store", 56)]
    ['method.clusters.icc', 'method.clusters.design_effect']
    """
    known = units.dropna(subset=[cluster]) if cluster in units else units.head(0)
    if not len(known) or known[cluster].nunique() < 2:
        return []
    common = {
        "requirement": "method.complex",
        "kind": "interval",
        "design": "descriptive",
        "better": "down",
        "family": "exploratory",
        "tables": ("customers", "orders"),
        "window_start": "day 0",
        "window_end": f"day {window_days}",
    }
    names = ("method.clusters.icc", "method.clusters.design_effect")
    try:
        found = icc(by_cluster(known, outcome, cluster))
    except Refusal as refusal:
        return [Evidence(id=name, statement=str(refusal), **common) for name in names]
    low, high = found.design_effect_limits
    cost = estimate(found.design_effect, low, high, "times", signed=False)
    alike = estimate(found.value, found.low, found.high, signed=False)
    common |= {"level": found.level, "n": found.n}
    return [
        Evidence(
            id=names[0],
            statement=f"Likeness of customers of one {cluster} in {outcome} (ICC): {alike}, in {number(found.clusters, 'count')} clusters.",
            value=found.value,
            low=found.low,
            high=found.high,
            **common,
        ),
        Evidence(
            id=names[1],
            statement=f"Drawing each {cluster} whole takes {cost} as many customers for {outcome} as drawing customers.",
            value=found.design_effect,
            low=low,
            high=high,
            unit="times",
            **common,
        ),
    ]


def cluster_evidence(
    units: pd.DataFrame,
    outcome: str,
    contrasts: Sequence[tuple[str, str]],
    window_days: int,
    currency: str,
    unit: str = "money",
) -> list[Evidence]:
    """The effect per customer where whole clusters were drawn: one row a contrast; empty where customers were drawn.

    `units` has one row a customer with `arm`, `cluster` and perhaps `stratum`, the block within which clusters were drawn;
    there the average is over clusters, else over customers.  What would mislead comes back with its refusal.

    >>> units = pd.DataFrame({"arm": ["new", "old"] * 5, "cluster": range(10), "revenue": [9, 1, 8, 2, 9, 3, 7, 1, 8, 2]})
    >>> [row.verdict for row in cluster_evidence(units, "revenue", [("new", "old")], 56, "EUR")]
    ['reported']
    """
    if "cluster" not in units or units["cluster"].isna().all():
        return []
    block = "stratum" if "stratum" in units and units["stratum"].notna().all() else None
    rows = []
    for arm, versus in contrasts:
        common = {
            "id": "method.clusters.effect",
            "requirement": "method.complex",
            "kind": "interval",
            "design": "randomised",
            "arm": arm,
            "versus": versus,
            "unit": unit,
            "family": "exploratory",
            "tables": ("assignments", "orders"),
            "window_start": "day 0",
            "window_end": f"day {window_days}",
        }
        try:
            clusters = by_cluster(units[units["arm"].isin((arm, versus))], outcome, "cluster", "arm", block=block)
            found = cluster_effect(clusters, arm, versus, average="clusters" if block else "customers")
        except (Refusal, InputError) as refusal:
            rows.append(Evidence(statement=f"Whole clusters drawn: {refusal}", **common))
            continue
        shown = estimate(found.value, found.low, found.high, unit, currency)
        rows.append(
            Evidence(
                statement=f"{outcome} by cluster, {arm} against {versus}, average over {found.average}: difference {shown}, "
                f"from {number(found.clusters_arm, 'count')} against {number(found.clusters_versus, 'count')} clusters.",
                value=found.value,
                se=found.se,
                low=found.low,
                high=found.high,
                level=found.level,
                p=found.p,
                n=found.n_arm + found.n_versus,
                **common,
            )
        )
    return rows
