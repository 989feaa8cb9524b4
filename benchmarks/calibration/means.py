"""Means and shares: two arms, several arms, guardrails and segments, on experiments with a known truth.

The library is called once an experiment, on moments made from sums of all draws at once; a test holds these against the
moment engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import combinations_with_replacement

import numpy as np
import pandas as pd
from benchmarks.calibration import Case
from scipy import stats

from fairlift.errors import Refusal
from fairlift.method import Mean, Moments, Proportion, effect, lift, newcombe
from fairlift.method.calibration import Row, alarmed, scored
from fairlift.method.family import dunnett, largest_t_quantile, noninferior
from fairlift.method.segment import read_segments

SPEND, BOUGHT = Mean("spend"), Proportion("bought")
NEW, OLD = "new", "holdout"

# Spend of the 578 buyers among 64,000 customers in Hillstrom's e-mail test (2008): a floor, a long tail, an end
SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
SPENT = (29.99, 29.99, 32.27, 80.80, 153.35, 256.49, 362.20, 499.00, 499.00)
BUYING = 0.009

Draws = np.random.Generator
Spend = Callable[[Draws, int], np.ndarray]


def heavy(draws: Draws, n: int) -> np.ndarray:
    """Lognormal spend, sigma 1."""
    return draws.lognormal(0, 1, n)


def real(draws: Draws, n: int) -> np.ndarray:
    """Spend as real buyers spent it."""
    return np.interp(draws.random(n), SHARES, SPENT)


# --- moments of many experiments at once ------------------------------------------------------------------------------


def dense(columns: Mapping[str, np.ndarray], order: int = 2) -> dict[str, np.ndarray]:
    """Moments of one arm in many experiments; each column has one row an experiment and one entry a customer."""
    first = next(iter(columns.values()))
    found = {"n": np.full(len(first), float(first.shape[1]))}
    centred = {name: values - values.mean(axis=1, keepdims=True) for name, values in columns.items()}
    for name, values in columns.items():
        found |= {f"nonzero {name}": (values != 0).sum(axis=1), f"mean {name}": values.mean(axis=1)}
    for size in range(2, order + 1):
        for term in combinations_with_replacement(sorted(columns), size):
            product = math.prod((centred[name] for name in term[1:]), start=centred[term[0]])
            found["sum " + " × ".join(term)] = product.sum(axis=1)
    return found


def sparse(draws: Draws, n: int, buying: float, spend: Spend, times: int) -> dict[str, np.ndarray]:
    """Moments of `n` customers of whom a share buys; everybody else spends 0 and is never drawn."""
    parts = []
    for _ in range(0, times, 250):
        buyers = np.maximum(draws.binomial(n, buying, 250), 1)
        spent = spend(draws, int(buyers.sum()))
        ends = np.concatenate([[0], buyers.cumsum()[:-1]])
        parts.append((buyers, *(np.add.reduceat(spent**power, ends) for power in (1, 2, 3))))
    buyers, s1, s2, s3 = (np.concatenate(each)[:times] for each in zip(*parts, strict=True))
    mean = s1 / n
    return {
        "n": np.full(times, float(n)),
        "nonzero spend": buyers,
        "mean spend": mean,
        "sum spend × spend": s2 - n * mean**2,
        "sum spend × spend × spend": s3 - 3 * mean * s2 + 2 * n * mean**3,
    }


def zero_one(draws: Draws, n: int, share: float, times: int, name: str = "bought") -> dict[str, np.ndarray]:
    """Moments of a 0/1 column."""
    hits = draws.binomial(n, share, times).astype(float)
    size = np.full(times, float(n))
    return {"n": size, f"nonzero {name}": hits, f"mean {name}": hits / n, f"sum {name} × {name}": hits * (1 - hits / n)}


def runs(metrics, cells: Iterable[tuple[str, Mapping[str, np.ndarray]] | tuple[str, str, Mapping]]) -> list[Moments]:
    """One `Moments` an experiment, from (arm, moments) or (arm, stratum, moments) of all experiments."""
    frames = []
    for arm, *stratum, found in cells:
        frame = pd.DataFrame(found).assign(arm=arm, stratum=stratum[0] if stratum else "", day="")
        frames.append(frame.assign(run=np.arange(len(frame))))
    whole, many = pd.concat(frames, ignore_index=True).sort_values("run", kind="stable"), len(frames)
    whole = whole.drop(columns="run")
    metrics = tuple(metrics)
    return [Moments(whole.iloc[start : start + many], metrics) for start in range(0, len(whole), many)]


def limits(experiments: Sequence[Moments], read: Callable[[Moments], object]) -> tuple[np.ndarray, np.ndarray]:
    """Both limits in every experiment; NaN where the method refuses."""
    found = np.full((2, len(experiments)), np.nan)
    for place, run in enumerate(experiments):
        try:
            seen = read(run)
        except Refusal:
            continue
        found[:, place] = seen.low, seen.high
    return found[0], found[1]


def compared(
    case: str,
    experiments: Sequence[Moments],
    metric,
    truth: float,
    methods: Mapping[str, dict],
    naive: Mapping[str, dict],
) -> list[Row]:
    """Rows of `effect` under several options, all on the same experiments."""
    return [
        scored(name, case, "closed", *limits(experiments, partial(_effect, metric=metric, **how)), truth, naive=wrong)
        for options, wrong in ((methods, False), (naive, True))
        for name, how in options.items()
    ]


def _effect(run: Moments, metric, **how):
    return effect(run, metric, NEW, OLD, **how)


# --- two arms -----------------------------------------------------------------------------------------------------------


def light_tails(reps: int, seed: int) -> list[Row]:
    """Normal spend; the small arm varies twice as much as the large one."""
    draws = np.random.default_rng(seed)
    arms = {OLD: draws.normal(10, 4, (reps, 150)), NEW: draws.normal(10, 2, (reps, 850))}
    found = runs([SPEND], [(arm, dense({"spend": spend}, order=3)) for arm, spend in arms.items()])
    case = "light tails, 150 against 850, unequal variance"
    rows = compared(case, found, SPEND, 0.0, {"Hall": {"interval": "hall"}, "Welch": {"interval": "welch"}}, {})
    gap = arms[NEW].mean(axis=1) - arms[OLD].mean(axis=1)
    pooled = sum(spend.var(axis=1, ddof=1) * (spend.shape[1] - 1) for spend in arms.values()) / 998
    half = stats.t.isf(0.025, 998) * np.sqrt(pooled * (1 / 150 + 1 / 850))
    return [
        *rows,
        scored("Student, one variance for both arms", case, "closed", gap - half, gap + half, 0.0, naive=True),
    ]


def skewed(
    reps: int, seed: int, *, case: str, holdout: int, share: float, buying: float, spend: Spend, rise: float = 1.0
) -> list[Row]:
    """Spend of which most is 0; `share` is the holdout's of all customers, `rise` multiplies who buys."""
    draws = np.random.default_rng(seed)
    rest = round(holdout * (1 - share) / share)
    cells = [(OLD, sparse(draws, holdout, buying, spend, reps)), (NEW, sparse(draws, rest, buying * rise, spend, reps))]
    found = runs([SPEND], cells)
    truth = buying * (rise - 1) * float(spend(np.random.default_rng(0), 4_000_000).mean()) if rise != 1 else 0.0
    return compared(case, found, SPEND, truth, {"Hall": {}}, {"Welch": {"interval": "welch"}})


