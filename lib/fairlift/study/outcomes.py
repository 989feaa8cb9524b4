"""Which outcome of the mart needs which columns of the contract: stated once, used by prepare and by the book."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from fairlift.study.contract import contract

if TYPE_CHECKING:
    import ibis

Amount = Callable[["ibis.Table"], "ibis.Value"]

LOWER_PROFIT = ("cost_of_goods", "refund", "fulfilment_cost")
RAISE_PROFIT = ("cost_recovered", "supplier_funding")


@dataclass(frozen=True)
class Outcome:
    """One additive outcome: what a row of `table` adds to it on the day of `time`.

    `needs` are the columns of that table it cannot do without, `uses` those it takes where they are; `whole` marks counts.
    """

    name: str
    table: str
    time: str
    amount: Amount
    needs: tuple[str, ...]
    sentence: str
    unit: str = "count"
    uses: tuple[str, ...] = ()
    whole: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        """The contract columns it needs, as table.column."""
        places = PLACES.get(self.table, {})
        return tuple(
            f"{places.get(name, self.table)}.{name}" for name in dict.fromkeys(("customer_id", self.time, *self.needs))
        )


@dataclass(frozen=True)
class Flag:
    """A 0/1 outcome: whether the unit had at least one of `of` in its window."""

    name: str
    of: str
    sentence: str


def _one(table: ibis.Table) -> ibis.Value:
    import ibis

    return ibis.literal(1)


def _sum(name: str) -> Amount:
    return lambda table: table[name].fill_null(0)


def _true(name: str) -> Amount:
    return lambda table: table[name].fill_null(False).cast("int64")


def _withdrawn(*purposes: str) -> Amount:
    return lambda table: (table.purpose.isin(purposes) & ~table.given).fill_null(False).cast("int64")


def _contribution(table: ibis.Table) -> ibis.Value:
    value = table.revenue
    for name in LOWER_PROFIT:
        value = value - table[name].fill_null(0)
    for name in RAISE_PROFIT:
        if name in table.columns:
            value = value + table[name].fill_null(0)
    return value


# The lines of an order happen when the order does, to the customer of the order.
PLACES = {"order_lines": {"customer_id": "orders", "ordered_at": "orders"}}

OUTCOMES = (
    Outcome("orders", "orders", "ordered_at", _one, (), "Orders placed."),
    Outcome(
        "revenue",
        "orders",
        "ordered_at",
        _sum("revenue"),
        ("revenue",),
        "Money paid, before refunds.",
        "money",
        (),
        False,
    ),
    Outcome(
        "discount",
        "orders",
        "ordered_at",
        _sum("discount"),
        ("discount",),
        "Money taken off the list price.",
        "money",
        (),
        False,
    ),
    Outcome(
        "refund",
        "orders",
        "ordered_at",
        _sum("refund"),
        ("refund",),
        "Money paid back for these orders, whenever that was.",
        "money",
        (),
        False,
    ),
    Outcome(
        "returned_orders",
        "orders",
        "ordered_at",
        lambda table: (table.refund > 0).fill_null(False).cast("int64"),
        ("refund",),
        "Orders with a refund.",
    ),
    Outcome(
        "contribution",
        "orders",
        "ordered_at",
        _contribution,
        ("revenue", *LOWER_PROFIT),
        "Revenue − cost of goods − refund + cost recovered − fulfilment + supplier funding.",
        "money",
        RAISE_PROFIT,
        False,
    ),
    Outcome(
        "items", "order_lines", "ordered_at", _sum("quantity"), ("order_id", "quantity"), "Items bought.", whole=False
    ),
    Outcome("sessions", "sessions", "started_at", _one, (), "Visits to site, app or store."),
    Outcome(
        "seconds",
        "sessions",
        "started_at",
        _sum("seconds"),
        ("seconds",),
        "Time spent in visits.",
        "seconds",
        (),
        False,
    ),
    Outcome("pages", "sessions", "started_at", _sum("pages"), ("pages",), "Pages or screens seen."),
    Outcome("exposures", "exposures", "shown_at", _one, (), "Offers delivered."),
    Outcome(
        "personalised_exposures",
        "exposures",
        "shown_at",
        _true("personalised"),
        ("personalised",),
        "Offers chosen from the customer's data.",
    ),
    Outcome("opened", "exposures", "opened_at", _one, (), "Offers opened, on the day they were."),
    Outcome("clicked", "exposures", "clicked_at", _one, (), "Offers clicked, on the day they were."),
    Outcome("complaints", "complaints", "received_at", _one, (), "Complaints received."),
    Outcome("privacy_requests", "privacy_requests", "received_at", _one, (), "Requests under data-protection law."),
    Outcome(
        "opted_out",
        "consents",
        "recorded_at",
        _withdrawn("personalisation"),
        ("purpose", "given"),
        "Withdrawals from personalisation.",
    ),
    Outcome(
        "unsubscribed",
        "consents",
        "recorded_at",
        _withdrawn("email", "push"),
        ("purpose", "given"),
        "Withdrawals from e-mail or push.",
    ),
)

FLAGS = (
    Flag("converted", "orders", "Whether there was an order."),
    Flag("visited", "sessions", "Whether there was a visit."),
    Flag("complained", "complaints", "Whether there was a complaint."),
    Flag("requested", "privacy_requests", "Whether there was a request."),
    Flag("opted_out", "opted_out", "Whether the customer withdrew from personalisation."),
    Flag("unsubscribed", "unsubscribed", "Whether the customer withdrew from e-mail or push."),
)


def available(columns: Collection[str], margin: float | None) -> list[Outcome]:
    """The outcomes that a study with these contract columns (table.column) has.

    Without the costs of its orders a study may state a margin: contribution is then margin × (revenue − refund).
    """
    found = [outcome for outcome in OUTCOMES if set(outcome.columns) <= set(columns)]
    rough = by_margin(margin) if margin is not None else None
    if rough and "contribution" not in {outcome.name for outcome in found} and set(rough.columns) <= set(columns):
        found.append(rough)
    return found


def by_margin(margin: float) -> Outcome:
    """Contribution where the study states a margin instead of the costs of each order."""

    def amount(table: ibis.Table) -> ibis.Value:
        refund = table.refund.fill_null(0) if "refund" in table.columns else 0
        return (table.revenue - refund) * margin

    sentence = "Margin × (revenue − refund)."
    return Outcome("contribution", "orders", "ordered_at", amount, ("revenue",), sentence, "money", ("refund",), False)


def outcomes() -> pd.DataFrame:
    """Every outcome of the mart: its name, unit, the contract columns it needs and uses, and one sentence.

    >>> frame = outcomes().set_index("outcome")
    >>> frame.loc["converted", "needs"]
    ('orders.customer_id', 'orders.ordered_at')
    """
    rows = [
        {
            "outcome": one.name,
            "unit": one.unit,
            "needs": one.columns,
            "uses": tuple(f"{one.table}.{name}" for name in one.uses),
            "additive": True,
            "sentence": one.sentence,
        }
        for one in OUTCOMES
    ]
    named = {row["outcome"]: row for row in rows}
    for flag in FLAGS:
        row = named[flag.of] | {"outcome": flag.name, "unit": "share", "additive": False, "sentence": flag.sentence}
        if flag.name in named:
            rows[rows.index(named[flag.name])] = row
        else:
            rows.append(row)
    return pd.DataFrame(rows)


def data_dictionary() -> pd.DataFrame:
    """One row a column of the contract: table, column, type, unit, need, rule and its sentence.

    >>> data_dictionary().query("table == 'orders' and column == 'revenue'").rule.item()
    '0 or more'
    """
    rows = []
    for table in contract().values():
        for column in table.columns.values():
            rows.append(
                {
                    "table": table.name,
                    "table_required": table.required,
                    "column": column.name,
                    "type": column.type,
                    "unit": column.unit,
                    "need": column.need,
                    "rule": _rule(column.low, column.high, column.values),
                    "sentence": column.sentence,
                }
            )
    return pd.DataFrame(rows)


def _rule(low: float | None, high: float | None, values: tuple[str, ...]) -> str:
    if values:
        return "one of " + ", ".join(values)
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    return f"{low:g} or more" if low is not None else ""
