"""Whether an experiment may be read at all: the sample ratio and the balance of what was known before, as evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from fairlift.errors import InputError, Refusal
from fairlift.evidence import Evidence
from fairlift.format import number
from fairlift.method.metric import Covariates
from fairlift.method.moments import moments
from fairlift.method.ramp import Stage, srm_stages, within_stages
from fairlift.method.srm import balance, srm

ALPHA = 0.001
SHARE_TOLERANCE = 0.02
BALANCE_TOLERANCE = 0.1


def validity_evidence(
    units: pd.DataFrame,
    weights: Mapping[str, float],
    covariates: Sequence[str],
    contrasts: Sequence[tuple[str, str]],
    window_days: int,
    stages: Sequence[Stage] = (),
) -> list[Evidence]:
    """One row for the sample ratio over all arms and one row a contrast for the balance of the covariates.

    `units` has one row for everybody assigned, complete or not; without `weights` (no plan states them) sizes are not judged.  Both tests fail below .001, and pass only if they could
    have seen a share wrong by two points, or a standardised difference of a tenth.  With `stages` (of a ramp, as in plan.yml;
    then `units` needs `enrolled`) sizes are tested within stage, and balance within stage × week of entry.
    """
    window = {"window_start": "day 0", "window_end": f"day {window_days}"}
    rows = [_ratio_row(units, weights, window, stages)]
    if covariates:
        compared, entry = within_stages(units, stages)
        found = moments(compared, [Covariates(*covariates)], arm="arm", day=entry)
        rows += [_balance_row(found, covariates, arm, versus, window, entry) for arm, versus in contrasts]
    return rows


def _ratio_row(units: pd.DataFrame, weights: Mapping[str, float], window: dict, stages: Sequence[Stage]) -> Evidence:
    counts = {arm: int((units["arm"] == arm).sum()) for arm in weights}
    row = _row("method.srm.share", "points", SHARE_TOLERANCE, window)
    if not weights:
        return Evidence(
            statement="Sample ratio: no planned shares are known, so there is nothing to compare with.", **row
        )
    try:
        test = srm_stages(units, stages, ALPHA) if stages else srm(counts, weights, ALPHA)
    except (Refusal, InputError) as refusal:
        return Evidence(statement=f"Sample ratio: {refusal}", **row)
    worst = max(abs(counts[arm] - test.expected[arm]) / test.n for arm in counts)
    found = "do not fit" if test.failed else "fit"
    return Evidence(
        statement=f"The sizes of the arms {found} the planned shares{' of each stage' * bool(stages)} (p {number(test.p, 'p')}, {number(test.n, 'count')} customers).",
        value=worst,
        high=test.detectable,
        p=test.p,
        n=test.n,
        **row,
    )


def _balance_row(
    found, covariates: Sequence[str], arm: str, versus: str, window: dict, entry: str | None = None
) -> Evidence:
    row = _row("method.balance.omnibus", "z", BALANCE_TOLERANCE, window) | {"arm": arm, "versus": versus}
    try:
        test = balance(found, covariates, arm, versus, ALPHA, by=("day",) if entry else ())
    except Refusal as refusal:
        return Evidence(statement=f"Balance: {refusal}", **row)
    worst = max(test.differences, key=lambda name: abs(test.differences[name]))
    verb = "differed" if test.failed else "were alike"
    return Evidence(
        statement=(
            f"Before assignment {arm} and {versus} {verb} (p {number(test.p, 'p')}); "
            f"largest standardised difference {number(test.differences[worst], 'z')}, in {worst}."
        ),
        value=abs(test.differences[worst]),
        high=test.detectable,
        p=test.p,
        n=found.counts[arm] + found.counts[versus],
        **row,
    )


def _row(metric: str, unit: str, tolerance: float, window: dict) -> dict:
    return {
        "id": metric,
        "requirement": "method.ab",
        "kind": "test",
        "design": "randomised",
        "unit": unit,
        "better": "down",
        "threshold": ALPHA,
        "threshold_from": "checklist",
        "hard_limit": tolerance,
        "family": "validity",
        "tables": ("assignments",),
        **window,
    }
