"""What personalisation costs per customer, so that its profit can be stated net."""

from __future__ import annotations

from collections.abc import Sequence

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
