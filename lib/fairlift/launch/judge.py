"""Judge one row of evidence against what is asked of it; the row's own threshold and verdict are never trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from statistics import NormalDist

from fairlift.evidence import VALIDITIES, Evidence
from fairlift.format import UNITS, estimate, number
from fairlift.study.clock import moment

LEVEL = 0.95
UNKNOWN = "how many more customers it needs cannot be computed"
PASS, FAIL, INCONCLUSIVE, MISSING, STALE, EXPIRED = "pass", "fail", "inconclusive", "missing", "stale", "expired"
# the worst first: an item is as good as its worst row
WORST_FIRST = (FAIL, STALE, EXPIRED, MISSING, INCONCLUSIVE, PASS)


@dataclass(frozen=True)
class Ask:
    """What is asked of a row: kind, origin, size, and the threshold with where it comes from.

    `causal` asks for a registered and randomised comparison; `final` says whether the registered end is reached, and `admits`
    which intervals the plan lets count at this moment: before the end a fixed one never does.
    """

    kind: str
    threshold: float
    source: str
    better: str | None = None
    hard_limit: float | None = None
    causal: bool = False
    planned_n: int | None = None
    min_n: int | None = None
    final: bool = True
    admits: tuple[str, ...] = VALIDITIES
    level: float = LEVEL
    currency: str = "EUR"


@dataclass(frozen=True)
class Judged:
    """One row and what it says.

    `conditional`: inconclusive, yet good enough to go on with a condition; `by_chance`: a fail that chance alone might
    bring about, so that it must survive Holm's adjustment; `late`: it would pass, with customers who came after it was read.
    """

    label: str
    state: str
    technical: str
    row: Evidence | None = None
    ask: Ask | None = None
    segment: str = "all"
    conditional: bool = False
    by_chance: bool = False
    late: bool = False

    @property
    def rank(self) -> tuple[int, bool]:
        return WORST_FIRST.index(self.state), self.conditional


@dataclass(frozen=True)
class Need:
    """What would settle a row: how many customers more and how many weeks; None where it cannot be computed."""

    customers: int | None
    weeks: float | None
    why: str = ""

    def __str__(self) -> str:
        if self.customers is None and self.weeks is None:
            return self.why or UNKNOWN
        parts = []
        if self.customers:
            parts.append(f"{number(self.customers, 'count')} more customers")
        if self.weeks is not None:
            parts.append(f"about {number(max(1, math.ceil(self.weeks)), 'weeks')}")
        return "it needs " + ", ".join(parts)


def judge(row: Evidence, ask: Ask, clock: datetime, registered: bool, once_reached: bool = False) -> Judged:
    """What a row says when the gate asks: pass, fail, inconclusive, missing (it cannot count) or expired.

    A condition is open only to an estimate that lies within its threshold itself: otherwise a wider interval would be
    better than a narrow one.

    >>> from fairlift.study.clock import now
    >>> row = Evidence(id="risk.complaints.rate", statement="", kind="interval", design="randomised", better="down",
    ...     value=.001, low=-.001, high=.003, level=.95, n=9000)
    >>> ask = Ask("interval", threshold=.002, hard_limit=.004, source="plan.yml", planned_n=8000)
    >>> (seen := judge(row, ask, now(), registered=True)).state, seen.conditional
    ('inconclusive', True)
    """
    why = _inadmissible(row, ask, registered)
    if why:
        return _judged(row, ask, MISSING, why)
    if row.expires_at and moment(row.expires_at, end_of_day=True) < clock:
        return _judged(row, ask, EXPIRED, f"expired on {row.expires_at}")
    if once_reached and ask.planned_n and (row.n or 0) < ask.planned_n:
        return _judged(
            row, ask, FAIL, f"{_size(row, ask)}; it once had them, so customers have gone missing", once=True
        )
    if ask.min_n and (row.n or 0) < ask.min_n:
        return _judged(row, ask, INCONCLUSIVE, f"fewer than {number(ask.min_n, 'count')} customers")
    return _test(row, ask) if ask.kind == "test" else _interval(row, ask)


def read_again(judged: Judged, before: int | None) -> Judged:
    """A row that was read at the end with `before` customers and did not pass: it does not pass with more of them.

    Whoever runs on until a result is there has looked as often as he liked; only what was planned so may do that.
    """
    if before is None or judged.state != PASS or judged.row is None or (judged.row.n or 0) <= before:
        return judged
    why = f"{judged.technical}; it was read at the end with {number(before, 'count')} customers and not shown"
    return replace(judged, state=INCONCLUSIVE, technical=why, late=True)


def _inadmissible(row: Evidence, ask: Ask, registered: bool) -> str:
    """Why the row cannot count at all, or nothing."""
    kinds = {"interval": ("interval",), "test": ("test",), "exact": ("exact", "interval")}[ask.kind]
    if row.kind not in kinds:
        return f"it is of the kind {row.kind}, and {ask.kind} is needed"
    if ask.causal and row.design != "randomised":
        return f"the comparison is {row.design}, and a randomised one is needed"
    if ask.causal and not (registered and row.status == "registered"):
        return "it is exploratory: the plan was not registered before the outcomes"
    if row.kind == "interval" and row.value is not None and (row.level or 0) < ask.level - 1e-9:
        return f"its interval is at {number(row.level, 'share')}, and {number(ask.level, 'share')} is needed"
    return ""


def _test(row: Evidence, ask: Ask) -> Judged:
    asked = replace(row, threshold=ask.threshold, hard_limit=ask.hard_limit, min_n=None)
    state = asked.verdict
    if row.high is not None and row.p is not None and row.p >= ask.threshold:
        why = f"could detect {number(row.high)}, tolerated {number(ask.hard_limit)}"
    else:
        why = ""
    return _judged(row, ask, state, why)


def _interval(row: Evidence, ask: Ask) -> Judged:
    if row.kind == "exact" and row.value is not None:
        row = replace(
            row, low=row.value if row.low is None else row.low, high=row.value if row.high is None else row.high
        )
    if row.value is None or row.low is None or row.high is None:
        return _judged(row, ask, INCONCLUSIVE, "no number was computed")
    if _waits(row, ask):
        return _judged(row, ask, INCONCLUSIVE, _why_waits(ask))
    short = bool(ask.planned_n) and (row.n or 0) < ask.planned_n
    if short and "end" in ask.admits:  # looks pay for their size with width, a fixed interval with the planned number
        return _judged(row, ask, INCONCLUSIVE, _size(row, ask))
    better = ask.better or row.better
    asked = replace(row, threshold=ask.threshold, better=better, min_n=None)
    inside = (row.value - ask.threshold) * (1 if better == "up" else -1) >= 0
    state = asked.verdict
    if state == PASS and not inside:
        state = INCONCLUSIVE
    conditional = state == INCONCLUSIVE and inside and not short and _clears(row, ask, better)
    return _judged(row, ask, state, _size(row, ask), conditional)


def _waits(row: Evidence, ask: Ask) -> bool:
    """Whether the row's interval may not be read at this moment."""
    return row.kind == "interval" and row.validity not in ask.admits


