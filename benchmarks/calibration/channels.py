"""Channels: a factorial trial with unequal shares, the effect on those reached, and store sales that only partly match."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pandas as pd
from benchmarks.calibration import Case
from scipy import stats

from fairlift.errors import Refusal
from fairlift.method.calibration import Row, alarmed, scored
from fairlift.method.compliance import Reception, cace
from fairlift.method.effect import effect
from fairlift.method.factorial import cell, cell_shares, factorial
from fairlift.method.match import bounds, correct, match_rate
from fairlift.method.metric import Mean
from fairlift.method.moments import Moments

SPEND = Mean("spend")
SIGMA = 0.8
ORDER = float(np.exp(SIGMA**2 / 2))  # the mean of an order
Z = float(stats.norm.ppf(0.975))
BLOCK = 500  # experiments drawn at once


def sums(draws: np.random.Generator, n, buying: float, times: int) -> np.ndarray:
    """Buyers, and the sums of spend, its square and its cube, of `n` customers of whom a share buys: 4 × times."""
    buyers = draws.binomial(n, buying, times)
    spent, owner = draws.lognormal(0, SIGMA, buyers.sum()), np.repeat(np.arange(times), buyers)
    return np.array([buyers, *(np.bincount(owner, spent**k, times) for k in (1, 2, 3))])


def centred(n, raw: np.ndarray) -> dict[str, np.ndarray]:
    """One cell an experiment of what `moments` gathers for spend."""
    buyers, s1, s2, s3 = raw
    mean = s1 / n
    names = ("n", "nonzero spend", "mean spend", "sum spend × spend", "sum spend × spend × spend")
    values = (n + np.zeros(len(mean)), buyers, mean, s2 - n * mean**2, s3 - 3 * mean * s2 + 2 * n * mean**3)
    return dict(zip(names, values, strict=True))


def experiments(arms: dict[str, dict[str, np.ndarray]], metrics) -> list[Moments]:
    """One `Moments` an experiment, from arrays with one entry an experiment."""
    names, columns = list(arms), list(next(iter(arms.values())))
    values = {column: np.array([arms[name][column] for name in names]).T for column in columns}
    keys = {"arm": names, "stratum": "", "day": ""}
    return [
        Moments(pd.DataFrame(keys | {column: array[i] for column, array in values.items()}), metrics)
        for i in range(len(values["n"]))
    ]


def blocks(reps: int) -> list[int]:
    return [BLOCK] * (reps // BLOCK) + ([reps % BLOCK] if reps % BLOCK else [])


# --- a factorial trial -----------------------------------------------------------------------------------------------

SHARES = {"email": 0.7, "push": 0.5, "store": 0.3}
CHANNELS = tuple(SHARES)
CUSTOMERS, BUYING = 40_000, 0.2


def mean_of(on, alone: dict[str, float], together: float) -> float:
    """The true mean: `together` is what email and push bring beyond their sum."""
    change = sum(alone[name] for name in on) + (together if {"email", "push"} <= set(on) else 0.0)
    return BUYING * (1 + change) * ORDER


def truths(alone: dict[str, float], together: float) -> dict[str, float]:
    """True effects, channel by channel and pair by pair, summed over the other channels by hand."""
    found = {}
    for chosen in [*((name,) for name in CHANNELS), *combinations(CHANNELS, 2)]:
        others = [name for name in CHANNELS if name not in chosen]
        value = 0.0
        for levels in product((0, 1), repeat=len(others)):
            weight = np.prod([SHARES[o] if on else 1 - SHARES[o] for o, on in zip(others, levels, strict=True)])
            with_them = [o for o, on in zip(others, levels, strict=True) if on]
            for picked in product((0, 1), repeat=len(chosen)):
                sign = (-1) ** (len(chosen) - sum(picked))
                mine = [name for name, on in zip(chosen, picked, strict=True) if on]
                value += weight * sign * mean_of([*with_them, *mine], alone, together)
        found[" × ".join(chosen)] = value
    found["all on"] = mean_of(CHANNELS, alone, together) - mean_of([], alone, together)
    return found


def trials(draws: np.random.Generator, times: int, alone: dict[str, float], together: float) -> list[Moments]:
    arms = {}
    for name, share in cell_shares(SHARES).items():
        on = [] if name == cell([]) else name.split(" + ")
        n = round(CUSTOMERS * share)
        arms[name] = centred(n, sums(draws, n, mean_of(on, alone, together) / ORDER, times))
    return experiments(arms, (SPEND,))


def run_factorial(reps: int, seed: int) -> list[Row]:
    """Channels that work and cannibalise, beside a third that does nothing."""
    draws = np.random.default_rng([seed, 1])
    alone, together = {"email": 0.25, "push": 0.25, "store": 0.0}, -0.25
    truth, limits, omnibus, holm = truths(alone, together), {}, [], []
    for times in blocks(reps):
        for run in trials(draws, times, alone, together):
            found = factorial(run, SPEND, CHANNELS, shares=SHARES)
            for one in (*found.main, found.interactions[0], found.total, found.summed):
                limits.setdefault(one.name, []).append((one.low, one.high))
            omnibus.append(found.omnibus.p < 0.05)
            holm.append(min(one.family_p for one in found.main) < 0.05)
    null, together_null = dict.fromkeys(CHANNELS, 0.0), 0.0
    alarms = {"omnibus": [], "holm": [], "naive": []}
    for times in blocks(reps):
        for run in trials(draws, times, null, together_null):
            found = factorial(run, SPEND, CHANNELS, shares=SHARES)
            alarms["omnibus"].append(found.omnibus.p < 0.05)
            alarms["holm"].append(min(one.family_p for one in found.main) < 0.05)
            alarms["naive"].append(min(one.p for one in found.main) < 0.05)

    def row(method: str, name: str, of: str, naive: bool = False) -> Row:
        low, high = np.array(limits[of]).T
        case = f"three channels on for 70, 50 and 30 % of customers: {name}"
        return scored(method, case, "closed", low, high, truth[of if not naive else "all on"], naive=naive)

    none = "three channels that do nothing"
    return [
        row("factorial main effect", "a channel that works", "email"),
        row("factorial main effect", "a channel that does nothing", "store"),
        row("factorial interaction", "two that take sales from each other", "email × push"),
        row("all channels on against all off", "the total", "all on"),
        row("effects of each channel alone, added up", "the total", "sum of each alone", naive=True),
        alarmed("test of any interaction", none, "conservative", alarms["omnibus"], power=float(np.mean(omnibus))),
        alarmed("Holm over the channels", none, "conservative", alarms["holm"], power=float(np.mean(holm))),
        alarmed("each channel at .05", none, "conservative", alarms["naive"], naive=True),
    ]


# --- the effect on those reached ---------------------------------------------------------------------------------------

RECEPTION = (Reception("spend", "reached"), SPEND)
KEEN, OTHERS = 0.30, 0.15  # who is reached would have bought twice as often anyway


def arm_of(yes: np.ndarray, no: np.ndarray, n: int, k: np.ndarray) -> dict[str, np.ndarray]:
    """One arm's cells from the buyers and sums of the k reached and of the rest."""
    y = centred(n, yes + no)
    d, m, s1, s2 = k / n, y["mean spend"], yes[1], yes[2]
    return y | {
        "mean reached": d,
        "sum reached × reached": n * d * (1 - d),
        "sum reached × spend": s1 - n * d * m,
        "sum reached × reached × reached": n * d * (1 - d) * (1 - 2 * d),
        "sum reached × reached × spend": (1 - 2 * d) * (s1 - n * d * m),
        "sum reached × spend × spend": s2 - 2 * m * s1 + m**2 * k - d * y["sum spend × spend"],
    }