def proportions(reps: int, seed: int) -> list[Row]:
    """A share of one in five, in a 5 % holdout of 2,000."""
    draws = np.random.default_rng(seed)
    found = runs([BOUGHT], [(OLD, zero_one(draws, 2_000, 0.2, reps)), (NEW, zero_one(draws, 38_000, 0.23, reps))])
    return compared("proportion of 20 %, 5 % holdout of 2,000", found, BOUGHT, 0.03, {"Hall": {}}, {})


def rare(reps: int, seed: int) -> list[Row]:
    """Complaints of three customers in a thousand: the interval has to follow the skew of a small count."""
    draws = np.random.default_rng(seed)
    n, n_old, share = 380_000, 20_000, 0.003
    hits, hits_old = draws.binomial(n, share, reps), draws.binomial(n_old, share, reps)
    pairs = [newcombe(int(a), n, int(b), n_old) for a, b in zip(hits, hits_old, strict=True)]
    cells = [(NEW, zero_one(_Given(hits), n, share, reps)), (OLD, zero_one(_Given(hits_old), n_old, share, reps))]
    case = "proportion of 0.3 %, 5 % holdout of 20,000"
    rows = compared(case, runs([BOUGHT], cells), BOUGHT, 0.0, {"Hall": {}}, {"Welch": {"interval": "welch"}})
    return [*rows, scored("Newcombe", case, "closed", *np.array(pairs).T, 0.0)]


