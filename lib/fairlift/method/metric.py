"""Metrics: small frozen declarations of what is measured per randomised unit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mean:
    """The mean of a column over all units, a unit without an event counting as 0.

    `covariates` are numeric columns measured before that unit's assignment; they are used only when an effect asks
    for adjustment.

    >>> print(Mean("revenue", covariates=("history",)))
    mean of revenue
    >>> Mean("revenue", "history").columns
    ('revenue', 'history')
    """

    column: str
    covariates: tuple[str, ...] = ()

    order = 3  # Hall's interval needs third moments

    def __post_init__(self) -> None:
        given = (self.covariates,) if isinstance(self.covariates, str) else tuple(self.covariates)
        object.__setattr__(self, "covariates", given)

    def __str__(self) -> str:
        return f"mean of {self.column}"

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Columns that every unit must have."""
        return (self.column,)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns the metric reads."""
        return (self.column, *self.covariates)


@dataclass(frozen=True)
class Proportion:
    """The share of units whose 0/1 column is 1.

    >>> print(Proportion("visit"))
    share with visit
    """

    column: str

    order = 2
    covariates = ()

    def __str__(self) -> str:
        return f"share with {self.column}"

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Columns that every unit must have."""
        return (self.column,)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns the metric reads."""
        return (self.column,)


@dataclass(frozen=True)
class Ratio:
    """The sum of one column over the sum of another, such as orders per session; units stay the randomised ones.

    >>> print(Ratio("orders", "sessions"))
    orders per sessions
    """

    numerator: str
    denominator: str

    order = 2
    covariates = ()

    def __str__(self) -> str:
        return f"{self.numerator} per {self.denominator}"

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Columns that every unit must have."""
        return (self.numerator, self.denominator)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns the metric reads."""
        return (self.numerator, self.denominator)


@dataclass(frozen=True)
class Covariates:
    """Columns measured before assignment, gathered so that `balance` can compare them between arms.

    >>> Covariates("history", "recency").columns
    ('history', 'recency')
    """

    covariates: tuple[str, ...]

    order = 2
    outcomes = ()

    def __init__(self, *columns: str) -> None:
        object.__setattr__(self, "covariates", tuple(columns))

    def __str__(self) -> str:
        return "covariates " + ", ".join(self.covariates)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns the metric reads."""
        return self.covariates


Metric = Mean | Proportion | Ratio | Covariates
