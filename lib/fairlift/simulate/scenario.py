"""A scenario: every parameter of a synthetic retailer, read from one YAML file and checked."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from fairlift.errors import InputError, Problem, nearest
from fairlift.study.files import Model, read_yaml, validate
from fairlift.study.settings import Cost, Positive, Share

SCENARIOS = Path(__file__).resolve().parents[3] / "data" / "scenarios"
ARMS = ("personalised", "control", "holdout")
VARIANTS = {"personalised": "model", "control": "bestseller", "holdout": "no_offers"}
TREATMENTS = ("none", "bestseller", "personalised")
CONTRASTS = (("personalised", "holdout"), ("personalised", "control"), ("control", "holdout"))
BENEFIT = "sales.incremental.profit@all:personalised-vs-holdout"
CHUNK = 20_000  # customers drawn together; part of the random streams, so never a setting

NonNegative = Annotated[float, Field(ge=0)]


class Value(Model):
    """One value of an attribute: its share of customers, and by what it multiplies orders and prices."""

    share: Share | dict[str, Share]
    activity: Positive = 1.0
    price: Positive = 1.0


class Attribute(Model):
    """A property of customers; with `given`, its shares depend on an attribute listed before it."""

    given: str | None = None
    values: dict[str, Value] = Field(min_length=1)


class Activity(Model):
    """Orders a customer places: mean a week, the gamma shape of how customers differ, and the spread of their price level."""

    orders_a_week: Positive
    shape: Positive
    price_sigma: NonNegative


class Season(Model):
    """How demand moves: by weekday (Monday first), by local hour, and over the year around its peak day."""

    week: list[Positive] = Field(min_length=7, max_length=7)
    hours: list[Positive] = Field(min_length=24, max_length=24)
    year: Share
    peak_day: Annotated[int, Field(ge=1, le=366)]


class Category(Model):
    """A product category: share of lines, mean price, cost of goods as a share of list price, and how often it comes back."""

    share: Share
    price: Positive
    cost: Share
    returns: NonNegative = 1.0


class Basket(Model):
    """What an order holds and what handling it costs.

    `lines` is the mean number beyond the first, `quantity` the probabilities of one, two, … items; `favourite` the share of lines
    from the customer's own category; `sigma` the log-spread of prices; `resale` the share of cost recovered from returned goods;
    `redeem` how often a loyalty member pays with points, which then cover `reward` of the receipt.
    """

    categories: dict[str, Category] = Field(min_length=1)
    lines: NonNegative
    quantity: list[Share] = Field(min_length=1)
    sigma: NonNegative
    favourite: Share
    redeem: Share
    reward: Share
    resale: Share
    return_days: tuple[int, int]
    handling: NonNegative
    fulfilment: dict[str, NonNegative]
    channels: dict[str, Share]


class Novelty(Model):
    """An effect that wears off: orders are multiplied by 1 + `extra` at assignment, and `extra` halves every `half_life_weeks`."""

    extra: NonNegative
    half_life_weeks: Positive

    @property
    def decay(self) -> float:
        """By how much the logarithm of what is left falls in a week."""
        return float(np.log(2) / self.half_life_weeks)


class Treatment(Model):
    """What a customer who gets these offers does; rates of complaints and the like are per 10,000 customers and week.

    `orders` and `browsing` multiply the base rates, `novelty` what is left of orders at first, `extra_line` is the chance of one more line in the basket, `discounted` the share
    of lines sold with an offer of `depth`, of which suppliers pay `funded`; `returns` the base chance that a line comes back.
    """

    orders: Positive = 1.0
    novelty: Novelty | None = None
    browsing: Positive = 1.0
    extra_line: Share = 0.0
    discounted: Share = 0.0
    depth: Share = 0.0
    funded: Share = 0.0
    returns: Share = 0.0
    opened: Share = 0.0
    clicked: Share = 0.0
    complaints: NonNegative = 0.0
    requests: NonNegative = 0.0
    opt_outs: NonNegative = 0.0
    unsubscribes: NonNegative = 0.0
    satisfaction: float = 0.0
    answers: Share = 0.3


class Slot(Model):
    """A weekly sending time: days and hours after assignment, and the channel."""

    day: Annotated[int, Field(ge=0, le=6)]
    hour: Annotated[int, Field(ge=0, le=16)]
    channel: Literal["email", "push", "app", "site"]


class Stage(Model):
    """A stage of a ramp: from this day of the enrolment on, customers are drawn into the arms with these shares."""

    from_day: Annotated[int, Field(ge=0)]
    weights: dict[Literal["personalised", "control", "holdout"], Share]


class Less(Model):
    """A group that fewer personalised offers reach: its reach is multiplied by `factor`."""

    attribute: str
    value: str
    factor: Share


class Offers(Model):
    """How offers travel: weekly slots, chance that one is delivered, share of customers reached at all, share who agreed to personalisation.

    `leak` is a fault: the share of holdout customers who are sent personalised offers all the same.
    """

    slots: list[Slot] = Field(min_length=1)
    delivered: Share
    reach: Share
    eligible: Share
    less: list[Less] = []
    leak: Share = 0.0


class Lost(Model):
    """A logging fault: in one arm, assignments of the `quietest` share of customers go missing with chance `share`."""

    arm: Literal["personalised", "control", "holdout"]
    quietest: Share
    share: Share


class CostLine(Cost):
    """A cost as in study.yml; the amount `break_even` is solved so that the expected net profit of the launch is exactly zero."""

    amount: NonNegative | Literal["break_even"]


class Truth(Model):
    """What the right decision is, which catalogue items may be its reason, and what makes it true: label of evidence → comparison."""

    decision: Literal["go", "conditions", "no_go"]
    reasons: list[str] = []
    formula: dict[str, Annotated[str, Field(pattern=r"^(<|<=|=|>=|>) -?[\d.]+$")]] = Field(min_length=1)


class Scenario(Model):
    """Every parameter of a synthetic study; see data/scenarios/README.md for the model they belong to."""

    name: str
    sentence: str
    like: str | None = None
    customers: Annotated[int, Field(gt=0)]
    start: date
    enrolment_days: Annotated[int, Field(ge=1, le=180)]
    pre_weeks: Annotated[int, Field(ge=1, le=104)]
    window_weeks: Annotated[int, Field(ge=1, le=104)]
    settle_days: Annotated[int, Field(ge=1, le=365)]
    timezone: str
    weights: dict[Literal["personalised", "control", "holdout"], Share]
    ramp: list[Stage] = []
    entry_activity: list[Positive] = []
    attributes: dict[str, Attribute]
    stores: Annotated[int, Field(ge=1)]
    activity: Activity
    season: Season
    basket: Basket
    browsing: NonNegative
    offers: Offers
    treatments: dict[Literal["none", "bestseller", "personalised"], Treatment]
    lost: Lost | None = None
    surveyed: Share
    planned_share: Share = 0.97
    costs: list[CostLine]
    study: dict[str, Any] = {}
    plan: dict[str, Any] = {}
    answers: dict[str, Any] = {}
    truth: Truth

    @model_validator(mode="after")
    def consistent(self) -> Scenario:
        wrong = []
        for name, shares in (
            ("weights", self.weights),
            ("basket.channels", self.basket.channels),
            ("basket.quantity", dict(enumerate(self.basket.quantity))),
            ("basket.categories", {k: c.share for k, c in self.basket.categories.items()}),
        ):
            if abs(sum(shares.values()) - 1) > 1e-9:
                wrong.append(f"`{name}` adds up to {sum(shares.values()):.6g}, not 1")
        wrong += [f"`weights` says nothing of {arm}" for arm in ARMS if not self.weights.get(arm)]
        wrong += self._wrong_ramp()
        wrong += [f"`treatments` says nothing of {name}" for name in TREATMENTS if name not in self.treatments]
        wrong += [
            f"`basket.fulfilment` says nothing of {name}"
            for name in self.basket.channels
            if name not in self.basket.fulfilment
        ]
        wrong += [
            f"`attributes` lacks {name}"
            for name in ("age_band", "region", "loyalty_member")
            if name not in self.attributes
        ]
        wrong += [text for name in self.attributes for text in self._wrong_shares(name)]
        wrong += [
            f"`offers.less` names {less.attribute}={less.value}, which no customer has"
            for less in self.offers.less
            if less.attribute not in self.attributes or less.value not in self.attributes[less.attribute].values
        ]
        wrong += [
            f"age band `{band}` is not one of {', '.join(AGES)}" for band in self.values("age_band") if band not in AGES
        ]
        if self.settle_days <= self.basket.return_days[1]:
            wrong.append(
                f"`settle_days` must exceed the last return, {self.basket.return_days[1]} days after the order"
            )
        if sum(cost.amount == "break_even" for cost in self.costs) > 1:
            wrong.append("only one cost can be solved for `break_even`")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def _wrong_ramp(self) -> list[str]:
        if not self.ramp:
            return []
        days, wrong = [stage.from_day for stage in self.ramp], []
        if days[0] != 0 or days != sorted(set(days)) or days[-1] >= self.enrolment_days:
            wrong.append("the stages of `ramp` must start on day 0 and follow each other within `enrolment_days`")
        if self.ramp[-1].weights != self.weights:
            wrong.append("`weights` must be those of the last stage of `ramp`")
        for stage in self.ramp:
            where = f"`ramp` from day {stage.from_day}"
            if abs(sum(stage.weights.values()) - 1) > 1e-9:
                wrong.append(f"{where}: the weights add up to {sum(stage.weights.values()):.6g}, not 1")
            wrong += [f"{where} says nothing of {arm}" for arm in ARMS if not stage.weights.get(arm)]
            if stage.weights.get("holdout") != self.weights.get("holdout"):
                wrong.append(f"{where}: the holdout's share changes; in a ramp it must stay as it is")
        return wrong

    def _wrong_shares(self, name: str) -> list[str]:
        attribute = self.attributes[name]
        names = list(self.attributes)
        if attribute.given is not None and attribute.given not in names[: names.index(name)]:
            return [f"`attributes.{name}` depends on {attribute.given}, which must be listed before it"]
        groups = self.values(attribute.given) if attribute.given else ["all"]
        wrong = []
        for group in groups:
            shares = [
                v.share.get(group, 0) if isinstance(v.share, dict) else v.share for v in attribute.values.values()
            ]
            if abs(sum(shares) - 1) > 1e-9:
                wrong.append(f"the shares of `attributes.{name}` add up to {sum(shares):.6g} for {group}, not 1")
        return wrong

    def values(self, attribute: str) -> list[str]:
        return list(self.attributes[attribute].values) if attribute in self.attributes else []

    @property
    def window_days(self) -> int:
        return 7 * self.window_weeks

    @property
    def ends(self) -> date:
        """The local day on which the last outcome window closes."""
        return self.start + timedelta(days=self.enrolment_days - 1 + self.window_days)

    @property
    def as_of(self) -> date:
        return self.ends + timedelta(days=self.settle_days)

    @property
    def mean_weights(self) -> dict[str, float]:
        """The share of customers drawn into each arm over all enrolment days."""
        days = np.bincount(self.stage_of_day) / self.enrolment_days
        parts = list(zip(days, self.stages, strict=True))
        return {arm: float(sum(share * stage.weights[arm] for share, stage in parts)) for arm in ARMS}

    @property
    def stages(self) -> list[Stage]:
        """The stages of the ramp; without one, the weights from the first day on."""
        return self.ramp or [Stage(from_day=0, weights=self.weights)]

    @property
    def stage_of_day(self) -> np.ndarray:
        """Which stage of the ramp each enrolment day belongs to; 0 where there is none."""
        return np.searchsorted([stage.from_day for stage in self.stages[1:]], np.arange(self.enrolment_days), "right")

    @property
    def entry_factor(self) -> np.ndarray:
        """By what the orders of customers who enrol on each day are multiplied; the last week's factor holds on."""
        factors = np.array(self.entry_activity or [1.0])
        return factors[np.minimum(np.arange(self.enrolment_days) // 7, len(factors) - 1)]

    @property
    def highest_orders(self) -> float:
        """The highest multiplier of orders that any treatment ever has."""
        novelty = np.array([one.extra if one else 0.0 for one in (self.treatments[t].novelty for t in TREATMENTS)])
        return float((self.effect("orders") * (1 + novelty)).max())

    def effect(self, name: str) -> np.ndarray:
        """One parameter of the treatments as an array in the order of `TREATMENTS`."""
        return np.array([getattr(self.treatments[treatment], name) for treatment in TREATMENTS])


AGES = {
    "under 25": (18, 24),
    "25-34": (25, 34),
    "35-44": (35, 44),
    "45-54": (45, 54),
    "55-64": (55, 64),
    "65 and over": (65, 89),
}


def scenarios() -> list[str]:
    """The names of the scenarios that come with Fairlift."""
    return sorted(path.stem for path in SCENARIOS.glob("*.yml"))


def read_scenario(scenario: str | Path) -> Scenario:
    """A scenario by its name in data/scenarios, or from a file; with `like`, it changes another one key by key.

    Raises `InputError` with every problem at once.

    >>> read_scenario("break-even").truth.decision
    'no_go'
    """
    path = _path(scenario)
    found = _merged(path, seen=())
    return validate(found, Scenario, path.name, path.read_text(encoding="utf-8"))


def _path(scenario: str | Path, beside: Path = SCENARIOS) -> Path:
    if isinstance(scenario, Path) or str(scenario).endswith((".yml", ".yaml")):
        return Path(scenario)
    path = next(
        (folder / f"{scenario}.yml" for folder in (beside, SCENARIOS) if (folder / f"{scenario}.yml").exists()), None
    )
    if path is None:
        raise InputError(Problem("scenario", f"there is no scenario `{scenario}`", nearest(str(scenario), scenarios())))
    return path


def _merged(path: Path, seen: tuple[Path, ...]) -> dict:
    found = read_yaml(path)
    if not isinstance(found.get("like"), str):
        return found
    if path in seen:
        raise InputError(Problem(path.name, "`like` leads back to the same file", "start one of them without `like`"))
    return _over(_merged(_path(found["like"], path.parent), (*seen, path)), found)


def _over(base: dict, changes: dict) -> dict:
    """The base with changes laid over it, mapping by mapping; an answer and a formula replace the old one whole."""
    merged = dict(base)
    for key, value in changes.items():
        deep = isinstance(value, dict) and isinstance(base.get(key), dict) and key != "formula"
        if deep and key == "answers":
            merged[key] = base[key] | value
        else:
            merged[key] = _over(base[key], value) if deep else value
    return merged