class _Given:
    """Draws that were drawn before."""

    def __init__(self, hits: np.ndarray):
        self.binomial = lambda n, share, times: hits


def relative(reps: int, seed: int) -> list[Row]:
    """A lift of 30 % over a 5 % holdout of 1,000."""
    draws = np.random.default_rng(seed)
    found = runs([BOUGHT], [(OLD, zero_one(draws, 1_000, 0.2, reps)), (NEW, zero_one(draws, 19_000, 0.26, reps))])
    seen = [effect(run, BOUGHT, NEW, OLD) for run in found]
    right = np.array([(one.low, one.high) for one in map(lift, seen)]).T
    divided = np.array([(one.low / one.mean_versus, one.high / one.mean_versus) for one in seen]).T
    case = "lift of 30 %, 5 % holdout of 1,000"
    return [
        scored("Fieller", case, "closed", *right, 0.3),
        scored("limits divided by the holdout's mean", case, "closed", *divided, 0.3, naive=True),
    ]


def adjusted(reps: int, seed: int) -> list[Row]:
    """Spend adjusted for earlier spend, whose slope differs between the arms."""
    draws = np.random.default_rng(seed)
    metric, cells, gaps = Mean("spend", "before"), [], []
    for arm, n, slope, gain in ((NEW, 450, 3.0, 1.0), (OLD, 150, -1.0, 0.0)):
        before = draws.normal(size=(reps, n))
        cells.append(
            (arm, dense({"before": before, "spend": 5 + gain + slope * before + draws.normal(size=(reps, n))}, 3))
        )
    found = runs([metric], cells)
    case = "earlier spend with differing slopes, 450 against 150"
    how = {"interval": "welch"}
    options = {"unadjusted": how, "Lin": how | {"adjust": "lin"}, "CUPED, one slope": how | {"adjust": "pooled"}}
    rows = compared(case, found, metric, 1.0, options, {})
    for run in found:  # as if the mean of earlier spend were known and not estimated
        seen = effect(run, metric, NEW, OLD, adjust="lin", **how)
        own = math.sqrt(
            max(seen.se**2 - (seen.se_arm**2 + seen.se_versus**2 - 2 * seen.covariance - _apart(run)), 1e-12)
        )
        gaps.append((seen.value - 1.96 * own, seen.value + 1.96 * own))
    return [*rows, scored("Lin, earlier spend taken as known", case, "closed", *np.array(gaps).T, 1.0, naive=True)]


def _apart(run: Moments) -> float:
    """The variance of a difference of two adjusted means where the covariate's mean is known."""
    variance = 0.0
    for arm in (NEW, OLD):
        sample = run.arm(arm)
        slope = sample.cov("before", "spend") / sample.var("before")
        variance += (sample.var("spend") - slope**2 * sample.var("before")) * (sample.n - 1) / (sample.n - 2) / sample.n
    return variance


def strata(reps: int, seed: int) -> list[Row]:
    """Three regions that spend very differently, and a ramp in which the share of the new arm grew with spend."""
    draws = np.random.default_rng(seed)
    rows = []
    for case, shares in (
        ("three strata, drawn alike", (0.5, 0.5, 0.5)),
        ("ramp: the arm's share grows while spend falls", (0.1, 0.3, 0.7)),
    ):
        sizes = draws.multinomial(1_500, [0.3, 0.4, 0.3], reps)
        cells = []
        for place, (name, base) in enumerate(zip("abc", (20.0, 10.0, 5.0), strict=True)):
            new = draws.binomial(sizes[:, place], shares[place])
            for arm, n in ((NEW, new), (OLD, sizes[:, place] - new)):
                cells.append((arm, name, _normal(draws, n, base + (arm == NEW) * 1.0, 4.0)))
        found = runs([SPEND], cells)
        how = {"interval": "welch"}
        plain = {"arms as they are": how}
        rows += compared(
            case, found, SPEND, 1.0, {"within strata": how | {"by": "stratum"}} | (plain if shares[0] == 0.5 else {}),
            {} if shares[0] == 0.5 else plain,
        )  # fmt: skip
    return rows


