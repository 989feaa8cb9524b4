"""A confidence sequence: an interval that stays right however often, and whenever, it is looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
from scipy import special

from fairlift.errors import InputError, Problem, Refusal
from fairlift.format import number
from fairlift.method.effect import Effect, effect
from fairlift.method.hall import studentised, transformed
from fairlift.method.looks import refuse_few
from fairlift.method.metric import Metric
from fairlift.method.moments import Moments, moments

BURN_IN = 500  # units in the smaller arm


def sequence(
    effect: Effect, planned_n: int, *, alpha: float | None = None, burn_in: int = BURN_IN, sides: int = 2
) -> Effect:
    """The same effect with an interval that may be read at any time: an asymptotic confidence sequence.

    With probability 1 − alpha the intervals at all sample sizes after the burn-in hold the true effect together
    (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, theorem 2.2), so a test that stops when one of them leaves out 0
    keeps its false alarms.  The interval is narrowest at `planned_n` units in both arms together, which must be stated
    beforehand; there it is about half as wide again as the fixed one.  `alpha` is by default the effect's own.

    **Assumed:** the effect is over units whose outcome is final, each with the same completed outcome window, entering in
    an order that has nothing to do with the arms.  A fixed group whose spend still accrues is not such a sequence: the same
    people are measured again, and what is estimated moves.  `running` holds this from the dates of entry.

    Skew: where the effect has Hall's interval, the sequence keeps Hall's shape (Hall 1992); without it a small holdout of
    skewed spend sees benefits that are not there more often than alpha.  The guarantee begins where means are near normal,
    so before `burn_in` units in the smaller arm, or with fewer than 200 outcomes other than 0 in an arm (10 for a share),
    it raises Refusal.

    `sides=1` gives limits of which each alone holds at all times with 1 − alpha, for a guardrail that asks in one direction.

    >>> import pandas as pd
    >>> from fairlift.method import Mean, moments
    >>> from fairlift.method.effect import effect
    >>> units = pd.DataFrame({"arm": ["a"] * 2000 + ["b"] * 2000, "spend": [1.0, 3.0] * 1000 + [1.0, 2.0] * 1000})
    >>> print(sequence(effect(moments(units, Mean("spend"), "arm"), Mean("spend"), "a", "b"), planned_n=4000))
    mean of spend: a against b
      a           2       SE 0.02237  n 2,000
      b           1.500   SE 0.01118  n 2,000
      difference +0.5000  SE 0.02501  p < 0.0001
      95 % interval +0.4241 to +0.5759 (confidence sequence)
    """
    alpha = 1 - effect.level if alpha is None else alpha
    _check(effect, planned_n, alpha, burn_in, sides)
    _refuse_early(effect, burn_in)
    n = effect.n_arm + effect.n_versus
    reach = multiple(n, planned_n, alpha, sides)
    k = effect.skew
    corrected = transformed(effect.value / effect.se, k)
    return replace(
        effect,
        low=effect.value - effect.se * studentised(reach, k),
        high=effect.value - effect.se * studentised(-reach, k),
        level=1 - alpha,
        p=_p(abs(corrected), n, planned_n, alpha, sides),
        interval="sequence",
    )


def multiple(n, planned_n: int, alpha: float = 0.05, sides: int = 2):
    """How many standard errors a confidence sequence reaches on either side after n units; `n` may be an array.

    The mixture's variance is chosen so that this is least at `planned_n`.

    >>> multiple(np.array([1_000, 10_000, 20_000]), 10_000).round(2).tolist()
    [3.82, 3.04, 3.06]
    """
    ahead = np.asarray(n, dtype=float) * _rho2(planned_n, alpha, sides)
    level = np.log((ahead + 1) / alpha**2) if sides == 2 else 2 * np.log((np.sqrt(ahead + 1) / alpha + 1) / 2)
    return np.sqrt((ahead + 1) / ahead * level)[()]


def running(
    units: pd.DataFrame,
    metric: Metric,
    arm: str,
    versus: str,
    *,
    entered: str,
    window_days: int,
    as_of: date,
    planned_n: int,
    alpha: float = 0.05,
    burn_in: int = BURN_IN,
) -> pd.DataFrame:
    """The effect day by day, each day over the units whose outcome window was complete by then.

    `units` has one row a randomised unit with the columns `arm` and `entered` (a date), and its outcome over the whole
    window of `window_days`.  Answers one row a day on which windows were completed: day, n, value, se, the fixed limits
    `fixed_low` and `fixed_high`, and the limits `low` and `high` of the confidence sequence, missing before the burn-in.

    Raises Refusal when some unit's window reaches beyond `as_of`: its outcome still accrues, and such units are no sequence.

    >>> from fairlift.method import Mean
    >>> units = pd.DataFrame({"arm": ["a", "b"], "on": [date(2026, 3, 1)] * 2, "spend": [1.0, 2.0]})
    >>> running(units, Mean("spend"), "a", "b", entered="on", window_days=28, as_of=date(2026, 3, 9), planned_n=4000)
    Traceback (most recent call last):
        ...
    fairlift.errors.Refusal: mean of spend: 2 of 2 units are still in their outcome window of 28 days on 2026-03-09, so their outcomes accrue and are no sequence; read units with a complete window, or wait.
    """
    due = pd.to_datetime(units[entered]) + timedelta(days=window_days)
    late = int((due > pd.Timestamp(as_of)).sum())
    if late:
        raise Refusal(
            f"{metric}: {late:,} of {len(units):,} units are still in their outcome window of {window_days} days on "
            f"{as_of}, so their outcomes accrue and are no sequence; read units with a complete window, or wait."
        )
    chosen = units.assign(due=due.dt.strftime("%Y-%m-%d"))[units["arm"].isin([arm, versus])]
    gathered = moments(chosen, metric, "arm", day="due")
    rows = []
    for day in sorted(set(gathered.cells["day"])):
        seen = Moments(gathered.cells[gathered.cells["day"] <= day], gathered.metrics, gathered.missing)
        try:
            fixed = effect(seen, metric, arm, versus, alpha=alpha)
        except Refusal:
            continue
        row = {"day": day, "n": fixed.n_arm + fixed.n_versus, "value": fixed.value, "se": fixed.se}
        row |= {"fixed_low": fixed.low, "fixed_high": fixed.high, "low": math.nan, "high": math.nan}
        try:
            always = sequence(fixed, planned_n, burn_in=burn_in)
            row |= {"low": always.low, "high": always.high}
        except Refusal:  # before the burn-in there is no sequence yet
            pass
        rows.append(row)
    return pd.DataFrame(rows, columns=["day", "n", "value", "se", "fixed_low", "fixed_high", "low", "high"])


def _rho2(planned_n: int, alpha: float, sides: int) -> float:
    """The variance of the mixture that makes the sequence narrowest at `planned_n` (the paper's appendix B.2)."""
    tail = alpha if sides == 2 else 2 * alpha
    return float(-special.lambertw(-(tail**2) / math.e, -1).real - 1) / planned_n


def _p(away: float, n: int, planned_n: int, alpha: float, sides: int) -> float:
    """The smallest alpha whose sequence, with the same mixture, leaves out 0."""
    ahead = n * _rho2(planned_n, alpha, sides)
    half = away**2 * ahead / (ahead + 1) / 2
    root = math.sqrt(ahead + 1)
    if sides == 2:
        return min(1.0, root * math.exp(-half))
    return min(1.0, root / (2 * math.exp(min(half, 700.0)) - 1))


def _check(seen: Effect, planned_n: int, alpha: float, burn_in: int, sides: int) -> None:
    problems = []
    if seen.interval not in ("hall", "welch"):
        problems.append(
            Problem("sequence", f"the effect is already read as {seen.interval}", "give the effect as it was")
        )
    if not planned_n > 0:
        problems.append(
            Problem("planned_n", f"is {planned_n}", "say how many units were planned in both arms together")
        )
    if not 0 < alpha < 0.5:
        problems.append(Problem("alpha", f"is {alpha}", "choose a fraction such as 0.05"))
    if sides not in (1, 2):
        problems.append(Problem("sides", f"is {sides!r}", "say 1 or 2"))
    if burn_in < 2:
        problems.append(
            Problem("burn_in", f"is {burn_in}", "say from how many units in the smaller arm it may be read")
        )
    if problems:
        raise InputError(problems)


def _refuse_early(seen: Effect, burn_in: int) -> None:
    smaller = min(seen.n_arm, seen.n_versus)
    if smaller < burn_in:
        raise Refusal(
            f"{seen.metric}: the smaller arm has {number(smaller, 'count')} complete units and the burn-in is "
            f"{number(burn_in, 'count')}, so there is no confidence sequence yet; wait for more."
        )
    refuse_few(seen)


def crossed(low: Sequence[float], high: Sequence[float], at: float = 0.0) -> int | None:
    """At which place of a running interval it first left out `at`; None where it never did.

    >>> crossed([-1, -0.5, 0.1], [1, 1, 0.9]), crossed([-1], [1])
    (2, None)
    """
    out = (np.asarray(low, dtype=float) > at) | (np.asarray(high, dtype=float) < at)
    return int(out.argmax()) if out.any() else None
