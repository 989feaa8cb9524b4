"""Peeking: sixty looks at a growing experiment, at a fixed group whose spend accrues, and at the arms' sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from benchmarks.calibration import Case
from scipy import special

from fairlift.method.calibration import Row, alarmed, scored
from fairlift.method.looks import BUYERS, EVENTS, boundaries
from fairlift.method.sequence import BURN_IN, multiple
from fairlift.method.sequential_srm import e_values

LOOKS = 60
AT_ONCE = 100  # experiments drawn together
Z = -float(special.ndtri(0.025))
SHARES = np.array([0.6, 0.2, 0.2])
CUSTOMERS_A_DAY = 1_300
DAYS = 28


@dataclass(frozen=True)
class Paths:
    """Experiments side by side, one row each, look by look: what `effect` says at every look."""

    n: np.ndarray  # units in both arms
    smaller: np.ndarray  # units in the smaller arm
    value: np.ndarray
    se: np.ndarray
    skew: np.ndarray
    fewest: np.ndarray

    @property
    def corrected(self) -> np.ndarray:
        """Hall's transformation of t: what the limits of his interval are found by."""
        z, k = self.value / self.se, self.skew
        return z + k * z**2 / 3 + k**2 * z**3 / 27 + k / 6

    def limits(self, places, reach) -> tuple[np.ndarray, np.ndarray]:
        """Hall's limits at some looks, `reach` standard errors away."""
        k = np.where(np.abs(self.skew[:, places]) < 1e-6, 1e-6, self.skew[:, places])
        low, high = (self.value[:, places] - self.se[:, places] * _untransformed(q, k) for q in (reach, -reach))
        return low, high

    def join(self, other: Paths) -> Paths:
        both = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in VALUES}
        return Paths(self.n, self.smaller, **both)


def _untransformed(quantile, k: np.ndarray) -> np.ndarray:
    """The inverse of Hall's transformation."""
    return 3 / k * (np.cbrt(1 + k * (quantile - k / 6)) - 1)


VALUES = ("value", "se", "skew", "fewest")


def arm(draws: np.random.Generator, reps: int, n: int, buying: float, sigma: float) -> tuple[np.ndarray, ...]:
    """Mean, its variance and third cumulant, and the buyers, as lognormal spend of ever more customers comes in.

    sigma 0 is a spend of 1: a share.
    """
    a_look = n // LOOKS
    buyers = draws.binomial(a_look, buying, (reps, LOOKS))
    if sigma:
        spent = draws.lognormal(0, sigma, int(buyers.sum()))
        owner = np.repeat(np.arange(buyers.size), buyers.ravel())
        sums = [np.bincount(owner, spent**k, buyers.size).reshape(buyers.shape).cumsum(axis=1) for k in (1, 2, 3)]
    else:
        sums = [buyers.cumsum(axis=1).astype(float)] * 3
    size = a_look * np.arange(1, LOOKS + 1)
    mean = sums[0] / size
    second = sums[1] - size * mean**2
    third = sums[2] - 3 * mean * sums[1] + 2 * size * mean**3
    return mean, second / (size - 1) / size, third / (size * (size - 1) * (size - 2)), buyers.cumsum(axis=1)


