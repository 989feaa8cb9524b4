"""Draws by hash: the analyses that rest on them, and what a shared salt, a private holdout or a forgotten stratum does.

Every experiment has customers of its own, so one salt serves them all, and every draw is the library's.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from benchmarks.calibration import Case

from fairlift.method.assignment import HELD, Holdout, draw, draw_factors
from fairlift.method.calibration import Row, alarmed, scored
from fairlift.method.effect import effect
from fairlift.method.metric import Mean
from fairlift.method.moments import Moments, moments
from fairlift.method.srm import srm

BATCH = 1000  # experiments drawn together
SPEND = Mean("spend")
HALVES = {"new": 0.5, "old": 0.5}


def experiments(reps: int, n: int, seed: int) -> Iterator[tuple[pd.DataFrame, np.random.Generator]]:
    """Customers of many experiments, numbered; a batch at a time."""
    draws = np.random.default_rng(seed)
    for first in range(0, reps, BATCH):
        run = np.repeat(np.arange(first, min(reps, first + BATCH)), n)
        unit = [f"{seed}-{number}" for number in range(first * n, first * n + len(run))]
        yield pd.DataFrame({"run": run, "unit": unit}), draws


def limits(people: pd.DataFrame, arm: str, one: str, two: str, stratum: str | None = None) -> np.ndarray:
    """The interval of each experiment: 2 rows, lower and upper limits."""
    gathered = moments(people, SPEND, arm, stratum=stratum, day="run")
    cells = gathered.cells.assign(place=gathered.cells["day"].astype(int), day="")
    by = ("stratum",) if stratum else ()
    found = []
    for _, part in cells.groupby("place"):
        one_run = Moments(part.drop(columns="place"), gathered.metrics, gathered.missing)
        got = effect(one_run, SPEND, one, two, interval="welch", by=by)
        found.append((got.low, got.high))
    return np.array(found).T


def score(found: dict[str, list[np.ndarray]], case: str, truth: float, naive: set[str]) -> list[Row]:
    return [
        scored(method, case, "closed", *np.concatenate(parts, axis=1), truth, naive=method in naive)
        for method, parts in found.items()
    ]


def sample_ratio(reps: int, seed: int) -> list[Row]:
    """Stores of very different size are drawn as wholes: stores are counted, or naively customers."""
    case, weights = "200 stores of unequal size in two arms, drawn by hash", HALVES
    alarms: dict[str, list[bool]] = {"stores": [], "customers": [], "wrong": []}
    for stores, draws in experiments(reps, 200, seed):
        size = draws.lognormal(3, 0.8, len(stores)).round() + 1
        arm = draw(stores, "unit", weights, salt="c", namespace="ratio")["variant"] == "new"
        lost = arm & (draws.random(len(stores)) < 0.35)
        run = stores["run"] - stores["run"].min()
        one, everybody = np.ones(len(stores)), np.ones(len(stores), dtype=bool)
        for name, kept, each in (("stores", everybody, one), ("customers", everybody, size), ("wrong", ~lost, one)):
            new, old = (np.bincount(run, each * (kept & side)) for side in (arm, ~arm))
            alarms[name] += [
                srm({"new": a, "old": b}, weights, alpha=0.05).failed for a, b in zip(new, old, strict=True)
            ]
    power = float(np.mean(alarms["wrong"]))
    return [
        alarmed("sample ratio of stores", case, "conservative", alarms["stores"], power=power),
        alarmed("sample ratio of customers", case, "conservative", alarms["customers"], naive=True),
    ]


def two_tests(reps: int, seed: int) -> list[Row]:
    """A test without an effect runs beside one that has an effect."""
    own, shared = "a namespace of its own", "a salt shared with the other test"
    found: dict[str, list[np.ndarray]] = {own: [], shared: []}
    for people, draws in experiments(reps, 400, seed):
        noise = draws.normal(20, 5, len(people))
        for method, name in ((own, "second"), (shared, "first")):
            both = draw(people, "unit", HALVES, salt="c", namespace="first", into="other")
            both = draw(both, "unit", HALVES, salt="c", namespace=name, into="arm")
            both["spend"] = noise + 2 * (both["other"] == "new")
            found[method].append(limits(both, "arm", "new", "old"))
    return score(found, "no effect, beside another test of the same 400 customers", 0.0, {shared})


def holdouts(reps: int, seed: int) -> list[Row]:
    """Two programmes bring 1 each; what both bring together is read against the holdout."""
    common, private = "universal holdout", "a holdout drawn by each programme"
    found: dict[str, list[np.ndarray]] = {common: [], private: []}
    holdout, arms = Holdout(0.25, "held"), {"on": 0.75, "out": 0.25}
    for people, draws in experiments(reps, 400, seed):
        noise = draws.normal(20, 4, len(people))
        drawn = draw(people, "unit", {"on": 1}, holdout=holdout, salt="c", namespace="first", into="arm")
        drawn["spend"] = noise + 2 * (drawn["arm"] == "on")
        found[common].append(limits(drawn, "arm", "on", HELD))
        drawn = draw(people, "unit", arms, salt="c", namespace="first", into="arm")
        drawn = draw(drawn, "unit", arms, salt="c", namespace="second", into="other")
        drawn["spend"] = noise + (drawn["arm"] == "on") + (drawn["other"] == "on")
        found[private].append(limits(drawn, "arm", "on", "out"))
    return score(found, "two programmes bring 1 each, 400 customers", 2.0, {private})


def strata(reps: int, seed: int) -> list[Row]:
    """Customers of four kinds that spend, and gain, very differently; the population's shares make the truth."""
    shares, level, gain = np.array([0.4, 0.3, 0.2, 0.1]), np.array([2, 6, 14, 40.0]), np.array([0.5, 1, 2, 4.0])
    within, forgotten = "difference within strata", "difference that forgets the strata"
    found: dict[str, list[np.ndarray]] = {within: [], forgotten: []}
    for people, draws in experiments(reps, 400, seed):
        kind = draws.choice(4, len(people), p=shares)
        people = people.assign(kind=kind.astype(str))
        drawn = draw(people, "unit", {"new": 0.7, "old": 0.3}, salt="c", namespace="s", strata=["run", "kind"])
        treated = (drawn["variant"] == "new").to_numpy()
        drawn["spend"] = level[kind] + gain[kind] * treated + draws.normal(0, 4, len(people))
        found[within].append(limits(drawn, "variant", "new", "old", stratum="kind"))
        found[forgotten].append(limits(drawn, "variant", "new", "old"))
    return score(found, "drawn exactly within four kinds of 400 customers", float(shares @ gain), {forgotten})


def channels(reps: int, seed: int) -> list[Row]:
    """E-mail brings 1, push brings 2, both together a half less; the main effect of e-mail with push on for half."""
    layers, alike = "a layer for each channel", "one hash for both channels"
    found: dict[str, list[np.ndarray]] = {layers: [], alike: []}
    for people, draws in experiments(reps, 400, seed):
        drawn = draw_factors(people, "unit", {"email": 0.5, "push": 0.5}, salt="c", namespace="channels")
        noise = draws.normal(20, 4, len(people))
        for method, push in ((layers, drawn["push"]), (alike, drawn["email"])):
            drawn["spend"] = noise + drawn["email"] + 2 * push - 0.5 * drawn["email"] * push
            drawn["arm"] = np.where(drawn["email"] == 1, "on", "off")
            found[method].append(limits(drawn, "arm", "on", "off"))
    return score(found, "main effect of e-mail beside push, 400 customers", 0.75, {alike})


CASES = (
    Case("sample ratio", 2_000, sample_ratio),
    Case("two tests", 10_000, two_tests),
    Case("holdouts", 10_000, holdouts),
    Case("strata", 10_000, strata),
    Case("channels", 10_000, channels),
)
