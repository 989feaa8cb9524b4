"""The known truth: expected values from the parameters, and exact paired values for the customers drawn.

Both end in the same shape, `Means`: one number a customer, metric and arm, had every eligible customer been in that arm.  Effects
are differences of these; a ratio is a ratio of means.  In the population everything has a closed form: given what a customer is
(a cell of attributes), when she enrols and which treatment she receives, orders are Poisson with a gamma-distributed mean, so that

    expected orders      rate × multiplier × demand in the window   (a multiplier that fades is integrated over it)
    P(at least one)      1 − (1 + expected / shape) ** −shape
    money                expected orders × expected lines × expected price × …   (all drawn independently)
    P(one withdrawal)    1 − exp(−rate × window)

and cells, days and treatments are summed with their probabilities.  Rounding prices to cents does not move these means by more
than 1e-6 of their size, because prices spread over hundreds of cents.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from fairlift.errors import InputError, Problem, Refusal
from fairlift.simulate.calendar import WEEK, calendar
from fairlift.simulate.chunk import Chunk, met
from fairlift.simulate.offers import show, slots
from fairlift.simulate.orders import sell
from fairlift.simulate.people import NONE, PERSONALISED, factors, reach_factor, table
from fairlift.simulate.scenario import ARMS, CONTRASTS, TREATMENTS, Scenario
from fairlift.simulate.voice import PER
from fairlift.study.costs import cost_per_customer
from fairlift.study.settings import Cost

# evidence id -> mean it compares, or (numerator, denominator)
EFFECTS = {
    "sales.incremental.revenue": "revenue",
    "sales.incremental.revenue_adjusted": "revenue",
    "sales.incremental.contribution": "contribution",
    "sales.conversion.rate": "converted",
    "sales.value.order": ("revenue", "orders"),
    "sales.value.visit": ("revenue", "sessions"),
    "sales.frequency.orders": "orders",
    "sales.returns.rate": ("refund", "revenue"),
    "risk.complaints.rate": "complained",
    "risk.optout.rate": "opted_out",
    "risk.optout.unsubscribed": "unsubscribed",
    "risk.requests.rate": "requested",
}
FAIRNESS = "ethics.fairness.exposure"


@dataclass(frozen=True)
class Means:
    """`arms[arm][metric]`: mean a customer over the window; `reached[(attribute, value)]`: (share of customers, share with a personalised offer)."""

    arms: dict[str, dict[str, float]]
    reached: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)


def population(s: Scenario) -> Means:
    """Expected means in each arm, in closed form.

    >>> from fairlift.simulate.scenario import read_scenario
    >>> means = population(read_scenario("no-effect"))
    >>> means.arms["personalised"]["revenue"] == means.arms["holdout"]["revenue"]
    True
    """
    cells = _cells(s)
    received = {
        "holdout": np.full_like(cells.share, s.offers.leak),
        "control": np.full_like(cells.share, s.offers.reach),
        "personalised": s.offers.reach * reach_factor(s, cells.codes, len(cells.share)),
    }
    alone = _under(s, cells, NONE)
    arms = {}
    for arm in ARMS:
        other = _under(s, cells, TREATMENTS.index({"control": "bestseller"}.get(arm, "personalised")))
        reach = received[arm]
        arms[arm] = {
            name: float(np.dot(cells.share, reach * other[name] + (1 - reach) * alone[name])) for name in alone
        }
    exposed = received["personalised"] * _exposed(s)
    reached = {
        (name, value): (
            float(cells.share[here].sum()),
            float(np.dot(cells.share[here], exposed[here]) / cells.share[here].sum()),
        )
        for name in s.attributes
        for place, value in enumerate(s.values(name))
        if (here := cells.codes[name] == place).any() and cells.share[here].sum() > 0
    }
    return Means(arms, reached)


@dataclass(frozen=True)
class Cells:
    """Every combination of attributes: its share of customers, factor on orders and on prices, and whether it is a member."""

    codes: dict[str, np.ndarray]
    share: np.ndarray
    activity: np.ndarray
    price: np.ndarray
    member: np.ndarray


def _cells(s: Scenario) -> Cells:
    codes: dict[str, np.ndarray] = {}
    share = activity = price = np.ones(1)
    for name, attribute in s.attributes.items():
        size, old = len(attribute.values), len(share)
        row = codes[attribute.given] if attribute.given else np.zeros(old, dtype=np.int8)
        codes = {known: np.repeat(places, size) for known, places in codes.items()}
        codes[name] = np.tile(np.arange(size), old)
        share = np.repeat(share, size) * table(s, attribute)[row].ravel()
        activity = np.repeat(activity, size) * factors(attribute, "activity")[codes[name]]
        price = np.repeat(price, size) * factors(attribute, "price")[codes[name]]
    return Cells(codes, share, activity, price, codes["loyalty_member"] == s.values("loyalty_member").index("yes"))


def _under(s: Scenario, cells: Cells, treatment: int) -> dict[str, np.ndarray]:
    """Expected values of each cell under one treatment, over the enrolment days."""
    names = [name for name in s.treatments["none"].__class__.model_fields if name != "novelty"]
    effect = {name: float(s.effect(name)[treatment]) for name in names}
    when, basket, weeks = calendar(s), s.basket, s.window_weeks
    demand = when.demand(when.batches, when.batches + when.window) * s.entry_factor
    # what is bought in the window, counting the novelty: by how much each week of demand is multiplied on average
    bought, novelty = demand, s.treatments[TREATMENTS[treatment]].novelty
    if novelty:
        bought = demand + novelty.extra * when.fading(when.batches, novelty.decay) * s.entry_factor
    rate = s.activity.orders_a_week * cells.activity * effect["orders"]
    orders = rate * bought.mean()
    shape = s.activity.shape
    converted = np.mean([1 - (1 + rate * weeks_of_demand / shape) ** -shape for weeks_of_demand in bought], axis=0)
    kinds = list(basket.categories.values())
    share, price, cost, returns = (
        np.array([getattr(kind, name) for kind in kinds]) for name in ("share", "price", "cost", "returns")
    )
    items = float(np.dot(np.arange(1, len(basket.quantity) + 1), basket.quantity))
    lines = orders * (1 + basket.lines + effect["extra_line"])
    off = effect["discounted"] * effect["depth"]
    back = effect["returns"] * returns
    listed = lines * cells.price * items
    paid = (1 - off) * (1 - cells.member * basket.redeem * basket.reward)
    fee = sum(basket.channels[name] * round(basket.fulfilment[name], 2) for name in basket.channels)
    found = {
        "orders": orders,
        "converted": converted,
        "revenue": listed * paid * np.dot(share, price),
        "discount": listed * off * np.dot(share, price),
        "cost_of_goods": listed * np.dot(share, price * cost),
        "refund": listed * paid * np.dot(share, price * back),
        "cost_recovered": listed * basket.resale * np.dot(share, price * cost * back),
        "fulfilment_cost": orders * fee + lines * round(basket.handling, 2) * np.dot(share, back),
        "items": lines * items,
        "sessions": orders
        + s.activity.orders_a_week * cells.activity * s.browsing * effect["browsing"] * demand.mean(),
    }
    found["supplier_funding"] = effect["funded"] * found["discount"]
    found["contribution"] = (
        found["revenue"]
        - found["cost_of_goods"]
        - found["refund"]
        + found["cost_recovered"]
        - found["fulfilment_cost"]
        + found["supplier_funding"]
    )
    same = np.ones_like(cells.share)
    for name, kind in (
        ("complained", "complaints"),
        ("requested", "requests"),
        ("opted_out", "opt_outs"),
        ("unsubscribed", "unsubscribes"),
    ):
        found[name] = same * -np.expm1(-effect[kind] / PER * weeks)
    personalised = treatment == PERSONALISED
    stays, subscribed = _stay(s, "opt_outs", treatment), _stay(s, "unsubscribes", treatment)
    shown = s.offers.delivered * subscribed
    found["exposures"] = same * (shown.sum() if treatment != NONE else 0.0)
    found["personalised_exposures"] = same * (np.dot(shown, stays) if personalised else 0.0)
    return found


def weekly_effect(s: Scenario) -> np.ndarray:
    """Expected revenue a customer that personalised has more than the holdout in each week since assignment, in closed form.

    >>> from fairlift.simulate.scenario import read_scenario
    >>> s = read_scenario("novelty")
    >>> means, weekly = population(s).arms, weekly_effect(s)
    >>> bool(abs(weekly.sum() - means["personalised"]["revenue"] + means["holdout"]["revenue"]) < 1e-9)
    True
    """
    cells, when = _cells(s), calendar(s)
    reach = cells.share * s.offers.reach * reach_factor(s, cells.codes, len(cells.share))
    total = np.zeros(s.window_weeks)
    for treatment, sign in ((PERSONALISED, 1), (NONE, -1)):
        novelty = s.treatments[TREATMENTS[treatment]].novelty
        bought = [0.0]
        for week in range(1, s.window_weeks + 1):
            part = replace(when, window=week * WEEK)
            demand = part.demand(part.batches, part.batches + part.window)
            if novelty:
                demand = demand + novelty.extra * part.fading(part.batches, novelty.decay)
            bought.append(float((demand * s.entry_factor).mean()))
        revenue = float(np.dot(reach, _under(s, cells, treatment)["revenue"]))
        total += sign * revenue * np.diff(bought) / bought[-1]
    return total


def _stay(s: Scenario, kind: str, treatment: int) -> np.ndarray:
    """Chance that at each sending time the customer has not yet withdrawn; leaving the e-mail list stops e-mail only."""
    plan = slots(s)
    stays = np.exp(-s.effect(kind)[treatment] / PER * plan.after / WEEK)
    return np.where(plan.email, stays, 1.0) if kind == "unsubscribes" else stays


def _exposed(s: Scenario) -> float:
    """Chance that a reached customer is shown at least one personalised offer before she withdraws."""
    plan, missed = slots(s), 1 - s.offers.delivered
    last = len(plan.after)

    def leaves(kind: str) -> np.ndarray:  # chance of withdrawing before each place in the plan, or never
        left = -np.expm1(-s.effect(kind)[PERSONALISED] / PER * plan.after / WEEK)
        return np.diff(np.concatenate([[0.0], left, [1.0]]))

    opts, unsubscribes = leaves("opt_outs"), leaves("unsubscribes")
    none = 0.0
    for stop in range(last + 1):
        for off_list in range(last + 1):
            sent = np.arange(last) < stop
            sent &= ~plan.email | (np.arange(last) < off_list)
            none += opts[stop] * unsubscribes[off_list] * missed ** sent.sum()
    return 1 - none


class Tally:
    """Adds up, chunk by chunk, what each eligible customer would do in each arm; `means()` are exact for the customers drawn."""

    def __init__(self, s: Scenario):
        self.s, self.n = s, 0
        self.sums: dict[str, dict[str, float]] = {arm: {} for arm in ARMS}
        self.groups: dict[tuple[str, str], np.ndarray] = {}

    def add(self, chunk: Chunk) -> None:
        """Add one chunk."""
        eligible = chunk.people.eligible
        self.n += int(eligible.sum())
        for arm, treatment in zip(ARMS, chunk.people.received, strict=True):
            found = outcomes(self.s, chunk, treatment)
            for name, values in found.items():
                self.sums[arm][name] = self.sums[arm].get(name, 0.0) + float(values[eligible].sum())
            if arm == "personalised":
                exposed = found["personalised_exposures"] > 0
                for name in self.s.attributes:
                    for place, value in enumerate(self.s.values(name)):
                        here = eligible & (chunk.people.codes[name] == place)
                        seen = np.array([here.sum(), exposed[here].sum()])
                        self.groups[name, value] = self.groups.get((name, value), 0) + seen

    def means(self) -> Means:
        """Means over the eligible customers added so far."""
        if not self.n:
            raise Refusal("none of the customers drawn agreed to personalisation: simulate more of them")
        arms = {arm: {name: total / self.n for name, total in sums.items()} for arm, sums in self.sums.items()}
        return Means(arms, {key: (n / self.n, hits / n) for key, (n, hits) in self.groups.items() if n})


def outcomes(s: Scenario, chunk: Chunk, treatment: np.ndarray) -> dict[str, np.ndarray]:
    """What each customer does in her window under a treatment (one entry a customer); money in whole currency units."""
    n, people, visits, same = chunk.people.n, chunk.people, chunk.visits, treatment is chunk.people.treatment
    placed = chunk.sold.kept if same else chunk.possible.kept(s, met(treatment, chunk.possible))
    visited = visits.kept(s, met(treatment, visits), placed) & visits.in_window
    possible = chunk.possible if same else chunk.possible.inside
    sold = chunk.sold if same else sell(s, chunk.calendar, possible, met(treatment, possible))
    kept = sold.kept & possible.in_window
    buyers = possible.owner[kept]

    def by_order(values: np.ndarray) -> np.ndarray:
        return np.bincount(buyers, values[kept], n)

    found = {"orders": np.bincount(buyers, minlength=n).astype(float)}
    found |= {name: by_order(getattr(sold, name)) / 100 for name in ("revenue", "discount", "refund", "contribution")}
    found["items"] = by_order(sold.items)
    found["returned_orders"] = by_order(sold.refund > 0)
    found["sessions"] = np.bincount(visits.owner[visited], minlength=n).astype(float)
    for name in ("seconds", "pages"):
        found[name] = np.bincount(visits.owner[visited], getattr(visits, name)[visited], n)
    shown = chunk.shown if same else show(s, chunk.delivered, treatment, chunk.withdrawals)
    found["exposures"] = np.bincount(shown.owner, minlength=n).astype(float)
    found["personalised_exposures"] = np.bincount(shown.owner, shown.personalised, n)
    for name, letters in (("complaints", chunk.complaints), ("privacy_requests", chunk.requests)):
        written = letters.kept(s, met(treatment, letters)) & letters.in_window
        found[name] = np.bincount(letters.owner[written], minlength=n).astype(float)
    opted_out, unsubscribed = chunk.withdrawals.under(s, treatment)
    found["opted_out"] = (opted_out < chunk.calendar.window) * people.eligible * 1.0
    found["unsubscribed"] = (unsubscribed < chunk.calendar.window) * people.eligible * 1.0
    for flag, count in (
        ("converted", "orders"),
        ("visited", "sessions"),
        ("complained", "complaints"),
        ("requested", "privacy_requests"),
    ):
        found[flag] = (found[count] > 0) * 1.0
    return found


def costs_of(s: Scenario, customers: int) -> list[Cost]:
    """The costs of a scenario, with the break-even amount solved from the expected contribution.

    >>> from fairlift.simulate.scenario import BENEFIT, read_scenario
    >>> s = read_scenario("break-even")
    >>> profit = effects(population(s), costs_of(s, s.customers), s.window_days, s.customers)[BENEFIT]
    >>> abs(profit) < 1e-12
    True
    """
    rollout = s.study.get("rollout_customers") or customers
    known = [Cost(**cost.model_dump()) for cost in s.costs if cost.amount != "break_even"]
    solved = next((cost for cost in s.costs if cost.amount == "break_even"), None)
    if solved is None:
        return known
    means = population(s)
    personalised, holdout = means.arms["personalised"], means.arms["holdout"]
    fixed, per_exposure = cost_per_customer(known, s.window_days, rollout)
    left = (
        personalised["contribution"]
        - holdout["contribution"]
        - fixed
        - per_exposure * personalised["personalised_exposures"]
    )
    one, each = cost_per_customer([Cost(**solved.model_dump() | {"amount": 1.0})], s.window_days, rollout)
    amount = left / (one + each * personalised["personalised_exposures"])
    if amount < 0:
        raise InputError(
            Problem(
                "costs",
                f"`{solved.line}` would have to be negative to break even",
                "raise the effect, or lower other costs",
            )
        )
    return [Cost(**cost.model_dump() | ({"amount": amount} if cost is solved else {})) for cost in s.costs]


def effects(
    means: Means, costs: Iterable[Cost], window_days: int, rollout: int, protected: Iterable[str] = ()
) -> dict[str, float]:
    """Every effect by the label of its evidence."""
    fixed, per_exposure = cost_per_customer(costs, window_days, rollout)
    cost = dict.fromkeys(ARMS, 0.0)
    cost["personalised"] = fixed + per_exposure * means.arms["personalised"]["personalised_exposures"]
    found = {}
    for arm, versus in CONTRASTS:
        one, two = means.arms[arm], means.arms[versus]
        pair = f"@all:{arm}-vs-{versus}"
        for name, metric in EFFECTS.items():
            over, under = metric if isinstance(metric, tuple) else (metric, None)
            if under is None:
                found[name + pair] = one[over] - two[over]
            elif one[under] > 0 and two[under] > 0:  # a ratio to nothing is no effect
                found[name + pair] = one[over] / one[under] - two[over] / two[under]
        spent = cost[arm] - cost[versus]
        profit = one["contribution"] - two["contribution"] - spent
        found["sales.incremental.profit" + pair] = profit
        if spent > 0:
            found["sales.roi.ratio" + pair] = profit / spent
        if two["revenue"] > 0:
            found["sales.incremental.lift" + pair] = one["revenue"] / two["revenue"] - 1
    for name in protected:
        everyone = {key: seen for key, seen in means.reached.items() if key[0] == name}
        for (_, value), (share, hits) in everyone.items():
            if share < 1 - 1e-12:
                rest = sum(n * h for n, h in everyone.values()) - share * hits
                found[f"{FAIRNESS}@{name}={value}:personalised"] = hits - rest / (1 - share)
    return found


def holds(formula: Mapping[str, str], found: Mapping[str, float]) -> dict[str, bool]:
    """Each line of a scenario's formula, judged by the effects found; equality means within 1e-9.

    >>> holds({"sales.roi.ratio@all:personalised-vs-holdout": "> 0.5"}, {"sales.roi.ratio@all:personalised-vs-holdout": 0.7})
    {'sales.roi.ratio@all:personalised-vs-holdout': True}
    """
    judged = {}
    for label, text in formula.items():
        sign, number = re.fullmatch(r"(\S+) (\S+)", text).groups()
        gap = found[label] - float(number)
        equal = abs(gap) < 1e-9
        judged[label] = {
            "=": equal,
            "<": gap < 0 and not equal,
            ">": gap > 0 and not equal,
            "<=": gap < 0 or equal,
            ">=": gap > 0 or equal,
        }[sign]
    return judged


def lost_share(s: Scenario) -> dict[str, float]:
    """The expected share of one arm's assignments that a logging fault loses, under its own label."""
    return {"method.srm.lost@all": s.lost.quietest * s.lost.share if s.lost else 0.0}


def leaked_share(s: Scenario) -> dict[str, float]:
    """The expected share of each other arm that is shown a personalised offer, under its own label."""
    share = {"control": 0.0, "holdout": float(s.offers.leak * _exposed(s)) if s.offers.leak else 0.0}
    return {f"method.contamination.share@all:{arm}": seen for arm, seen in share.items()}
