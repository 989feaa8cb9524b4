"""A ramp: when the arms' shares change, customers are compared within stage × week of entry, never all together.

While personalisation is ramped up, its arm fills with whoever enrols late.  If those differ from whoever enrolled early, the
pooled means compare seasons and not treatments, and may turn the sign (Simpson 1951).  Within one stage and week of entry
chance alone decides; the cells are combined with fixed weights, their shares of all customers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Protocol

import numpy as np
import pandas as pd
from scipy import special

from fairlift.errors import InputError, Problem, Refusal
from fairlift.evidence import Evidence
from fairlift.format import number
from fairlift.method.effect import effect
from fairlift.method.metric import Metric
from fairlift.method.moments import Moments, moments
from fairlift.method.srm import Srm, noncentrality

ENTRY = "entry"
LEAST = (
    200  # customers of every arm that a cell needs: shares are constant within a stage, so joining weeks costs no bias
)


class Stage(Protocol):
    """What a ramp needs of a stage; those of plan.yml have it.  `start` is its first local day, `weights` the arms' shares."""

    start: date
    weights: Mapping[str, float]


def entry_cells(units: pd.DataFrame, stages: Sequence[Stage], least: int = LEAST) -> pd.Series:
    """The cell of each unit: its stage and the ISO week in which it enrolled, as text such as "stage 2, week 2026-W27".

    `units` needs `arm` and `enrolled` (a local day); the first stage also holds for whoever enrolled before it.  A cell in
    which an arm of the stage has fewer than `least` units is joined with the next week of the same stage, the last one with
    the week before; such a cell is named by its first week.  Where a whole stage lacks an arm its units have no cell (None):
    nobody there can be compared.  So the cells depend on the sizes of the arms and on no outcome.

    >>> from types import SimpleNamespace
    >>> stage = SimpleNamespace(start=date(2026, 6, 15), weights={"new": 0.5, "old": 0.5})
    >>> days = pd.to_datetime(["2026-06-15", "2026-06-16", "2026-06-22", "2026-06-23"]).date
    >>> entry_cells(pd.DataFrame({"arm": ["new", "old"] * 2, "enrolled": days}), [stage], least=1).unique().tolist()
    ['stage 1, week 2026-W25', 'stage 1, week 2026-W26']
    """
    stage, week = stage_of(units, stages), _weeks(units)
    named = pd.Series(None, index=units.index, dtype=object)
    for place, one in enumerate(stages):
        here = stage == place
        sizes = pd.crosstab(week[here], units["arm"][here]).reindex(columns=list(one.weights), fill_value=0)
        cells = _joined(sizes, least)
        named[here] = week[here].map({name: f"stage {place + 1}, week {cell}" for name, cell in cells.items()})
    return named.where(named.notna(), None)


def within_stages(units: pd.DataFrame, stages: Sequence[Stage], least: int = LEAST) -> tuple[pd.DataFrame, str | None]:
    """The units with the column that `read_kpis` and the like compare within; without stages the units as they are, and None.

    Units that no cell can hold are left out; their number is the difference in length.  Where none is left, an effect of
    the rest refuses as it does for any arm without units.
    """
    if not stages:
        return units, None
    cells = entry_cells(units, stages, least)
    return units.assign(**{ENTRY: cells})[cells.notna()].reset_index(drop=True), ENTRY


def last_stage(units: pd.DataFrame, stages: Sequence[Stage]) -> pd.DataFrame:
    """The units that enrolled in the last stage of a ramp, among whom the arms' shares never changed; without stages all.

    For readings that cannot be combined over cells: fewer units, and arms that may be compared as they are.

    >>> from types import SimpleNamespace
    >>> stages = [SimpleNamespace(start=date(2026, 6, day), weights={"new": 1, "old": 1}) for day in (1, 8)]
    >>> units = pd.DataFrame({"arm": ["new", "old"], "enrolled": pd.to_datetime(["2026-06-03", "2026-06-09"]).date})
    >>> last_stage(units, stages)["arm"].tolist(), len(last_stage(units, []))
    (['old'], 2)
    """
    if not stages:
        return units
    return units[stage_of(units, stages) == len(stages) - 1].reset_index(drop=True)