def withheld(draws: np.random.Generator, n: int, reach: float, anyway: float, gain: float, times: int) -> dict:
    """The holdout: the same people, of whom the offer reached only those whom it reaches anyway."""
    always, gone = draws.binomial(n, anyway, times), (reach - anyway) / (1 - anyway)
    missed = draws.binomial(n - always, gone)
    no = sums(draws, missed, KEEN, times) + sums(draws, n - always - missed, OTHERS, times)
    return arm_of(sums(draws, always, KEEN + gain, times), no, n, always)


def difference(one: np.ndarray, n_one, two: np.ndarray, n_two) -> tuple[np.ndarray, np.ndarray]:
    """The naive interval of a difference of two groups' means."""
    with np.errstate(divide="ignore", invalid="ignore"):  # a group without anybody has no interval
        means = [group[1] / n for group, n in ((one, n_one), (two, n_two))]
        parts = [(g[2] / n - m**2) / n for g, n, m in zip((one, two), (n_one, n_two), means, strict=True)]
    half = Z * np.sqrt(parts[0] + parts[1])
    return means[0] - means[1] - half, means[0] - means[1] + half


def run_reached(case: str, reach: float, gain: float, n: int, held: int, anyway: float = 0.0):
    """A case of the effect on those reached: `n` customers are sent offers, `held` are not, and `anyway` get them still."""

    def run(reps: int, seed: int) -> list[Row]:
        draws = np.random.default_rng([seed, 2, round(1e5 * reach), round(1e5 * gain), n])
        limits, delta, openers = [], [], []
        for times in blocks(reps):
            k = draws.binomial(n, reach, times)
            yes, no = sums(draws, k, KEEN + gain, times), sums(draws, n - k, OTHERS, times)
            offers, holdout = arm_of(yes, no, n, k), withheld(draws, held, reach, anyway, gain, times)
            openers.append(difference(yes, k, no, n - k))
            for one in experiments({"offers": offers, "holdout": holdout}, RECEPTION):
                try:
                    found = cace(one, "spend", "reached", "offers", "holdout")
                except Refusal:
                    limits.append((np.nan, np.nan))
                    delta.append((np.nan, np.nan))
                    continue
                limits.append((found.low, found.high))
                delta.append((found.value - Z * found.se, found.value + Z * found.se))
        truth = gain * ORDER
        rows = [scored("effect on those reached", case, "closed", *np.array(limits).T, truth)]
        if rows[0].refused == 1:
            return rows
        if reach - anyway < 0.1:  # few more are reached than without offers
            method = "effect on those reached, delta method"
            rows.append(scored(method, case, "closed", *np.array(delta).T, truth, naive=True))
        naive = np.concatenate(openers, axis=1)
        rows.append(scored("those reached less the rest of their arm", case, "closed", *naive, truth, naive=True))
        return rows

    return run


