"""The only clock: the study's `as_of`, or now where it states none.  Nothing else reads the time for a result."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo


def now() -> datetime:
    """The present moment, in UTC."""
    return datetime.now(UTC)


def moment(value: str | date | datetime, timezone: str = "UTC", end_of_day: bool = False) -> datetime:
    """A moment in UTC from what a reader may write: a day (local midnight, or its end) or a time with its zone.

    >>> moment("2026-03-29", "Europe/Berlin").isoformat()
    '2026-03-28T23:00:00+00:00'
    """
    if isinstance(value, str):
        value = date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        value = datetime.combine(value, time.max if end_of_day else time.min, ZoneInfo(timezone))
    if value.tzinfo is None:
        raise ValueError("a time needs its zone, such as 2026-03-29T08:00:00+02:00")
    return value.astimezone(UTC)


def stamp(value: datetime) -> str:
    """A moment as text, to the second, in UTC: the one form used in files.

    >>> stamp(moment("2026-03-29", "Europe/Berlin"))
    '2026-03-28T23:00:00Z'
    """
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