def stage_of(units: pd.DataFrame, stages: Sequence[Stage]) -> np.ndarray:
    """The place of each unit's stage, by the local day on which it enrolled."""
    starts = pd.to_datetime([stage.start for stage in stages])
    if not len(starts) or not starts.is_monotonic_increasing or not starts.is_unique:
        raise InputError(Problem("stages", "they do not follow each other", "give each stage a later first day"))
    return np.maximum(starts.searchsorted(pd.to_datetime(units["enrolled"]), side="right") - 1, 0)


def srm_stages(units: pd.DataFrame, stages: Sequence[Stage], alpha: float = 0.001, power: float = 0.8) -> Srm:
    """Test the arms' sizes within each stage of a ramp, as one test: the stages' chi-squared statistics and degrees of freedom
    are added (Fabijan et al. 2019 on why shares that change must not be pooled).

    `units` needs `arm` and `enrolled`.  `expected` are the stages' sums; `detectable` is the smallest error in an arm's share,
    the same in every stage, that the test would find with probability `power`.  A stage without any unit says nothing and is
    left out.  Raises Refusal when fewer than five units are expected in an arm of a stage.

    >>> from types import SimpleNamespace
    >>> stages = [SimpleNamespace(start=date(2026, 6, 15), weights={"new": 0.1, "old": 0.9}),
    ...           SimpleNamespace(start=date(2026, 6, 22), weights={"new": 0.5, "old": 0.5})]
    >>> days = pd.to_datetime(["2026-06-15"] * 100 + ["2026-06-22"] * 100).date
    >>> arms = ["new"] * 10 + ["old"] * 90 + ["new"] * 52 + ["old"] * 48
    >>> test = srm_stages(pd.DataFrame({"arm": arms, "enrolled": days}), stages)
    >>> test.df, round(test.statistic, 2), test.failed
    (2, 0.16, False)
    """
    stage, arms = stage_of(units, stages), list(stages[0].weights)
    unknown = sorted(set(units["arm"]) - set(arms))
    if unknown:
        found = f"arm `{', '.join(unknown)}` has units but no planned weight"
        raise InputError(Problem("sample ratio", found, "state its planned share"))
    counts = np.array([[((stage == k) & (units["arm"] == arm)).sum() for arm in arms] for k in range(len(stages))])
    shares = np.array([[one.weights[arm] for arm in arms] for one in stages], dtype=float)
    there = counts.sum(axis=1) > 0
    return pooled_srm(arms, counts[there], shares[there], alpha, power)


def drift(units: pd.DataFrame, stages: Sequence[Stage] = ()) -> tuple[float, float, int]:
    """Whether the arms' shares moved from week to week of entry within a stage: p, chi-squared statistic, degrees of freedom.

    It needs no planned shares: a ramp that nobody wrote down shows here.  Without `stages` the whole enrolment is one.  Weeks
    with fewer than five expected in an arm say nothing; with fewer than two weeks left p is 1.

    >>> days = pd.to_datetime(["2026-06-15"] * 200 + ["2026-06-22"] * 200).date
    >>> arms = ["new"] * 20 + ["old"] * 180 + ["new"] * 100 + ["old"] * 100
    >>> drift(pd.DataFrame({"arm": arms, "enrolled": days}))[0] < 0.001
    True
    """
    stage = stage_of(units, stages) if len(stages) else np.zeros(len(units), dtype=int)
    statistic, df = 0.0, 0
    for _, sizes in pd.crosstab([stage, _weeks(units)], units["arm"]).groupby(level=0):
        shares = (sizes.sum() / sizes.to_numpy().sum()).to_numpy()
        counts = sizes.to_numpy(dtype=float)[:, shares > 0]
        counts = counts[counts.sum(axis=1) * shares[shares > 0].min() >= 5]
        if len(counts) < 2 or counts.shape[1] < 2:
            continue
        expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
        statistic += float(((counts - expected) ** 2 / np.maximum(expected, 1e-12)).sum())
        df += (counts.shape[0] - 1) * (counts.shape[1] - 1)
    return (float(special.chdtrc(df, statistic)) if df else 1.0), statistic, df