def _why_waits(ask: Ask) -> str:
    if "look" in ask.admits:
        return "its interval is not that of the looks the plan registered, so it does not count"
    if "always" in ask.admits:
        return "its interval is not the confidence sequence that the plan registered, so it does not count"
    return "read before the registered end, so it does not count yet"


def _clears(row: Evidence, ask: Ask, better: str) -> bool:
    """Whether the interval excludes the hard limit."""
    if ask.hard_limit is None:
        return False
    return row.low > ask.hard_limit if better == "up" else row.high < ask.hard_limit


def survivors(family: Sequence[Judged], alpha: float = 1 - LEVEL) -> list[Judged]:
    """The family again, its fails kept only where they survive Holm's adjustment; the others become inconclusive.

    The p-value is of harm beyond the threshold, twice the one-sided one, so that alone it agrees with the two-sided
    interval; a test is held to its own threshold instead of `alpha` (Holm 1979).
    """
    if len(family) < 2 or not any(judged.by_chance for judged in family):
        return list(family)
    from fairlift.method.interval import holm  # late: seldom needed

    known = {place: p for place, judged in enumerate(family) if (p := _harm_p(judged)) is not None}
    adjusted = dict(zip(known, holm(list(known.values())), strict=True))
    found = list(family)
    for place, judged in enumerate(family):
        limit = judged.ask.threshold if judged.row and judged.row.kind == "test" else alpha
        if judged.by_chance and adjusted.get(place, 0.0) >= limit:
            why = f"{judged.technical}; not beyond chance among {len(known)} measures"
            found[place] = replace(judged, state=INCONCLUSIVE, technical=why)
    return found


