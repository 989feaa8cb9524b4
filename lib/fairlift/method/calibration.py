"""How far a method's numbers can be trusted: its misses counted on many experiments whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fairlift.errors import InputError, Problem
from fairlift.method.interval import clopper_pearson

KINDS = ("closed", "costly", "conservative")
COVERAGE = {"closed": (0.94, 0.96), "costly": (0.92, 0.98)}  # at a nominal .05
TAIL = (0.018, 0.032)
LEAST = {"closed": 10_000, "costly": 500, "conservative": 500}


@dataclass(frozen=True)
class Row:
    """One method on one case: how often it covers the truth, misses on either side, raises a false alarm, or refuses.

    `kind` says which bounds hold: "closed" (a formula: coverage and each tail), "costly" (a simulation inside: coverage)
    or "conservative" (discrete or always-valid: false alarms at most `nominal`).  `naive` rows show what goes wrong; no
    bound holds for them.  `miss_low` is the share of experiments whose interval lies wholly below the truth, `miss_high`
    wholly above it; shares are of the `reps` experiments that were not refused, `refused` is of all.  `width` is the
    median width of the interval; what does not apply is None.
    """

    method: str
    naive: bool
    kind: str
    case: str
    nominal: float
    coverage: float | None
    miss_low: float | None
    miss_high: float | None
    false_positive: float | None
    power: float | None
    refused: float
    width: float | None
    reps: int


def scored(
    method: str,
    case: str,
    kind: str,
    low,
    high,
    truth: float,
    *,
    nominal: float = 0.05,
    naive: bool = False,
    power: float | None = None,
) -> Row:
    """Score intervals, one entry an experiment, against the truth; NaN limits mark a refusal.

    A true effect of 0 makes every interval that leaves out 0 a false positive; any other truth makes it the power, unless
    `power` is given from other experiments.

    >>> row = scored("t", "toy", "costly", low=[-1, 0.5, -3, np.nan], high=[1, 2, -2, np.nan], truth=0.0)
    >>> round(row.coverage, 2), round(row.miss_low, 2), round(row.false_positive, 2), row.refused
    (0.33, 0.33, 0.67, 0.25)
    """
    low, high = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    seen = ~(np.isnan(low) | np.isnan(high))
    total, low, high = len(seen), low[seen], high[seen]
    below, above = (float(found.mean()) if len(low) else None for found in (high < truth, low > truth))
    alarm = float(((low > 0) | (high < 0)).mean()) if len(low) else None
    return Row(
        method=method,
        naive=naive,
        kind=_kind(kind),
        case=case,
        nominal=nominal,
        coverage=None if below is None else 1 - below - above,
        miss_low=below,
        miss_high=above,
        false_positive=alarm if truth == 0 else None,
        power=power if power is not None or truth == 0 else alarm,
        refused=1 - len(low) / total,
        width=float(np.median(high - low)) if len(low) else None,
        reps=total,
    )


def alarmed(
    method: str,
    case: str,
    kind: str,
    alarms,
    *,
    nominal: float = 0.05,
    naive: bool = False,
    power: float | None = None,
    refused: float = 0.0,
) -> Row:
    """Score a test without an interval: `alarms` says of each experiment without an effect whether it was rejected.

    >>> alarmed("chi-squared", "toy", "conservative", [True, False, False, False], nominal=0.25).false_positive
    0.25
    """
    alarms = np.asarray(alarms, dtype=bool)
    rate = float(alarms.mean()) if len(alarms) else None
    return Row(method, naive, _kind(kind), case, nominal, None, None, None, rate, power, refused, None, len(alarms))


def faults(row: Row) -> list[str]:
    """What a row breaks of the bounds of its kind; empty for a naive row and where every experiment was refused.

    >>> broken = scored("naive z", "toy", "closed", low=[-1] * 9 + [1], high=[1] * 9 + [2], truth=0.0)
    >>> faults(broken)
    ['10 experiments, 10,000 at least', 'coverage .9000 outside .94 to .96', 'miss_low .0000 outside .018 to .032', 'miss_high .1000 outside .018 to .032']
    """
    if row.naive or row.refused == 1:
        return []
    found = []
    if row.reps < LEAST[row.kind]:
        found.append(f"{row.reps:,} experiments, {LEAST[row.kind]:,} at least")
    if row.kind == "conservative":
        kept = round(row.reps * (1 - row.refused))
        wrong = row.false_positive
        if wrong is None:
            return [*found, "a conservative method must show its false positives"]
        least = clopper_pearson(round(wrong * kept), kept, alpha=0.01, sides=1)[0]
        if least > row.nominal:
            found.append(f"false positives {_point(wrong)}, surely above {_point(row.nominal)}")
        return found if row.power is not None else [*found, "no power stated"]
    if row.coverage is None:
        return [*found, "no coverage stated"]
    low, high = COVERAGE[row.kind]
    if not low <= row.coverage <= high:
        found.append(f"coverage {_point(row.coverage)} outside {_short(low)} to {_short(high)}")
    if row.kind == "closed":
        for name in ("miss_low", "miss_high"):
            tail = getattr(row, name)
            if not TAIL[0] <= tail <= TAIL[1]:
                found.append(f"{name} {_point(tail)} outside {_short(TAIL[0])} to {_short(TAIL[1])}")
    return found


def _kind(kind: str) -> str:
    if kind not in KINDS:
        raise InputError(Problem("calibration", f"the kind `{kind}` is not known", f"use {', '.join(KINDS)}"))
    return kind


def _point(share: float) -> str:
    return f"{share:.4f}".removeprefix("0")


def _short(share: float) -> str:
    return f"{share:g}".removeprefix("0")