def by_cell(
    units: pd.DataFrame, metric: Metric, arm: str, versus: str, entry: str = ENTRY, alpha: float = 0.05
) -> pd.DataFrame:
    """The effect within each cell by itself: place, cell, units, share_arm, mean_versus, value, low, high (none where refused)."""
    found = moments(units, metric, "arm", day=entry)
    rows = []
    for place, (cell, part) in enumerate(found.cells.groupby("day"), 1):
        mine = Moments(part.reset_index(drop=True), found.metrics)
        n = sum(mine.counts.values())
        row = {"place": place, "cell": cell, "units": n, "share_arm": mine.counts.get(arm, 0) / n}
        try:
            seen = effect(mine, metric, arm, versus, alpha=alpha)
            row |= {"mean_versus": seen.mean_versus, "value": seen.value, "low": seen.low, "high": seen.high}
        except Refusal:
            row |= dict.fromkeys(("mean_versus", "value", "low", "high"), math.nan)
        rows.append(row)
    return pd.DataFrame(rows)


def ramp_evidence(units: pd.DataFrame, stages: Sequence[Stage]) -> list[Evidence]:
    """Whether the shares moved within the stages, and how many customers no cell could hold."""
    common = {"design": "descriptive", "requirement": "method.ab", "tables": ("assignments",), "better": "down"}
    p, statistic, df = drift(units, stages)
    found = "moved" if p < 0.001 else "did not move"
    link = "though" if p < 0.001 else "and"
    where = "within the plan's stages" if len(stages) else f"{link} the plan names no stages"
    rows = [
        Evidence(
            id="method.ramp.drift",
            kind="test",
            statement=f"The arms' shares {found} from week to week of entry, {where} (p {number(p, 'p')}).",
            value=statistic / df if df else None,
            p=p,
            n=len(units),
            **common,
        )
    ]
    if len(stages):
        left = len(units) - len(within_stages(units, stages)[0])
        said = f"{number(left, 'count')} customers enrolled in a stage in which an arm is too small to compare, and were left out."
        rows.append(
            Evidence(
                id="method.ramp.left_out",
                kind="exact",
                statement=said,
                value=left / len(units),
                unit="share",
                n=len(units),
                **common,
            )
        )
    return rows


def pooled_srm(arms: Sequence[str], counts: np.ndarray, shares: np.ndarray, alpha: float, power: float) -> Srm:
    """The sample-ratio test over stages from counts and planned shares, both stage × arm."""
    shares = shares / shares.sum(axis=1, keepdims=True)
    expected = counts.sum(axis=1, keepdims=True) * shares
    if not len(counts) or expected.min() < 5:
        least = expected.min() if len(counts) else 0
        raise Refusal(f"sample ratio: {least:.1f} units are expected in an arm of a stage and 5 are needed.")
    statistic = float(((counts - expected) ** 2 / expected).sum())
    df = counts.shape[0] * (counts.shape[1] - 1)
    seen = (counts.sum(axis=1, keepdims=True) / (shares * (1 - shares))).sum(axis=0).min()
    return Srm(
        counts=dict(zip(arms, counts.sum(axis=0).tolist(), strict=True)),
        expected=dict(zip(arms, expected.sum(axis=0).tolist(), strict=True)),
        n=int(counts.sum()),
        statistic=statistic,
        df=df,
        p=float(special.chdtrc(df, statistic)),
        alpha=alpha,
        detectable=math.sqrt(noncentrality(df, alpha, power) / seen),
        power=power,
    )


def _weeks(units: pd.DataFrame) -> pd.Series:
    """The ISO week of entry as sortable text."""
    days = pd.to_datetime(units["enrolled"])
    names = {day: "{}-W{:02}".format(*day.isocalendar()[:2]) for day in days.unique()}
    return days.map(names)


def _joined(sizes: pd.DataFrame, least: int) -> dict[str, str]:
    """Which cell each week of a stage belongs to; `sizes` has one row a week, in order, and one column an arm."""
    cells: list[list[str]] = []
    open_cell, held = [], 0
    for week, row in sizes.iterrows():
        open_cell, held = [*open_cell, week], held + row
        if (held >= least).all():
            cells.append(open_cell)
            open_cell, held = [], 0
    if open_cell and cells:  # the weeks left over are too few for a cell of their own
        cells[-1] += open_cell
    return {week: cell[0] for cell in cells for week in cell}