def _normal(draws: Draws, n: np.ndarray, mean: float, sigma: float) -> dict[str, np.ndarray]:
    """Moments of `n` normal values an experiment; the third is left 0, as Welch does not read it."""
    square = sigma**2 * draws.chisquare(n - 1)
    names = ("n", "nonzero spend", "mean spend", "sum spend × spend", "sum spend × spend × spend")
    columns = (n.astype(float), n, draws.normal(mean, sigma / np.sqrt(n)), square, np.zeros(len(n)))
    return dict(zip(names, columns, strict=True))


# --- several arms, guardrails, segments ---------------------------------------------------------------------------------


def dunnett_runs(reps: int, seed: int, gain: float = 0.0) -> dict[str, np.ndarray]:
    """Whether any of four arms is called different from the control; one arm's spend varies twice as much, another gains."""
    draws = np.random.default_rng(seed)
    sizes, spreads = dict.fromkeys("abcd", 150) | {OLD: 400}, dict.fromkeys("abc", 3.0) | {"d": 6.0, OLD: 3.0}
    spend = {arm: draws.normal(10 + gain * (arm == "a"), spreads[arm], (reps, n)) for arm, n in sizes.items()}
    found = runs([SPEND], [(arm, dense({"spend": values}, order=3)) for arm, values in spend.items()])
    together = [dunnett(run, SPEND, OLD, interval="welch").effects for run in found]
    alone = [stats.ttest_ind(spend[arm], spend[OLD], axis=1, equal_var=False).pvalue for arm in "abcd"]
    df = sum(sizes.values()) - len(sizes)
    variance = sum(values.var(axis=1, ddof=1) * (values.shape[1] - 1) for values in spend.values()) / df
    scale = np.sqrt(variance * (1 / sizes["a"] + 1 / sizes[OLD]))
    t = [(spend[arm].mean(axis=1) - spend[OLD].mean(axis=1)) / scale for arm in "abcd"]
    reach = largest_t_quantile(0.05, [math.sqrt(sizes["a"] / (sizes["a"] + sizes[OLD]))] * 4, df)
    return {
        "dunnett": np.array([any(seen.p < 0.05 for seen in effects) for effects in together]),
        "single": (np.array(alone) < 0.05).any(axis=0),
        "pooled": (np.abs(t) > reach).any(axis=0),
    }


