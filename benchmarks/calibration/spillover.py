"""Spillover and contamination: experiments in which customers touch each other, and holdouts that leak."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from benchmarks.calibration import Case
from scipy import special

from fairlift.errors import Refusal
from fairlift.method.calibration import Row, alarmed, scored
from fairlift.method.contamination import contamination, separated, worst_case
from fairlift.method.effect import effect
from fairlift.method.interval import clopper_pearson
from fairlift.method.metric import Mean
from fairlift.method.moments import moments
from fairlift.method.spillover import (
    FLOOR,
    Saturation,
    household_spillover,
    saturation_of_clusters,
    weighted_difference,
)
from fairlift.simulate.saturation import Homes, Neighbourhood, draw_homes

WORLD = Neighbourhood()
LEVELS = (0.0, 0.5, 1.0)


def clusters_of(rng: np.random.Generator, saturation: np.ndarray, sizes: np.ndarray) -> pd.DataFrame:
    """What `draw_clusters` would add up to, one row a cluster: sums of normal outcomes are drawn at once."""
    k = np.rint(sizes * saturation)
    level = WORLD.base + WORLD.between * rng.standard_normal(len(sizes)) + WORLD.indirect * k / sizes
    noise = WORLD.within * np.sqrt([k, sizes - k]) * rng.standard_normal((2, len(sizes)))
    of_treated = k * (level + WORLD.direct) + noise[0]
    total = of_treated + (sizes - k) * level + noise[1]
    columns = {"saturation": saturation, "n": sizes, "n_treated": k, "sum": total, "sum_treated": of_treated}
    return pd.DataFrame(columns)


def customers_compared(clusters: pd.DataFrame, within: float) -> tuple[float, float]:
    """Naive: treated against untreated customers, each counted as if alone in the world; the limits."""
    k, n = clusters["n_treated"].sum(), clusters["n"].sum()
    treated = clusters["sum_treated"].sum() / k
    untreated = (clusters["sum"].sum() - clusters["sum_treated"].sum()) / (n - k)
    half = 1.96 * math.hypot(within, WORLD.between) * math.sqrt(1 / k + 1 / (n - k))
    return treated - untreated - half, treated - untreated + half


def saturations(per_level: int, size: float, spread: float, average: str, kind: str, named: str):
    """Total effect of the roll-out and spillover on the untreated, from `per_level` clusters at each of three levels."""

    def run(reps: int, seed: int) -> list[Row]:
        rng = np.random.default_rng(seed)
        limits: dict[str, list[tuple[float, float]]] = {name: [] for name in ("total", "spillover", "alone", "pooled")}
        for _ in range(reps):
            sizes = np.maximum(np.rint(size * np.exp(spread * rng.standard_normal(3 * per_level))), 4)
            found = clusters_of(rng, np.repeat(LEVELS, per_level), sizes)
            try:
                read: Saturation | None = saturation_of_clusters(found, average=average)
            except Refusal:
                read = None
            for name, level in (("total", 1.0), ("spillover", 0.5)):
                seen = read.effect(name, level) if read else None
                limits[name].append((seen.low, seen.high) if seen else (math.nan, math.nan))
            drawn = clusters_of(rng, np.full(3 * per_level, 0.5), sizes)
            limits["alone"].append(customers_compared(drawn, WORLD.within))
            limits["pooled"].append(customers_compared(found[found["saturation"] != 0.5], WORLD.within))
        case = f"true total {WORLD.total()}, {named}"
        total, spilled, alone, pooled = (np.array(limits[name]).T for name in limits)
        return [
            scored("saturation design, total of the roll-out", case, kind, *total, WORLD.total()),
            scored("saturation design, spillover on the untreated", case, kind, *spilled, WORLD.spillover(0.5)),
            scored("every customer drawn alone, read as the total", case, kind, *alone, WORLD.total(), naive=True),
            scored(
                "saturation design, customers counted as independent", case, kind, *pooled, WORLD.total(), naive=True
            ),
        ]

    return run


def homes(world: Homes, count: int, share: float, kind: str, named: str):
    """Spillover on the holdout, from `count` households whose persons were drawn one by one."""

    def run(reps: int, seed: int) -> list[Row]:
        rng = np.random.default_rng(seed)
        limits: dict[str, list[tuple[float, float]]] = {name: [] for name in ("right", "persons", "plain")}
        for _ in range(reps):
            units = draw_homes(world, count, share, rng)
            try:
                seen = household_spillover(units, "outcome", "household", share).effect("spillover on holdout")
                limits["right"].append((seen.low, seen.high))
            except Refusal:
                limits["right"].append((math.nan, math.nan))
            for name, found in naive(units, share).items():
                limits[name].append(found)
        truth = world.indirect
        right, persons, plain = (np.array(limits[name]).T for name in limits)
        return [
            scored("households, weighted by exposure", named, kind, *right, truth),
            scored("the same, households ignored", named, kind, *persons, truth, naive=True),
            scored("with a mate against without, unweighted", named, kind, *plain, truth, naive=True),
        ]

    return run


def naive(units: pd.DataFrame, share: float) -> dict[str, tuple[float, float]]:
    """Two short cuts: persons counted as independent, and exposures compared without weights."""
    home, own = units["household"].to_numpy(), (units["arm"] == "personalised").to_numpy()
    mates = np.bincount(home)[home] - 1
    mate = np.bincount(home, own)[home] - own > 0
    none = (1 - share) ** mates
    use = (mates > 0) & ~own & (np.minimum(none, 1 - none) >= FLOOR)
    y, mate, none, alone = (v[use] for v in (units["outcome"].to_numpy(), mate, none, home))
    weight = 1 / np.where(mate, 1 - none, none)
    persons = weighted_difference(y, weight, mate, ~mate, np.arange(len(y)))
    plain = weighted_difference(y, np.ones(len(y)), mate, ~mate, np.unique(alone, return_inverse=True)[1])
    return {"persons": persons[2:4], "plain": plain[2:4]}


def leaks(n: int, share: float):
    """The bound on the share of a holdout that was contaminated."""

    def run(reps: int, seed: int) -> list[Row]:
        rng = np.random.default_rng(seed)
        seen, clean = rng.binomial(n, share, reps), rng.binomial(n, share / 20, reps)
        exact = np.array([clopper_pearson(events, n, sides=1)[1] for events in range(max(seen.max(), clean.max()) + 1)])
        p = seen / n
        wald = p - special.ndtri(0.05) * np.sqrt(p * (1 - p) / n)
        case, power = f"{n:,} customers, {1000 * share:g} in 1,000 contaminated", float((exact[clean] < share).mean())
        return [
            alarmed("contamination, exact upper bound", case, "conservative", exact[seen] < share, power=power),
            alarmed("contamination, share + 1.64 SE", case, "conservative", wald < share, power=power, naive=True),
        ]

    return run


def leaky(share: float, like: float, named: str):
    """The effect of full separation, from a holdout that leaks; a leaked offer does `like` times what a meant one does."""

    def run(reps: int, seed: int) -> list[Row]:
        rng = np.random.default_rng(seed)
        n, direct, top = 4_000, 1.0, 60.0
        missed: dict[str, list[bool]] = {name: [] for name in ("bounds", "worst", "seen")}
        found = []
        for _ in range(reps):
            arm = np.repeat(["personalised", "holdout"], n // 2)
            leaked = (arm == "holdout") & (rng.random(n) < share)
            gained = direct * (arm == "personalised") + like * direct * leaked
            spent = np.clip(20 + gained + 8 * rng.standard_normal(n), 0, top)
            offers = ((arm == "personalised") | leaked).astype(int)
            units = pd.DataFrame({"arm": arm, "spend": spent, "personalised_exposures": offers})
            seen = effect(moments(units, Mean("spend"), "arm"), Mean("spend"), "personalised", "holdout")
            bounds = separated(seen, contamination(units, "holdout"))
            worst = worst_case(units, "spend", "personalised", "holdout", (0.0, top))
            for name, (low, high) in {
                "bounds": (bounds.low, bounds.high),
                "worst": (worst.low, worst.high),
                "seen": (seen.low, seen.high),
            }.items():
                missed[name].append(not low <= direct <= high)
            found.append((bounds.low > 0, worst.low > 0, seen.low > 0))
        power = np.mean(found, axis=0)
        names = ("contamination, diluted at most", "contamination, worst case", "the effect as if nothing leaked")
        return [
            alarmed(name, named, "conservative", misses, naive=place == 2, power=float(power[place]))
            for place, (name, misses) in enumerate(zip(names, missed.values(), strict=True))
        ]

    return run


ALIKE = Homes(buying=0.9, like=0.6, own=0.3)
CROWDED = Homes(crowd=1.4, buying=0.5, like=0.5, own=0.6)

CASES = (
    Case(
        "saturation, 60 alike", 10_000, saturations(20, 40, 0.0, "clusters", "closed", "20 clusters a level, all alike")
    ),
    Case(
        "saturation, 15 alike", 10_000, saturations(5, 40, 0.0, "clusters", "closed", "5 clusters a level, all alike")
    ),
    Case(
        "saturation, 60 uneven",
        10_000,
        saturations(20, 60, 0.3, "customers", "closed", "20 clusters a level, uneven, by customers"),
    ),
    Case("saturation, too few", 500, saturations(3, 40, 0.0, "clusters", "costly", "3 clusters a level")),
    Case("households alike", 10_000, homes(ALIKE, 3_000, 0.5, "closed", "3,000 households, no influence")),
    Case(
        "households crowded",
        10_000,
        homes(CROWDED, 8_000, 0.6, "closed", "8,000 households, the crowded spend more, no influence"),
    ),
    Case("households too few", 500, homes(ALIKE, 150, 0.5, "costly", "150 households")),
    Case("leaks, small", 10_000, leaks(600, 0.01)),
    Case("leaks, large", 10_000, leaks(7_000, 0.01)),
    Case("leaky holdout", 500, leaky(0.2, 1.0, "a fifth of the holdout leaked, as effective as meant")),
)