# --- store sales that only partly match --------------------------------------------------------------------------------


def run_match(reps: int, seed: int) -> list[Row]:
    """A trial on store sales of which 60 % are matched, and an audit of 1,000 purchases an arm."""
    n, audited, rate, gain = 20_000, 1_000, 0.6, 0.03
    draws = np.random.default_rng([seed, 3])
    found = {name: [] for name in ("corrected", "seen", "zero", "apart", "worst", "worst with effect")}

    def limits(name: str, gain: float, rates: tuple[float, float]) -> None:
        """Three answers to one set of experiments, those of `name` first."""
        for times in blocks(reps):
            arms = {
                arm: centred(n, sums(draws, n, (BUYING + gain * (arm == "offers")) * m, times))
                for arm, m in zip(("offers", "holdout"), rates, strict=True)
            }
            hits = [draws.binomial(audited, m, times) for m in rates]
            for run, *hit in zip(experiments(arms, (SPEND,)), *hits, strict=True):
                seen = effect(run, SPEND, "offers", "holdout")
                pair = dict(zip(("offers", "holdout"), map(int, hit), strict=True))
                match = match_rate(pair, dict.fromkeys(pair, audited), "offers", "holdout")
                if name == "corrected":
                    found["seen"].append((seen.low, seen.high))
                    found["worst with effect"].append(bounds(seen, match))
                if name == "apart":
                    found["worst"].append(bounds(seen, match))
                    found[name].append((seen.low / match.rate, seen.high / match.rate))
                    continue
                try:
                    one = correct(seen, match)
                    found[name].append((one.low, one.high))
                except Refusal:
                    found[name].append((np.nan, np.nan))

    limits("corrected", gain, (rate, rate))
    limits("zero", 0.0, (rate, rate))
    limits("apart", 0.0, (rate + 0.02, rate - 0.02))
    of = {name: np.array(rows).T for name, rows in found.items()}
    alike, apart = "60 % of store sales matched in both arms", "62 and 58 % matched, no effect"
    worst = (of["worst"][0] > 0) | (of["worst"][1] < 0)
    seen = (of["worst with effect"][0] > 0) | (of["worst with effect"][1] < 0)
    return [
        scored("effect on store sales ÷ match rate", alike, "closed", *of["corrected"], gain * ORDER),
        scored("effect on store sales ÷ match rate", f"{alike}, no effect", "closed", *of["zero"], 0.0),
        scored("effect on matched sales read as the whole", alike, "closed", *of["seen"], gain * ORDER, naive=True),
        scored("effect on store sales ÷ one match rate", apart, "closed", *of["apart"], 0.0, naive=True),
        alarmed("bounds on store sales, whatever the match", apart, "conservative", worst, power=float(seen.mean())),
    ]


CASES = (
    Case("factorial", 10_000, run_factorial),
    Case("reached, strong", 10_000, run_reached("60 % reached, a gain", 0.6, 0.03, 8_000, 2_000)),
    Case("reached, null", 10_000, run_reached("60 % reached, no effect", 0.6, 0.0, 8_000, 2_000)),
    Case("reached, weak", 10_000, run_reached("about 15 of 3,000 reached", 0.005, 0.3, 3_000, 3_000)),
    Case("reached, encouraged", 10_000, run_reached("10 against 8 % reached", 0.1, 0.1, 8_000, 8_000, 0.08)),
    Case("reached, none", 10_000, run_reached("one in 4,000 reached", 0.00025, 0.03, 4_000, 1_000)),
    Case("match", 10_000, run_match),
)
