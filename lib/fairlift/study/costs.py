"""What personalisation costs per customer, so that its profit can be stated net."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from fairlift.study.clock import moment
from fairlift.study.settings import Cost

DAYS_A_YEAR = 365


def cost_per_customer(costs: Sequence[Cost], window_days: int, customers: int) -> tuple[float, float]:
    """The cost of personalising one customer over the window at full roll-out, and the cost of one exposure.

    `customers` is how many customers are served at full roll-out: costs for a year and costs paid once (spread evenly over
    their `years`) are shared among them.  Both results are money; the second is multiplied by a customer's own
    personalised exposures.

    >>> lines = [Cost(line="licence", kind="licences", amount=365_000), Cost(line="sending", kind="marketing", amount=.02, per="exposure")]
    >>> cost_per_customer(lines, window_days=50, customers=100_000)
    (0.5, 0.02)
    """
    share_of_year = window_days / DAYS_A_YEAR
    fixed = exposure = 0.0
    for cost in costs:
        if cost.per == "year":
            fixed += cost.amount * share_of_year / customers
        elif cost.per == "customer_year":
            fixed += cost.amount * share_of_year
        elif cost.per == "once":
            fixed += cost.amount / cost.years * share_of_year / customers
        else:
            exposure += cost.amount
    return fixed, exposure


def booked(rows: Sequence[Mapping]) -> list[Cost]:
    """Costs actually paid, from bookings summed by kind, each as an amount a year; what was paid once stays once.

    A row has kind, amount, from_at and until_at (stamps): the first and last moment that the bookings of its kind cover.

    >>> half = {"kind": "licences", "amount": 50_000, "from_at": "2026-01-01T00:00:00Z", "until_at": "2026-07-02T12:00:00Z"}
    >>> [(cost.kind, cost.amount, cost.per) for cost in booked([half])]
    [('licences', 100000.0, 'year')]
    """
    return [
        Cost(line=f"{row['kind']}, as booked", kind=row["kind"], amount=row["amount"], per="once")
        if row["kind"] == "one_off"
        else Cost(line=f"{row['kind']}, as booked", kind=row["kind"], amount=row["amount"] / _years(row))
        for row in rows
    ]


def _years(row: Mapping) -> float:
    begin, end = (moment(datetime.fromisoformat(row[name])) for name in ("from_at", "until_at"))
    return max((end - begin).total_seconds() / 86_400, 1.0) / DAYS_A_YEAR