def several_arms(reps: int, seed: int) -> list[Row]:
    found, gained = dunnett_runs(reps, seed), dunnett_runs(max(reps // 20, 1), seed + 1, gain=1.0)
    case = "four arms against one holdout: any false alarm"
    return [
        alarmed(
            "Dunnett, each arm its variance",
            case,
            "conservative",
            found["dunnett"],
            power=float(gained["dunnett"].mean()),
        ),
        alarmed("each arm tested alone", case, "conservative", found["single"], naive=True),
        alarmed("Dunnett, one variance", case, "conservative", found["pooled"], naive=True),
    ]


def guardrail_runs(reps: int, seed: int, harm: float = 0.02) -> dict[str, np.ndarray]:
    """Whether a guardrail is called safe, where opt-outs rise by `harm` from 5 % and the margin is two points."""
    draws = np.random.default_rng(seed)
    found = runs(
        [BOUGHT], [(OLD, zero_one(draws, 1_000, 0.05, reps)), (NEW, zero_one(draws, 3_000, 0.05 + harm, reps))]
    )
    seen = [effect(run, BOUGHT, NEW, OLD) for run in found]
    return {
        "noninferior": np.array([noninferior(one, 0.02, "down").verdict == "pass" for one in seen]),
        "not significant": np.array([one.p >= 0.05 for one in seen]),
    }


def guardrails(reps: int, seed: int) -> list[Row]:
    """The harm is exactly the margin; a false alarm here is to call it safe."""
    found, power = guardrail_runs(reps, seed), guardrail_runs(max(reps // 5, 1), seed + 1, harm=0.0)
    case = "harm of exactly the margin called safe, small holdout"
    return [
        alarmed(
            "non-inferiority", case, "conservative", found["noninferior"], nominal=0.025,
            power=float(power["noninferior"].mean()),
        ),
        alarmed("not significant, so safe", case, "conservative", found["not significant"], nominal=0.025, naive=True),
    ]  # fmt: skip


def segment_runs(reps: int, seed: int, differ: float = 0.0, many: int = 10) -> dict[str, np.ndarray]:
    """Ten segments, everyone's effect 1: whether a difference is claimed; `differ` is the spread of true effects."""
    draws = np.random.default_rng(seed)
    cells, n = [], np.full(reps, 300)
    for place in range(many):
        name, gain = f"{place:02d}", 1.0 + differ * draws.normal(size=reps)
        cells += [(NEW, name, _normal(draws, 3 * n, 10 + gain, 8.0)), (OLD, name, _normal(draws, n, 10, 8.0))]
    found = runs([SPEND], cells)
    seen = [read_segments(run, SPEND, NEW, OLD, interval="welch") for run in found]
    best = []
    for segments in seen:
        values, ses = np.array([(row.effect.value, row.effect.se) for row in segments.shown]).T
        rest = (values.sum() - values) / (many - 1)
        apart = (values - rest) / np.sqrt(ses**2 + (ses**2).sum() / (many - 1) ** 2)
        best.append(np.abs(apart).max() > 1.96)
    hit = [all(row.effect.low <= 1.0 <= row.effect.high for row in segments.shown) for segments in seen]
    return {
        "omnibus": np.array([segments.differ for segments in seen]),
        "best": np.array(best),
        "together": np.array(hit),
    }


def segments(reps: int, seed: int) -> list[Row]:
    found, apart = segment_runs(reps, seed), segment_runs(max(reps // 5, 1), seed + 1, differ=1.0)
    case = "10 segments, the same effect in all"
    return [
        alarmed("one test over all segments", case, "conservative", found["omnibus"], power=float(apart["omnibus"].mean())),
        alarmed("the segment furthest from the rest", case, "conservative", found["best"], naive=True),
    ]  # fmt: skip


def _skewed(name: str, **how) -> Case:
    return Case(name, 10_000, partial(skewed, case=name, **how))


CASES = (
    Case("light tails", 10_000, light_tails),
    _skewed("lognormal spend, 5 % holdout of 2,600, 130 buyers", holdout=2_600, share=0.05, buying=0.05, spend=heavy),
    _skewed("lognormal spend, 5 % holdout of 5,000, 250 buyers", holdout=5_000, share=0.05, buying=0.05, spend=heavy),
    _skewed("lognormal spend, 5 % holdout of 20,000, 1,000 buyers", holdout=20_000, share=0.05, buying=0.05, spend=heavy),
    _skewed("real spend, 5 % holdout of 1,000, 9 buyers", holdout=1_000, share=0.05, buying=BUYING, spend=real),
    _skewed("real spend, 5 % holdout of 5,000, 45 buyers", holdout=5_000, share=0.05, buying=BUYING, spend=real),
    _skewed("real spend, 5 % holdout of 20,000, 180 buyers", holdout=20_000, share=0.05, buying=BUYING, spend=real),
    _skewed(
        "real spend, 5 % holdout of 20,000, a quarter more buyers",
        holdout=20_000, share=0.05, buying=BUYING, spend=real, rise=1.25,
    ),
    _skewed("real spend, equal arms of 20,000, 180 buyers", holdout=20_000, share=0.5, buying=BUYING, spend=real),
    Case("proportion", 10_000, proportions),
    Case("rare proportion", 10_000, rare),
    Case("relative lift", 10_000, relative),
    Case("adjusted for earlier spend", 10_000, adjusted),
    Case("strata", 10_000, strata),
    Case("several arms", 10_000, several_arms),
    Case("guardrails", 10_000, guardrails),
    Case("segments", 4_000, segments),
)  # fmt: skip
