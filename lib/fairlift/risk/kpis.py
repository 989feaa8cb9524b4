"""The risk KPIs that have a counterpart in the holdout: one definition each."""

from __future__ import annotations

from fairlift.method.kpi import Kpi
from fairlift.method.metric import Proportion

COMPLAINTS = Kpi(
    id="risk.complaints.rate",
    name="Customers who complained",
    metric=Proportion("complained"),
    unit="share",
    better="down",
    requirement="risk.complaints",
    formula="customers with at least one complaint in the window / customers assigned",
    pitfall="Dropping those who opted out hides the people who complained most.",
)
UNSUBSCRIBED = Kpi(
    id="risk.optout.unsubscribed",
    name="Customers who unsubscribed",
    metric=Proportion("unsubscribed"),
    unit="share",
    better="down",
    requirement="risk.optout",
    formula="customers who withdrew consent to e-mail or push in the window / customers assigned",
    pitfall="A holdout that gets no messages has little to unsubscribe from: read the control beside it.",
)
OPTED_OUT = Kpi(
    id="risk.optout.rate",
    name="Customers who opted out of personalisation",
    metric=Proportion("opted_out"),
    unit="share",
    better="down",
    requirement="risk.optout",
    formula="customers who withdrew consent to personalisation in the window / customers assigned",
    pitfall="The holdout has no personalisation to opt out of: judge the share itself, not only the difference.",
)
REQUESTS = Kpi(
    id="risk.requests.rate",
    name="Customers who made a privacy request",
    metric=Proportion("requested"),
    unit="share",
    better="down",
    requirement="risk.complaints",
    formula="customers with at least one privacy request in the window / customers assigned",
    pitfall="Fewer requests may mean a form that does not work.",
)
KPIS = (COMPLAINTS, UNSUBSCRIBED, OPTED_OUT, REQUESTS)
