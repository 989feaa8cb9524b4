"""Looks agreed beforehand: a few dates on which a result may be read and the experiment stopped, and what each look costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
from scipy import optimize, special

from fairlift.errors import InputError, Problem, Refusal, nearest
from fairlift.format import number
from fairlift.method.effect import Effect
from fairlift.method.hall import studentised, transformed
from fairlift.method.metric import Mean, Proportion

SPENDINGS = {"obrien_fleming": "O'Brien and Fleming", "pocock": "Pocock", "power": "Kim and DeMets"}
BUYERS = 200  # outcomes other than 0 in the arm with fewer of them, for a mean; before that its tails are too far off
EVENTS = 10  # the same for a share
LEAST = 1e-12  # alpha below this buys no boundary
FAR = 8.5  # standard deviations beyond which nothing is left to integrate


@dataclass(frozen=True)
class Design:
    """Looks at given shares of the planned units, and what they cost and save.

    `boundaries` are the z at which each look stops, two-sided; `spent` the false alarms allowed up to each look.
    `inflation` is by what the planned units of a single look must be multiplied to keep `power`; `expected` the share of
    the inflated units that is needed on average where there is no effect and where there is the planned one, in the same
    order as `stops`: how likely each look is the last, per case.
    """

    fractions: tuple[float, ...]
    spending: str
    alpha: float
    power: float
    boundaries: tuple[float, ...]
    spent: tuple[float, ...]
    inflation: float
    expected: tuple[float, float]
    stops: tuple[tuple[float, ...], tuple[float, ...]]

    def __str__(self) -> str:
        rows = [
            f"  look {k + 1} at {number(t, 'share')}: |z| {number(z, 'z')}, alpha spent {number(a, 'p')}"
            for k, (t, z, a) in enumerate(zip(self.fractions, self.boundaries, self.spent, strict=True))
        ]
        more = number(self.inflation - 1, "lift", signed=True)
        without, planned = (number(share, "share") for share in self.expected)
        return "\n".join(
            [
                f"{len(self.fractions)} looks, {self.alpha:g} spent as by {SPENDINGS[self.spending]}",
                *rows,
                f"  units {more} against a single look; on average {planned} of them under the planned effect, {without} without one",
            ]
        )


def spent(fractions: Sequence[float], alpha: float = 0.05, spending: str = "obrien_fleming", rho: float = 3.0):
    """How much of alpha may be used up to each share of the planned units (Lan and DeMets 1983; Kim and DeMets 1987).

    Two-sided: half on either side.  "obrien_fleming" spends almost nothing early, "pocock" nearly evenly, "power" alpha × t^rho.

    >>> spent([0.2, 1.0], spending="pocock").round(4).tolist()
    [0.0148, 0.05]
    """
    if spending not in SPENDINGS:
        raise InputError(Problem("spending", f"`{spending}` is not known", nearest(str(spending), tuple(SPENDINGS))))
    t = np.minimum(np.asarray(fractions, dtype=float), 1.0)
    if spending == "obrien_fleming":
        return 4 * special.ndtr(special.ndtri(alpha / 4) / np.sqrt(t))
    return alpha * np.log1p((math.e - 1) * t) if spending == "pocock" else alpha * t**rho


def boundaries(
    fractions: Sequence[float], alpha: float = 0.05, spending: str = "obrien_fleming", rho: float = 3.0
) -> np.ndarray:
    """The z that each look must reach, two-sided, at increasing shares of the planned units.

    By recursive integration of the density of what has not stopped (Armitage, McPherson and Rowe 1969).  Where a share
    spends nothing, the boundary is infinite.

    >>> boundaries([0.2, 0.4, 0.6, 0.8, 1.0]).round(3).tolist()
    [4.877, 3.357, 2.68, 2.29, 2.031]
    """
    fractions = _increasing(fractions)
    return np.array(_solved(fractions, tuple(spent(fractions, alpha, spending, rho))))


def constants(looks: int, shape: str = "obrien_fleming", alpha: float = 0.05) -> np.ndarray:
    """The classic boundaries of equally spaced looks: O'Brien and Fleming (1979), or Pocock (1977).

    >>> constants(5).round(3).tolist(), constants(5, "pocock").round(3).tolist()
    ([4.562, 3.226, 2.634, 2.281, 2.04], [2.413, 2.413, 2.413, 2.413, 2.413])
    """
    if shape not in ("obrien_fleming", "pocock"):
        raise InputError(Problem("shape", f"`{shape}` is not known", nearest(str(shape), ("obrien_fleming", "pocock"))))
    if looks < 1:
        raise InputError(Problem("looks", f"is {looks}", "plan one look or more"))
    t = np.arange(1, looks + 1) / looks
    form = 1 / np.sqrt(t) if shape == "obrien_fleming" else np.ones(looks)
    found = optimize.brentq(lambda c: crossing(t, c * form).sum() - alpha, 0.5, 8.0, xtol=1e-10)
    return found * form


def crossing(fractions: Sequence[float], z: Sequence[float], drift: float = 0.0) -> np.ndarray:
    """How likely each look is the first to reach its boundary: two rows, above and below, one column a look.

    `drift` is the expected z at all planned units.

    >>> float(crossing([1.0], [1.959964], drift=1.959964 + 1.281552)[0].round(4).item())
    0.9
    """
    fractions = _increasing(fractions)
    if len(z) != len(fractions):
        raise InputError(Problem("z", f"{len(z)} boundaries for {len(fractions)} looks", "give one a look"))
    found, walk = [], _Walk(drift)
    for t, bound in zip(fractions, z, strict=True):
        found.append(walk.beyond(t, bound))
        walk.step(t, bound)
    return np.array(found).T


def design(
    fractions: Sequence[float],
    *,
    spending: str = "obrien_fleming",
    alpha: float = 0.05,
    power: float = 0.8,
    rho: float = 3.0,
) -> Design:
    """What looking at these shares of the planned units costs: boundaries, more units at most, fewer on average.

    The last share must be 1.  The chance of stopping counts either side; power that of the planned direction.

    >>> print(design([0.5, 1.0], power=0.9))
    2 looks, 0.05 spent as by O'Brien and Fleming
      look 1 at 50.00 %: |z| 2.963, alpha spent 0.0031
      look 2 at 100.00 %: |z| 1.969, alpha spent 0.0500
      units +0.3 % against a single look; on average 87.37 % of them under the planned effect, 99.85 % without one
    """
    fractions = _increasing(fractions)
    if fractions[-1] != 1:
        raise InputError(
            Problem("fractions", f"the last look is at {fractions[-1]:g}", "end with 1, all planned units")
        )
    z = boundaries(fractions, alpha, spending, rho)
    single = float(special.ndtri(power) - special.ndtri(alpha / 2))
    drift = float(
        optimize.brentq(lambda d: crossing(fractions, z, d)[0].sum() - power, single * 0.8, single * 2, xtol=1e-9)
    )
    stops = []
    for d in (0.0, drift):
        first = crossing(fractions, z, d).sum(axis=0)
        stops.append((*first[:-1], 1 - first[:-1].sum()))
    inflation = (drift / single) ** 2
    return Design(
        fractions=fractions,
        spending=spending,
        alpha=alpha,
        power=power,
        boundaries=tuple(z.tolist()),
        spent=tuple(spent(fractions, alpha, spending, rho).tolist()),
        inflation=inflation,
        expected=tuple(float(np.dot(fractions, each)) for each in stops),
        stops=tuple(tuple(map(float, each)) for each in stops),
    )


def at_look(
    effect: Effect,
    seen: Sequence[int],
    planned_n: int,
    *,
    looks: int,
    spending: str = "obrien_fleming",
    alpha: float | None = None,
    rho: float = 3.0,
) -> Effect:
    """The same effect with the repeated interval of the present look (Jennison and Turnbull 1989).

    `seen` are the complete units in both arms together at every look so far, the present one last; `planned_n` how many
    were planned; `looks` how many looks were.  With probability 1 − alpha the intervals of all looks hold the true effect
    together.  The boundary comes from the shares actually reached; the last planned look spends what is left, however many
    units it has.  Units must each have a completed outcome window.  Hall's shape is kept where the effect has it; early looks
    ask far out in the tails, so with fewer than 200 outcomes other than 0 in an arm (10 for a share) a look is refused.

    Raises Refusal for that, for a look beyond the plan, and where a look comes so early, or so late, that it has no alpha.
    """
    alpha = 1 - effect.level if alpha is None else alpha
    if len(seen) > looks:
        raise Refusal(
            f"{effect.metric}: look {len(seen)} of {looks} planned; a look beyond the plan has no alpha left, so decide by "
            "the last planned one, or plan a new experiment."
        )
    _check_read(effect, "look")
    refuse_few(effect)
    counts = _increasing(seen)
    reach = boundary_at(counts, planned_n, looks, alpha, spending, rho)
    if math.isinf(reach):
        raise Refusal(
            f"{effect.metric}: at {number(counts[-1] / planned_n, 'share')} of the planned units this look has no alpha to "
            "spend; wait for the next look."
        )
    k, df = effect.skew, effect.df_limits
    quantile = float(-special.stdtrit(df, special.ndtr(-reach)))
    z = _normal(abs(transformed(effect.value / effect.se, k)), df)
    return replace(
        effect,
        low=effect.value - effect.se * studentised(quantile, k),
        high=effect.value - effect.se * studentised(-quantile, k),
        level=1 - alpha,
        p=_repeated_p(z, reach, counts, planned_n, len(seen) == looks, spending, alpha, rho),
        interval="look",
    )


def boundary_at(
    seen: Sequence[int],
    planned_n: int,
    looks: int,
    alpha: float = 0.05,
    spending: str = "obrien_fleming",
    rho: float = 3.0,
) -> float:
    """The z that the present look must reach, from the complete units at each look so far; infinite where none suffices.

    >>> round(boundary_at([4_000, 9_000, 18_000], 20_000, looks=3), 3)
    1.964
    """
    return _boundary(_increasing(seen), planned_n, len(seen) == looks, spending, alpha, rho)


def refuse_few(seen: Effect) -> None:
    """Refuse an estimate that a handful of buyers, or of events, would carry."""
    least = {Mean: BUYERS, Proportion: EVENTS}.get(type(seen.metric), 0)
    if seen.fewest is not None and seen.fewest < least:
        raise Refusal(
            f"{seen.metric}: an arm has {number(seen.fewest, 'count')} units with a value other than 0 and "
            f"{number(least, 'count')} are needed, because before that chance carries the estimate; wait for more."
        )


def _check_read(seen: Effect, how: str) -> None:
    if seen.interval not in ("hall", "welch"):
        raise InputError(Problem(how, f"the effect is already read as {seen.interval}", "give the effect as it was"))


def _normal(t: float, df: float) -> float:
    """The normal deviate with the same tail as this t."""
    tail = float(special.stdtr(df, -t))
    return float(-special.ndtri(tail)) if tail > 1e-300 else 37.0


@lru_cache(maxsize=4096)
def _boundary(counts: tuple[float, ...], planned_n: int, final: bool, spending: str, alpha: float, rho: float) -> float:
    fractions = np.array(counts) / planned_n
    allowed = spent(fractions, alpha, spending, rho)
    if final:
        allowed[-1] = alpha
    return _solved(counts, tuple(allowed))[-1]


def _repeated_p(z, reach, counts, planned_n, final, spending, alpha, rho) -> float:
    """The alpha whose boundary at this look is z, between those of a table; below `alpha` exactly beyond `reach`."""
    levels = sorted({*np.geomspace(1e-6, 0.9, 24).tolist(), alpha})
    bounds = [reach if a == alpha else _boundary(counts, planned_n, final, spending, a, rho) for a in levels]
    known = [(-b * b, math.log(a)) for a, b in zip(levels, bounds, strict=True) if math.isfinite(b)]
    if -z * z > known[-1][0]:
        return 1.0
    return math.exp(float(np.interp(-z * z, [b for b, _ in known], [a for _, a in known])))


@lru_cache(maxsize=256)
def _solved(information: tuple[float, ...], allowed: tuple[float, ...]) -> tuple[float, ...]:
    """Boundaries that use up exactly the alpha allowed up to each look; only ratios of the information matter."""
    found, used, walk = [], 0.0, _Walk()
    for t, total in zip((i / information[-1] for i in information), allowed, strict=True):
        now = total - used
        if now < LEAST:
            bound = math.inf
        else:
            used = total
            high = -float(special.ndtri(now / 2)) + 1
            bound = float(optimize.brentq(lambda z, t=t, now=now: sum(walk.beyond(t, z)) - now, 0.0, high, xtol=1e-12))
        found.append(bound)
        walk.step(t, bound)
    return tuple(found)


class _Walk:
    """The density of the score of what has not stopped, at Gauss–Legendre nodes; starts as a point at 0."""

    def __init__(self, drift: float = 0.0):
        self.drift, self.t = drift, 0.0
        self.at, self.mass = np.zeros(1), np.ones(1)  # mass: density × weight of each node

    def beyond(self, t: float, z: float) -> tuple[float, float]:
        """The chance to go on until here and then to lie above, and below, the boundary."""
        if math.isinf(z):
            return 0.0, 0.0
        step = t - self.t
        mean, bound = self.at + self.drift * step, z * math.sqrt(t)
        above, below = (special.ndtr((side * mean - bound) / math.sqrt(step)) for side in (1, -1))
        return float(self.mass @ above), float(self.mass @ below)

    def step(self, t: float, z: float) -> None:
        """Go on to t inside the boundary."""
        spread = math.sqrt(t - self.t)
        bound = min(z, FAR + abs(self.drift)) * math.sqrt(t)
        nodes, weights = _nodes(64 + 16 * math.ceil(2 * bound / spread / 4))
        at = nodes * bound
        away = (at[:, None] - self.at[None, :] - self.drift * (t - self.t)) / spread
        density = np.exp(-0.5 * away**2) @ self.mass / (spread * math.sqrt(2 * math.pi))
        self.at, self.mass, self.t = at, density * weights * bound, t


@lru_cache(maxsize=64)
def _nodes(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(count)


def _increasing(fractions: Sequence[float]) -> tuple[float, ...]:
    found = tuple(float(t) for t in fractions)
    if not found or found[0] <= 0 or any(b <= a for a, b in pairwise(found)):
        shown = ", ".join(f"{t:g}" for t in found) or "nothing"
        raise InputError(Problem("looks", f"they are at {shown}", "give increasing amounts above 0, one a look"))
    return found