def _harm_p(judged: Judged) -> float | None:
    row, ask = judged.row, judged.ask
    if row is None or ask is None or row.kind not in ("interval", "test"):
        return None
    if row.kind == "test":
        return row.p
    se = _se(row)
    if se is None or row.value is None:
        return None
    away = (ask.threshold - row.value) * (1 if (ask.better or row.better) == "up" else -1)
    if se == 0:
        return 0.0 if away > 0 else 1.0
    return min(1.0, math.erfc(away / se / math.sqrt(2)))


def _se(row: Evidence) -> float | None:
    """The row's standard error, or the one its interval implies, as it must where the interval pays for several looks."""
    if row.se is not None and row.validity == "end":
        return row.se
    if row.low is None or row.high is None or math.isinf(row.low) or math.isinf(row.high):
        return None
    return (row.high - row.low) / 2 / NormalDist().inv_cdf(0.5 + (row.level or LEVEL) / 2)


def need_of(
    judged: Judged, power: float, enrolled_weeks: float | None, window_weeks: float, weeks_left: float
) -> Need | None:
    """What would settle an inconclusive row at the plan's power, from its spread, its value and its threshold.

    `enrolled_weeks` is how long it took to reach the row's n; `weeks_left` until the plan lets results be read again: the next
    look, or the registered end.
    """
    row, ask = judged.row, judged.ask
    if judged.state != INCONCLUSIVE or row is None or ask is None:
        return None
    if judged.late:
        return Need(None, None, "it was read at the end and not shown: only a new experiment can show it")
    if not row.n:
        return Need(
            None, weeks_left if row.kind == "interval" and weeks_left else None, f"{UNKNOWN}: there is no number yet"
        )
    planned, few = max((ask.planned_n or 0) - row.n, 0), max((ask.min_n or 0) - row.n, 0)
    early = _waits(row, ask)
    short = max(planned if early or "end" in ask.admits else 0, few)
    if short or early:
        return Need(short, max(weeks_left if early else 0.0, _weeks(short, row.n, enrolled_weeks, window_weeks) or 0.0))
    if row.kind == "test":
        ratio = (row.high / ask.hard_limit) ** 2 if row.high is not None and ask.hard_limit else None
    else:
        ratio = _ratio(row, ask, power)
    if ratio is None and planned:  # read before the planned number: that comes first
        return Need(planned, max(weeks_left, _weeks(planned, row.n, enrolled_weeks, window_weeks) or 0.0))
    if ratio is None:
        return Need(
            None, None, "how many customers more it needs cannot be computed: what was seen is on the wrong side"
        )
    more = max(1, math.ceil(row.n * ratio) - row.n)
    weeks = _weeks(more, row.n, enrolled_weeks, window_weeks)
    return Need(more, max(weeks, weeks_left) if weeks is not None and row.validity == "look" else weeks)


def _ratio(row: Evidence, ask: Ask, power: float) -> float | None:
    """How many times the customers would show a true effect of the size seen."""
    se = _se(row)
    away = (
        (row.value - ask.threshold) * (1 if (ask.better or row.better) == "up" else -1)
        if row.value is not None
        else 0.0
    )
    if se is None or away <= 0:
        return None
    normal = NormalDist()
    return ((normal.inv_cdf(0.5 + ask.level / 2) + normal.inv_cdf(power)) * se / away) ** 2


def _weeks(more: int, n: int, enrolled_weeks: float | None, window_weeks: float) -> float | None:
    if not more:
        return None
    return more * enrolled_weeks / n + window_weeks if enrolled_weeks else None


def _size(row: Evidence, ask: Ask) -> str:
    if not ask.planned_n:
        return ""
    return f"{number(row.n, 'count')} customers of {number(ask.planned_n, 'count')} planned"


def _judged(row: Evidence, ask: Ask, state: str, why: str, conditional: bool = False, once: bool = False) -> Judged:
    unit = row.unit if row.unit in UNITS else ""
    if row.kind == "test":
        seen = f"p {number(row.p, 'p')} against {ask.threshold:g}"
    elif row.value is None:
        seen = "no value"
    elif row.low == row.high or row.kind == "exact":
        seen = f"{number(row.value, unit, ask.currency)} against {number(ask.threshold, unit, ask.currency)}"
    else:
        seen = estimate(row.value, row.low, row.high, unit, ask.currency, signed=False)
        seen += f" against {number(ask.threshold, unit, ask.currency)}"
    text = f"{row.label}: {seen} ({ask.source})" + (f"; {why}" if why else "")
    by_chance = state == FAIL and row.kind in ("interval", "test") and not once
    return Judged(row.label, state, text, row, ask, row.segment, conditional, by_chance)
