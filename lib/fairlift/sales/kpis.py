"""The sales KPIs: one definition each."""

from __future__ import annotations

from fairlift.method.kpi import Kpi
from fairlift.method.metric import Mean, Proportion, Ratio

REVENUE = Kpi(
    id="sales.incremental.revenue",
    name="Revenue per customer",
    metric=Mean("revenue"),
    unit="money",
    better="up",
    requirement="sales.incremental",
    formula="sum of revenue in the window / customers assigned, buyers or not",
    pitfall="Dividing by buyers compares people whom the offers made buyers with people who bought anyway.",
)
CONTRIBUTION = Kpi(
    id="sales.incremental.contribution",
    name="Contribution per customer",
    metric=Mean("contribution"),
    unit="money",
    better="up",
    requirement="sales.profit",
    formula="(revenue - goods - refunds + goods recovered - fulfilment + supplier funding) / customers assigned",
    pitfall="Leaving out the discount turns a subsidy into a success.",
)
CONVERSION = Kpi(
    id="sales.conversion.rate",
    name="Customers who bought",
    metric=Proportion("converted"),
    unit="share",
    better="up",
    requirement="sales.conversion",
    formula="customers with at least one order in the window / customers assigned",
    pitfall="Conversion per exposure looks better the fewer customers are shown an offer.",
)
ORDER_VALUE = Kpi(
    id="sales.value.order",
    name="Average order value",
    metric=Ratio("revenue", "orders"),
    unit="money",
    better="up",
    requirement="sales.value",
    formula="sum of revenue / number of orders",
    pitfall="It falls when small extra orders are won, though revenue rises.",
)
VISIT_VALUE = Kpi(
    id="sales.value.visit",
    name="Revenue per visit",
    metric=Ratio("revenue", "sessions"),
    unit="money",
    better="up",
    requirement="sales.value",
    formula="sum of revenue / number of visits",
    pitfall="A test over visits counts one customer many times: its false alarms are about three times the stated rate.",
)
FREQUENCY = Kpi(
    id="sales.frequency.orders",
    name="Orders per customer",
    metric=Mean("orders"),
    unit="orders",
    better="up",
    requirement="sales.basket",
    formula="orders in the window / customers assigned",
    pitfall="Orders pulled forward count now and are missing later: look at a window of at least one purchase cycle.",
)
RETURNS = Kpi(
    id="sales.returns.rate",
    name="Money refunded per money sold",
    metric=Ratio("refund", "revenue"),
    unit="share",
    better="down",
    requirement="sales.profit",
    formula="sum of refunds / sum of revenue",
    pitfall="Returns come late: read it only once the return period is over.",
)
KPIS = (REVENUE, CONTRIBUTION, CONVERSION, ORDER_VALUE, VISIT_VALUE, FREQUENCY, RETURNS)
