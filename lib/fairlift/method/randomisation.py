"""Randomisation inference: an estimate held against every draw that could have been made instead."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from fairlift.errors import InputError, Problem, Refusal

EXACT_UP_TO = 20_000  # draws that are all enumerated; beyond, some are drawn
DRAWS = 9_999
_TIE = 1e-9  # two statistics this close are the same but for rounding
_CHUNK = 2_000_000  # numbers held at once


@dataclass(frozen=True, eq=False)
class Design:
    """How units came into the arms: within each block a fixed number was drawn, every choice equally likely.

    `treated` says of each unit whether it was drawn, `block` is its block's number (all 0 where there was one draw).

    >>> pairs = Design(np.array([True, False, False, True]), np.array([0, 0, 1, 1]))
    >>> pairs.draws, pairs.least_p
    (4, 0.5)
    """

    treated: np.ndarray
    block: np.ndarray

    @property
    def draws(self) -> int:
        """How many draws the design allows."""
        return math.prod(math.comb(len(units), drawn) for units, drawn in self._parts())

    @property
    def least_p(self) -> float:
        """The least two-sided p that any outcome could give: the observed draw alone in its tail, doubled."""
        return min(1.0, 2 / self.draws)

    @property
    def pairs(self) -> bool:
        """Whether every block is a pair."""
        return all(len(units) == 2 for units, _ in self._parts())

    def all(self) -> np.ndarray:
        """Every draw, one a row, the observed one first."""
        found = np.zeros((1, len(self.treated)), dtype=bool)
        for units, drawn in self._parts():
            chosen = np.array(list(combinations(units, drawn)), dtype=int).reshape(-1, drawn)
            each = np.zeros((len(chosen), len(self.treated)), dtype=bool)
            np.put_along_axis(each, chosen, True, axis=1)
            found = (found[:, None, :] | each[None, :, :]).reshape(-1, len(self.treated))
        observed = np.flatnonzero((found == self.treated).all(axis=1))[0]
        found[[0, observed]] = found[[observed, 0]]
        return found

    def reference(self, exact_up_to: int = EXACT_UP_TO, draws: int = DRAWS, seed: int = 0) -> tuple[np.ndarray, bool]:
        """The draws to hold the observed one against: all of them if they are at most `exact_up_to`; and whether it is all."""
        exact = self.draws <= exact_up_to
        return (self.all() if exact else self.some(draws, seed)), exact

    def some(self, draws: int, seed: int) -> np.ndarray:
        """The observed draw, and after it `draws` drawn as the design draws."""
        generator = np.random.default_rng(seed)
        found = np.zeros((draws + 1, len(self.treated)), dtype=bool)
        found[0] = self.treated
        for units, drawn in self._parts():
            order = generator.random((draws, len(units))).argsort(axis=1)
            np.put_along_axis(found[1:], units[order[:, :drawn]], True, axis=1)
        return found

    def _parts(self) -> Iterator[tuple[np.ndarray, int]]:
        for block in np.unique(self.block):
            units = np.flatnonzero(self.block == block)
            yield units, int(self.treated[units].sum())


def fewest(alpha: float, pairs: bool = False) -> int:
    """The fewest units, in two equal arms, or the fewest pairs, of which any could reach a two-sided p of `alpha`.

    >>> fewest(0.05), fewest(0.05, pairs=True)
    (8, 6)
    """
    if pairs:
        return math.ceil(math.log2(2 / alpha) - 1e-12)
    half = 1
    while 2 / math.comb(2 * half, half) > alpha:
        half += 1
    return 2 * half


def refuse_unattainable(design: Design, alpha: float) -> None:
    """Raise Refusal where no outcome at all could give a two-sided p of `alpha` or less."""
    if design.least_p <= alpha:
        return
    ways = f"{design.draws:,} draw{'s' if design.draws > 1 else ''}"
    if design.pairs:
        size, enough = f"{len(design.treated) // 2} pairs", f"at least {fewest(alpha, pairs=True)} pairs"
    else:
        drawn, least = int(design.treated.sum()), fewest(alpha)
        size = f"{drawn} against {len(design.treated) - drawn} clusters"
        enough = f"{least} clusters, {least // 2} in each arm" + (
            ", drawn without blocks" if design.block.any() else ""
        )
    raise Refusal(
        f"randomisation inference: {size} allow {ways}, so the least two-sided p is {design.least_p:.4f} and {alpha:g} "
        f"cannot be reached whatever happens; {enough}, would do."
    )


@dataclass(frozen=True)
class Randomisation:
    """What the draws say: p two-sided (twice the smaller tail), limits by inversion, and how many draws were used."""

    p: float
    low: float
    high: float
    draws: int


class Studentised:
    """The studentised estimate under every draw, as a function of a supposed constant effect.

    The estimate is the weighted least squares coefficient of `z` beside `others`; its standard error is the sandwich
    with residuals divided by √(1 − leverage) (HC2; MacKinnon and White 1985), which for two arms is Welch's and for
    differences of pairs the paired one.  Row 0 of `draws` is what was observed.
    """

    def __init__(self, outcome: np.ndarray, draws: np.ndarray, others: np.ndarray, weights: np.ndarray):
        clean, leverage = partial_out(others, weights)
        observed = clean(draws[0])
        y = clean(outcome)
        self.value = float((weights * observed * y).sum() / (weights * observed**2).sum())
        rest = y - self.value * observed  # effects are measured from the estimate, which keeps digits
        size = max(1, _CHUNK // len(outcome))
        parts = [
            _polynomials(clean(draws[start : start + size]), rest, observed, leverage, weights)
            for start in range(0, len(draws), size)
        ]
        self._parts = tuple(np.concatenate(each) for each in zip(*parts, strict=True))
        self._least = (1e-12 * float(np.abs(outcome).max())) ** 2
        self.se = math.sqrt(max(self._variance(0.0)[1][0], 0.0))
        self.draws = len(draws)

    def _variance(self, away: float) -> tuple[np.ndarray, np.ndarray]:
        e0, e1, p0, p1, p2, b0, b1, c = self._parts
        estimate = e0 - away * e1
        return estimate, p0 - 2 * away * p1 + away**2 * p2 - 2 * estimate * (b0 - away * b1) + estimate**2 * c

    def tails(self, effect: float) -> tuple[float, float]:
        """The shares of draws whose statistic is at least, and at most, the observed one if `effect` is the truth."""
        estimate, variance = self._variance(effect - self.value)
        t = estimate / np.sqrt(np.maximum(variance, max(self._least, 1e-300)))
        near = _TIE * max(1.0, abs(t[0]))
        return float((t >= t[0] - near).mean()), float((t <= t[0] + near).mean())


def randomise(statistic: Studentised, alpha: float) -> Randomisation:
    """The p of no effect, and the effects that the draws do not reject at `alpha`, half of it in each tail.

    The limits are found by bisection outwards from the estimate (Garthwaite 1996); they are those of the outermost effect
    not rejected.  Raises InputError where too few draws were made for `alpha`.
    """
    size = statistic.draws
    if 2 / size > alpha:
        raise InputError(Problem("draws", f"{size - 1:,} are too few for alpha {alpha:g}", "draw some thousands"))
    low = _outermost(lambda effect: statistic.tails(effect)[0] > alpha / 2 + 1e-12, statistic, -1)
    high = _outermost(lambda effect: statistic.tails(effect)[1] > alpha / 2 + 1e-12, statistic, 1)
    return Randomisation(min(1.0, 2 * min(statistic.tails(0.0))), low, high, size)


def _outermost(kept, statistic: Studentised, side: int) -> float:
    none = -side * statistic.value  # how far away no effect lies; it is tried itself, so that limits and p agree
    far = max(2 * statistic.se, none)
    while kept(statistic.value + side * far):
        far *= 2
        if far > 1e9 * statistic.se:  # the draws in use hold the observed one more than once
            return side * math.inf
    steps = sorted({*(far * step / 16 for step in range(17)), *([none] if 0 < none < far else [])})
    inner = max(place for place, step in enumerate(steps) if step == 0 or kept(statistic.value + side * step))
    near, beyond = steps[inner], steps[inner + 1]
    while beyond - near > 1e-8 * statistic.se:
        middle = (near + beyond) / 2
        near, beyond = (middle, beyond) if kept(statistic.value + side * middle) else (near, middle)
    return statistic.value + side * near


def partial_out(others: np.ndarray, weights: np.ndarray):
    """A function that takes the weighted regression on `others` (units × columns) out of rows, and each unit's leverage."""
    if not others.shape[1]:
        return (lambda rows: np.asarray(rows, dtype=float)), np.zeros(len(weights))
    root = np.sqrt(weights)
    left, size, _ = np.linalg.svd(root[:, None] * others, full_matrices=False)
    basis = left[:, size > 1e-10 * size[0]]

    def clean(rows: np.ndarray) -> np.ndarray:
        scaled = np.asarray(rows, dtype=float) * root
        return (scaled - scaled @ basis @ basis.T) / root

    return clean, (basis**2).sum(axis=1)


def _polynomials(z: np.ndarray, rest: np.ndarray, observed: np.ndarray, leverage: np.ndarray, weights: np.ndarray):
    """What estimate and variance are made of, as coefficients of the supposed effect; one entry a draw."""
    spread = (weights * z**2).sum(axis=1)
    left = 1 - leverage - weights * z**2 / spread[:, None]
    share = np.where(left > 1e-9, (weights * z) ** 2 / np.maximum(left, 1e-9), 0.0) / spread[:, None] ** 2
    sides = share * z
    return (
        z @ (weights * rest) / spread,
        z @ (weights * observed) / spread,
        share @ rest**2,
        share @ (rest * observed),
        share @ observed**2,
        sides @ rest,
        sides @ observed,
        (sides * z).sum(axis=1),
    )