def paths(seed, reps: int, n: int, holdout: float, buying: float, sigma: float, factor: float = 1.0) -> Paths:
    """Growing experiments; customers of the new arm buy `factor` times as often."""
    draws, found = np.random.default_rng(seed), None
    sizes = [int(n * (1 - holdout)), int(n * holdout)]
    steps = np.arange(1, LOOKS + 1)
    for start in range(0, reps, AT_ONCE):
        some = min(AT_ONCE, reps - start)
        one, two = (arm(draws, some, size, buying * f, sigma) for size, f in zip(sizes, (factor, 1.0), strict=True))
        se = np.sqrt(np.maximum(one[1] + two[1], 1e-300))
        skew = (one[2] - two[2]) / se**3
        part = Paths(
            n=sum(size // LOOKS for size in sizes) * steps,
            smaller=min(sizes) // LOOKS * steps,
            value=one[0] - two[0],
            se=se,
            skew=skew if sigma else np.zeros_like(skew),
            fewest=np.minimum(one[3], two[3]),
        )
        found = found.join(part) if found else part
    return found


def by_looks(seen: Paths, looks: int, spending: str, least: int) -> tuple[np.ndarray, np.ndarray]:
    """The limits that all of a few equally spaced looks share; a look with too few buyers says nothing."""
    places = LOOKS // looks * np.arange(1, looks + 1) - 1
    reach = boundaries(seen.n[places] / seen.n[-1], spending=spending)
    few = seen.fewest[:, places] < least
    low, high = seen.limits(places, reach)
    return everywhere(np.where(few, -np.inf, low), np.where(few, np.inf, high), 0.0)


def everywhere(low: np.ndarray, high: np.ndarray, truth: float) -> tuple[np.ndarray, np.ndarray]:
    """The part that all looks of an experiment share; where they contradict each other, the side that misses the truth."""
    least, most = low.max(axis=1), high.min(axis=1)
    return np.where(most < truth, np.minimum(least, most), least), most


def growing(n: int, holdout: float, buying: float, sigma: float, factor: float, case: str, looks: bool = True):
    """A case: sixty looks as customers come in, without an effect, and with one for the power."""
    least = BUYERS if sigma else EVENTS

    def run(reps: int, seed: int) -> list[Row]:
        null = paths([seed, 0], reps, n, holdout, buying, sigma)
        real = paths([seed, 1], max(reps // 8, 200), n, holdout, buying, sigma, factor)
        ready, ready_real = ((seen.smaller >= BURN_IN) & (seen.fewest >= least) for seen in (null, real))
        never, reach = ~ready.any(axis=1), multiple(null.n, n)
        alarms = (ready & (np.abs(null.corrected) > reach)).any(axis=1)
        power = float((ready_real & (real.corrected > reach)).any(axis=1).mean())
        refused = float(never.mean())
        rows = [alarmed("confidence sequence", case, "conservative", alarms[~never], power=power, refused=refused)]
        naive = {"the usual interval at every look": np.abs(null.corrected) > Z}
        if sigma:
            naive["sequence without regard to skew"] = ready & (np.abs(null.value / null.se) > reach)
        rows += [alarmed(said, case, "conservative", hit.any(axis=1), naive=True) for said, hit in naive.items()]
        if not looks:
            return rows
        for spending, name in (("obrien_fleming", "O'Brien and Fleming"), ("pocock", "Pocock")):
            said = f"five looks agreed beforehand, spent as by {name}"
            power = float((by_looks(real, 5, spending, least)[0] > 0).mean())
            rows.append(scored(said, case, "closed", *by_looks(null, 5, spending, least), 0.0, power=power))
        low, high = (part[:, 0] for part in null.limits([-1], Z))
        power = float((real.limits([-1], Z)[0] > 0).mean())
        return [*rows, scored("one look at the end", case, "closed", low, high, 0.0, power=power)]

    return run


def accrual(seed, reps: int, customers: int, gain: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A group of customers, all there on day 0, who buy for sixty days, each at a rate of his own; half get offers.

    Answers, for spend so far: the difference and its standard error by day, and the standard error that comes out when
    every customer-day is taken for a unit; last the difference of the whole window over customers in order of entry, for
    the right use: who entered k-th is complete k-th.
    """
    draws = np.random.default_rng(seed)
    half, found = customers // 2, []
    for _ in range(reps):
        rate = draws.gamma(0.8, 0.05 / 0.8, customers)
        rate[:half] *= gain
        daily = draws.poisson(np.broadcast_to(rate, (LOOKS, customers))).astype(float)
        so_far = daily.cumsum(axis=0)
        value = so_far[:, :half].mean(axis=1) - so_far[:, half:].mean(axis=1)
        se = np.sqrt((so_far[:, :half].var(axis=1) + so_far[:, half:].var(axis=1)) / half)
        days = np.arange(1, LOOKS + 1)
        mean, square = so_far / days[:, None], (daily**2).cumsum(axis=0).sum(axis=1) / days / customers
        by_day = np.sqrt((square - mean.mean(axis=1) ** 2) * 4 / (customers * days))
        done = half // LOOKS * days
        whole = [so_far[-1, :half], so_far[-1, half:]]
        sums = [[(part**k).cumsum()[done - 1] for k in (1, 2)] for part in whole]
        means = [one / done for one, _ in sums]
        spread = sum((two / done - m**2) / done for (_, two), m in zip(sums, means, strict=True))
        found.append((value, se, by_day, means[0] - means[1], np.sqrt(spread)))
    return tuple(np.array(part) for part in zip(*found, strict=True))


def accruing(reps: int, seed: int) -> list[Row]:
    """Sixty looks at a fixed group whose spend accrues: the usual test, the sequence misused, and used as it must be."""
    customers, gain, case = 6_000, 1.3, "60 looks, fixed group, spend accrues"
    value, se, by_day, whole, spread = accrual([seed, 2], reps, customers, 1.0)
    n = customers * np.arange(1, LOOKS + 1)
    done = customers // 2 // LOOKS * 2 * np.arange(1, LOOKS + 1)
    ready = done >= 2 * BURN_IN
    right = (ready & (np.abs(whole / spread) > multiple(done, customers))).any(axis=1)
    real = accrual([seed, 3], max(reps // 2, 1), customers, gain)
    power = float((ready & (np.abs(real[3] / real[4]) > multiple(done, customers))).any(axis=1).mean())
    rows = [
        alarmed("the usual interval every day", case, "conservative", (np.abs(value / se) > Z).any(axis=1), naive=True),
        alarmed(
            "sequence over customer-days",
            case,
            "conservative",
            (np.abs(value / np.arange(1, LOOKS + 1) / by_day) > multiple(n, n[-1])).any(axis=1),
            naive=True,
        ),
        alarmed("sequence over complete windows", case, "conservative", right, power=power),
    ]
    truth = 0.05 * LOOKS * (gain - 1)
    holds = "60 looks, missing the effect of the whole window"
    half = multiple(customers, customers) * real[1]
    rows.append(
        scored(
            "sequence over spend so far", holds, "conservative", *everywhere(real[0] - half, real[0] + half, truth), truth,
            naive=True,
        )
    )  # fmt: skip
    half = np.where(ready, multiple(done, customers) * real[4], np.inf)
    low, high = everywhere(real[3] - half, real[3] + half, truth)
    missed = (low > truth) | (high < truth)
    rows.append(alarmed("sequence over complete windows", holds, "conservative", missed, power=power))
    return rows


def sizes(reps: int, seed: int) -> list[Row]:
    """The arms' sizes looked at every day: sound draws, and for the power draws in which one share is two points short."""
    draws = np.random.default_rng([seed, 4])
    wrong = SHARES + np.array([-0.02, 0.0, 0.02])
    found = {}
    for name, shares in (("sound", SHARES), ("wrong", wrong)):
        total = draws.multinomial(CUSTOMERS_A_DAY, shares, (reps, DAYS)).cumsum(axis=1)
        expected = total.sum(axis=2, keepdims=True) * SHARES
        p = special.chdtrc(len(SHARES) - 1, ((total - expected) ** 2 / expected).sum(axis=2))
        found[name] = e_values(total, SHARES), p
    (e, p), (e_wrong, p_wrong) = found["sound"], found["wrong"]
    rows, case = [], "arms' sizes, 28 days"
    for alpha in (0.001, 0.05):
        level = -np.log(alpha)
        power = float((e_wrong >= level).any(axis=1).mean())
        said = f"sequential sample ratio at {alpha:g}"
        rows.append(alarmed(said, case, "conservative", (e >= level).any(axis=1), nominal=alpha, power=power))
        power = float((p_wrong < alpha).any(axis=1).mean())
        said = f"chi-squared every day at {alpha:g}"
        alarms = (p < alpha).any(axis=1)
        rows.append(alarmed(said, case, "conservative", alarms, nominal=alpha, naive=True, power=power))
    return rows


CASES = (
    Case("60 looks, half of the customers in each arm, a share", 10_000,
         growing(12_000, 0.5, 0.1, 0.0, 1.2, "60 looks, halves, share of 10 %")),
    Case("60 looks, half of the customers in each arm, skewed spend", 10_000,
         growing(30_000, 0.5, 0.3, 1.0, 1.12, "60 looks, halves, skewed spend")),
    Case("60 looks, a holdout of a fifth, skewed spend", 10_000,
         growing(48_000, 0.2, 0.3, 1.0, 1.12, "60 looks, holdout 20 %, skewed spend")),
    Case("60 looks, a holdout of a twentieth, heavy tails", 2_000,
         growing(60_000, 0.05, 0.3, 1.3, 1.25, "60 looks, holdout 5 %, heavy tails", looks=False)),
    Case("60 looks, fixed group", 1_000, accruing),
    Case("arms' sizes every day", 20_000, sizes),
)  # fmt: skip
