"""study.yml: what is launched, where, at what cost, and where the tables are."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, field_validator, model_validator

from fairlift.study.clock import moment, now
from fairlift.study.contract import contract
from fairlift.study.files import Model

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]

# What the context flags mean.  A flag left out is unknown, and unknown means that every duty hanging on it applies.
CONTEXT = {
    "children": "Children may be among the customers.",
    "personal_prices": "The price itself, not only the offer, depends on the person.",
    "sensitive_categories": "Offers draw on health, belief or other special categories.",
    "transfers": "Personal data leave the market they were collected in.",
    "automated_decisions": "A decision with legal or similar effect is taken without a person.",
    "vendors": "Other companies process the data.",
    "large_scale": "Many people are profiled, over a long time.",
}


class Period(Model):
    """First and last day of the experiment, local."""

    start: date
    end: date

    @model_validator(mode="after")
    def ordered(self) -> Period:
        if self.end < self.start:
            raise ValueError(f"ends ({self.end}) before it starts ({self.start})")
        return self


class Arms(Model):
    """Which variants of the assignments table belong to which arm."""

    personalised: list[str] = Field(min_length=1)
    control: list[str] = []
    holdout: list[str] = []

    @model_validator(mode="after")
    def apart(self) -> Arms:
        named = [*self.personalised, *self.control, *self.holdout]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(f"variant {', '.join(twice)} stands in two arms")
        if not (self.control or self.holdout):
            raise ValueError("there is nothing to compare with: name the variants of a control or a holdout")
        return self

    def of_variant(self) -> dict[str, str]:
        """The arm of every named variant; an arm of several variants is one arm each, named ARM or ARM/VARIANT."""
        found: dict[str, str] = {}
        for arm, variants in (
            ("personalised", self.personalised),
            ("control", self.control),
            ("holdout", self.holdout),
        ):
            for variant in variants:
                found[variant] = arm if len(variants) == 1 else f"{arm}/{variant}"
        return found


class Factor(Model):
    """A channel drawn on or off for the same customers: its experiment in the assignments, and its variants that are on."""

    experiment: str
    on: list[str] = Field(min_length=1)


class Cost(Model):
    """One line of what personalisation costs.

    `per` says what the amount is for: a year, a customer and year, an exposure, or once (then spread over `years`).
    """

    line: str
    kind: Literal["compute", "licences", "marketing", "people", "one_off"]
    amount: Annotated[float, Field(ge=0)]
    per: Literal["year", "customer_year", "exposure", "once"] = "year"
    years: Positive = 3


class Settings(Model):
    """The settings of a study, as study.yml states them."""

    retailer: str
    markets: list[str] = Field(min_length=1)
    experiment: str
    arms: Arms
    period: Period
    outcome_window_days: Annotated[int, Field(ge=1, le=730)]
    currency: str = "EUR"
    timezone: str = "UTC"
    as_of: datetime | date | None = None
    channels: list[str] = []
    factors: Annotated[dict[str, Factor], Field(max_length=6)] = {}
    margin: Share | None = None
    costs: list[Cost] | None = None
    hurdle: float = 0.0
    rollout_customers: Annotated[int, Field(gt=0)] | None = None
    protected: list[str] = []
    caps: dict[str, Annotated[int, Field(gt=0)]] = {}
    small_cell: Annotated[int, Field(ge=5)] = 10
    tolerate: Annotated[float, Field(ge=0, le=0.05)] = 0.001
    times_without_zone: str | None = None
    pre_period_days: Annotated[int, Field(ge=0, le=730)] = 84
    context: dict[str, bool] = {}
    thresholds: dict[str, float] = {}
    connect: str = "duckdb://"
    tables: dict[str, str] = {}

    @field_validator("currency")
    @classmethod
    def code_of_currency(cls, value: str) -> str:
        if not re.fullmatch("[A-Z]{3}", value):
            raise ValueError(f"`{value}` is not the code of a currency; write three letters such as EUR")
        return value

    @field_validator("timezone")
    @classmethod
    def known_zone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"`{value}` is not a time zone; write one such as Europe/Berlin")
        return value

    @field_validator("times_without_zone")
    @classmethod
    def known_default_zone(cls, value: str | None) -> str | None:
        return value if value is None else cls.known_zone(value)

    @field_validator("context")
    @classmethod
    def known_context(cls, value: dict[str, bool]) -> dict[str, bool]:
        unknown = sorted(set(value) - set(CONTEXT))
        if unknown:
            raise ValueError(f"unknown flag {', '.join(unknown)}; known: {', '.join(CONTEXT)}")
        return value

    @field_validator("factors")
    @classmethod
    def named_factors(cls, value: dict[str, Factor]) -> dict[str, Factor]:
        odd = sorted(name for name in value if not re.fullmatch("[a-z][a-z0-9_]*", name))
        if odd:
            raise ValueError(f"`{odd[0]}` cannot name a channel; write small letters, digits and _ only")
        return value

    @field_validator("tables")
    @classmethod
    def known_tables(cls, value: dict[str, str]) -> dict[str, str]:
        unknown = sorted(set(value) - set(contract()))
        if unknown:
            raise ValueError(f"unknown table {', '.join(unknown)}; known: {', '.join(contract())}")
        return value

    @field_validator("protected")
    @classmethod
    def known_protected(cls, value: list[str]) -> list[str]:
        allowed = [*(c for c, spec in contract()["customers"].columns.items() if spec.type == "category"), "age_band"]
        unknown = sorted(set(value) - set(allowed))
        if unknown:
            raise ValueError(f"unknown attribute {', '.join(unknown)}; known: {', '.join(allowed)}")
        return value

    @field_validator("connect")
    @classmethod
    def no_literal_secret(cls, value: str) -> str:
        if literal_secret(value):
            raise ValueError("a password stands in the file; put it in an environment variable and write ${NAME}")
        return value

    @field_validator("as_of", mode="before")
    @classmethod
    def day_in_quotes(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("not a day; write one such as 2026-03-29") from None

    @field_validator("as_of")
    @classmethod
    def zoned(cls, value: datetime | date | None) -> datetime | date | None:
        if isinstance(value, datetime) and value.tzinfo is None:
            raise ValueError("a time needs its zone, such as 2026-03-29T08:00:00+02:00")
        return value

    def clock(self) -> datetime:
        """The study's present moment in UTC: `as_of` (a day means its local end), or now."""
        return now() if self.as_of is None else moment(self.as_of, self.timezone, end_of_day=True)

    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)


_SECRET_KEY = re.compile(r"(?i)\b(password|passwd|pwd|token|secret|access_key|api_key|motherduck_token)=([^&;\s]+)")
_USER_INFO = re.compile(r"(://[^/@:\s]*:)([^@\s]+)(@)")


def literal_secret(connect: str) -> bool:
    """Whether a connection text holds a secret in the clear; `${NAME}` is not one.

    >>> literal_secret("postgres://me:hunter2@db/shop"), literal_secret("postgres://me:${DB_PASSWORD}@db/shop")
    (True, False)
    """
    found = [match.group(2) for pattern in (_USER_INFO, _SECRET_KEY) for match in pattern.finditer(connect)]
    return any(not re.fullmatch(r"\$\{\w+\}", secret) for secret in found)


def redact(text: str) -> str:
    """The text without the secrets of any connection string in it.

    >>> redact("cannot reach postgres://me:hunter2@db/shop?token=abc")
    'cannot reach postgres://me:***@db/shop?token=***'
    """
    return _SECRET_KEY.sub(r"\1=***", _USER_INFO.sub(r"\1***\3", text))
