"""How many customers an experiment needs: for a mean, a share, a ratio, clusters, retention, and for several gates at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
from scipy import special

from fairlift.errors import InputError, Problem, Refusal
from fairlift.format import number
from fairlift.method.effect import MIN_NONZERO, effect
from fairlift.method.hall import studentised
from fairlift.method.interval import clopper_pearson
from fairlift.method.metric import Mean
from fairlift.method.moments import Moments

MOST = 1e9  # units; beyond this an experiment is none
CORRECTIONS = ("dunnett", "bonferroni")
LATTICE = 1 << 13  # points of the integration over several gates: right to about four decimals


@dataclass(frozen=True)
class Spread:
    """The variance one unit adds to the mean of its arm: the standard error is √(arm / n_arm + versus / n_versus).

    `null` replaces both where the test rejects by another variance than the one that holds (the pooled test of two shares);
    `normal` uses the normal distribution instead of t.  `unit` says what is counted: customers, or clusters.  `third` and
    `third_versus` are the third central moments of a unit, for a mean that is read with Hall's interval.
    """

    arm: float
    versus: float
    null: float | None = None
    normal: bool = False
    unit: str = "customers"
    third: float = 0.0
    third_versus: float = 0.0

    def se(self, n: float, n_versus: float) -> float:
        """The standard error of the difference."""
        return math.sqrt(self.arm / n + self.versus / n_versus)

    def skew(self, n: float, n_versus: float) -> float:
        """The skewness of the difference: that of the smaller arm, as a rule, which is why a small holdout matters."""
        return (self.third / n**2 - self.third_versus / n_versus**2) / self.se(n, n_versus) ** 3

    def df(self, n: float, n_versus: float) -> float:
        """Degrees of freedom: n − 2 where the variances of customers are alike, else Welch's, by which clusters are read."""
        if self.normal:
            return math.inf
        if self.arm == self.versus and self.unit != "clusters":
            return n + n_versus - 2
        one, two = self.arm / n, self.versus / n_versus
        return (one + two) ** 2 / (one**2 / (n - 1) + two**2 / (n_versus - 1))


@dataclass(frozen=True)
class Size:
    """How many units each arm needs to show `effect` with `power`; `exact` is the total before rounding up."""

    effect: float
    power: float
    alpha: float
    n_arm: int
    n_versus: int
    exact: float
    unit: str = "customers"

    @property
    def total(self) -> int:
        return self.n_arm + self.n_versus

    def __str__(self) -> str:
        return (
            f"to show a difference of {number(self.effect)} with power {number(self.power, 'share')}: "
            f"{number(self.n_arm, 'count')} {self.unit} against {number(self.n_versus, 'count')}"
        )


def mean_spread(
    sd: float, sd_versus: float | None = None, skew: float = 0.0, skew_versus: float | None = None
) -> Spread:
    """The spread of a mean whose units have the standard deviation `sd` (in the metric's unit), `sd_versus` in the other arm.

    `skew` is the skewness of one unit; spend has much of it, and a small arm then needs more customers for a benefit.

    >>> print(sample_size(1.0, mean_spread(1.0), power=.9))
    to show a difference of 1 with power 90.00 %: 23 customers against 23
    """
    sd_versus = sd if sd_versus is None else sd_versus
    skew_versus = skew if skew_versus is None else skew_versus
    _need(sd > 0 and sd_versus > 0, "the standard deviation is not above 0", "give that of one customer")
    return Spread(sd**2, sd_versus**2, third=skew * sd**3, third_versus=skew_versus * sd_versus**3)


def share_spread(share: float, share_versus: float, pooled: bool = False) -> Spread:
    """The spread of the share of customers who did something, from the shares expected in both arms (fractions).

    `pooled` is the textbook's test (Fleiss 1981), which rejects by the variance of both arms together; Fairlift's
    interval does not pool.

    >>> round(sample_size(.25, share_spread(.75, .50, pooled=True), power=.9).exact / 2, 1)  # R: power.prop.test
    76.7
    """
    _need(all(0 < p < 1 for p in (share, share_versus)), "a share is not between 0 and 1", "write .05 for 5 %")
    both = (share + share_versus) / 2
    parts = share * (1 - share), share_versus * (1 - share_versus)
    return Spread(*parts, null=both * (1 - both), normal=True) if pooled else Spread(*parts)


def ratio_spread(top: float, bottom: float, var_top: float, var_bottom: float, covariance: float) -> Spread:
    """The spread of a ratio of two sums, such as revenue per order, from the moments of its parts per customer.

    The delta method (Deng, Knoblich and Lu 2018): customers are the units, never orders or sessions.

    >>> round(ratio_spread(60.0, 1.5, 9000.0, 4.0, 150.0).arm, 1)
    1511.1
    """
    _need(bottom > 0, "the denominator's mean is not above 0", "take customers who have one, or another metric")
    ratio = top / bottom
    variance = (var_top - 2 * ratio * covariance + ratio**2 * var_bottom) / bottom**2
    _need(variance > 0, "the moments leave no variance", "check variances and covariance")
    return Spread(variance, variance)


def retention_spread(kept: float, kept_versus: float, lost: float = 0.0) -> Spread:
    """The spread of the share still customers at a horizon, as Kaplan and Meier (1958) estimate it.

    `kept` are the shares expected at the horizon, `lost` the share whose history ends before it by chance.  Leaving and
    losing sight are taken as steady; the variance is Greenwood's.  With nobody lost it is that of a share.

    >>> round(retention_spread(.8, .8).arm, 4), round(retention_spread(.8, .8, lost=.3).arm, 4)
    (0.16, 0.1935)
    """
    _need(all(0 < p < 1 for p in (kept, kept_versus)), "a share is not between 0 and 1", "write .8 for 80 %")
    _need(0 <= lost < 1, "the share lost is not from 0 to 1", "write .1 for 10 %")

    def greenwood(share: float) -> float:
        leave, vanish = -math.log(share), -math.log1p(-lost)
        return share**2 * leave / (leave + vanish) * math.expm1(leave + vanish)

    return Spread(greenwood(kept), greenwood(kept_versus), normal=True)


def adjusted(spread: Spread, rho: float, rho_versus: float | None = None) -> Spread:
    """The spread left after adjusting for a covariate: variance × (1 − ρ²), ρ in each arm apart (Deng et al. 2013).

    >>> adjusted(Spread(100.0, 100.0), .6).arm
    64.0
    """
    rho_versus = rho if rho_versus is None else rho_versus
    _need(max(abs(rho), abs(rho_versus)) < 1, "a correlation is not within −1 and 1", "measure it on the past")
    left, left_versus = 1 - rho**2, 1 - rho_versus**2
    third = {"third": spread.third * left**1.5, "third_versus": spread.third_versus * left_versus**1.5}
    return replace(spread, arm=spread.arm * left, versus=spread.versus * left_versus, **third)


def design_effect(icc: float, size: float, cv: float = 0.0) -> float:
    """By how much drawing whole clusters inflates the variance: 1 + ((CV² + 1) m − 1) ρ (Eldridge, Ashby and Kerry 2006).

    `icc` is the intracluster correlation ρ, `size` the mean cluster size m, `cv` the sizes' standard deviation over m.

    >>> round(design_effect(.05, 50), 2), round(design_effect(.05, 50, cv=.8), 2)
    (3.45, 5.05)
    """
    _need(0 <= icc <= 1 and size >= 1 and cv >= 0, "ICC, size or CV is out of range", "0 ≤ ICC ≤ 1, size ≥ 1, CV ≥ 0")
    return 1 + ((cv**2 + 1) * size - 1) * icc


def clustered(spread: Spread, icc: float, size: float, cv: float = 0.0) -> Spread:
    """The spread where stores or households are drawn whole: the units are now clusters, and so are the degrees of freedom.

    >>> per_cluster = clustered(mean_spread(40.0), .05, 200, .6)
    >>> print(sample_size(5.0, per_cluster))
    to show a difference of 5 with power 80.00 %: 75 clusters against 75
    """
    inflate = design_effect(icc, size, cv) / size
    return replace(spread, arm=spread.arm * inflate, versus=spread.versus * inflate, null=None, unit="clusters")


def hayes_moulton(
    rate: float, rate_versus: float, exposure: float, k: float, power: float = 0.8, alpha: float = 0.05
) -> float:
    """Clusters an arm for a difference of two event rates (Hayes and Moulton 2009), before rounding up.

    Rates are events per customer and period, `exposure` customers × periods in a cluster, `k` the coefficient of variation
    of the true rates between clusters.

    >>> round(hayes_moulton(.005, .010, exposure=2000, k=.25), 2)
    5.81
    """
    _need(rate != rate_versus and min(rate, rate_versus, exposure) > 0, "no difference of two rates", "check them")
    z = _z(alpha / 2) + _z(1 - power)
    within = (rate + rate_versus) / exposure
    between = k**2 * (rate**2 + rate_versus**2)
    return 1 + z**2 * (within + between) / (rate - rate_versus) ** 2


def logrank_events(hazard_ratio: float, share: float = 0.5, power: float = 0.8, alpha: float = 0.05) -> float:
    """Events that a logrank test needs in both arms together (Schoenfeld 1983), before rounding up.

    Divide by the share of customers seen to leave, censoring included, to get customers.

    >>> round(logrank_events(.5), 1)
    65.3
    """
    _need(hazard_ratio > 0 and hazard_ratio != 1 and 0 < share < 1, "no hazard ratio to find", "give one such as .8")
    return ((_z(alpha / 2) + _z(1 - power)) / math.log(hazard_ratio)) ** 2 / (share * (1 - share))


def critical(
    df: float, alpha: float = 0.05, sides: int = 2, comparisons: int = 1, correction: str = "dunnett", rho: float = 0.5
) -> float:
    """The value that t must exceed when `comparisons` arms share one control (Dunnett 1955, or Bonferroni).

    `rho` is the correlation of two comparisons: n / (n + n of the control) for arms of the same size.

    >>> [round(critical(math.inf, comparisons=k), 2) for k in (1, 2, 3)]
    [1.96, 2.21, 2.35]
    """
    _need(0 < alpha < 1 and sides in (1, 2), "alpha or sides is out of range", "alpha such as .05; 1 or 2 sides")
    _need(comparisons >= 1 and correction in CORRECTIONS, "the comparisons make no sense", f"1 or more, {CORRECTIONS}")
    if comparisons == 1 or correction == "bonferroni":
        tail = alpha / sides / comparisons
        return _z(tail) if math.isinf(df) else float(-special.stdtrit(df, tail))
    return _dunnett(min(float(df), 1e6), alpha, sides, comparisons, round(rho, 6))


def power_of(
    effect: float,
    spread: Spread,
    n: float,
    n_versus: float,
    *,
    alpha: float = 0.05,
    sides: int = 2,
    comparisons: int = 1,
    correction: str = "dunnett",
) -> float:
    """The chance that the interval lies wholly on the right side when the true difference is `effect`, a size without sign.

    For a guardrail `effect` is the margin (less a harm expected).  Only the right side counts, as with R's power.t.test.
    `n` and `n_versus` are units in the two arms.

    >>> round(power_of(1.0, mean_spread(1.0), 22, 22), 4)
    0.8997
    """
    _need(effect > 0, f"the effect is {effect:g}", "give the size of the difference, above 0")
    _need(n > 1 and n_versus > 1, "an arm has a single unit", "give two or more")
    df = spread.df(n, n_versus)
    limit = critical(df, alpha, sides, comparisons, correction, n / (n + n_versus))
    se = spread.se(n, n_versus)
    if spread.null is not None:
        limit *= math.sqrt(spread.null * (1 / n + 1 / n_versus)) / se
    skew = spread.skew(n, n_versus)
    if skew:
        return _power_of_hall(effect / se, limit, skew)
    if df > 1e5:  # the same to five decimals, and quick
        return float(special.ndtr(effect / se - limit))
    if effect / se > 30:  # beyond what the noncentral t is computed for, only the estimated variance still varies
        return float(special.chdtr(df, df * (effect / se / limit) ** 2))
    return float(1 - special.nctdtr(df, effect / se, limit))


def _power_of_hall(away: float, limit: float, skew: float) -> float:
    """The power of Hall's interval (Hall 1992), by one Edgeworth term.

    The standard error rises and falls with a skewed estimate, so the estimate z must pass
    (limit − away) / (1 − limit × skew / 2), where `limit` is Hall's own.
    """
    limit = studentised(limit, skew)
    beyond = (limit - away) / max(1 - limit * skew / 2, 0.1)
    edgeworth = skew / 6 * (beyond**2 - 1) * math.exp(-(beyond**2) / 2) / math.sqrt(2 * math.pi)
    return float(min(max(special.ndtr(-beyond) + edgeworth, 0.0), 1.0))


def sample_size(effect: float, spread: Spread, *, power: float = 0.8, share: float = 0.5, **test) -> Size:
    """How many units each arm needs; `share` is the arm's part of the two, `test` as in `power_of`.

    Raises Refusal where a billion would not do.

    >>> round(sample_size(1.0, mean_spread(1.0), power=.9).exact / 2, 3)  # R: power.t.test(delta = 1, sd = 1, power = .9)
    22.021
    """
    _need(0 < power < 1 and 0 < share < 1, "power or share is not between 0 and 1", "write .8 for 80 %")
    least = 2.001 / min(share, 1 - share)
    for calm in (replace(spread, third=0.0, third_versus=0.0), spread):
        # a skew is corrected for in samples large enough for it, so it only adds to the size without
        reach = _power_of_total(effect, calm, share, test)
        exact = least = _crossing(lambda total, reach=reach: reach(total) - power, least or MOST, MOST)
    if exact is None:
        raise Refusal(
            f"no experiment is large enough to show {effect:g}: a larger effect, or a calmer metric, could be."
        )
    arms = (math.ceil(round(part * exact, 6)) for part in (share, 1 - share))
    return Size(effect, power, test.get("alpha", 0.05), *arms, exact, spread.unit)


def detectable(spread: Spread, n: float, n_versus: float, *, power: float = 0.8, **test) -> float:
    """The smallest true difference that `n` units against `n_versus` show with `power`, in the metric's unit.

    >>> round(detectable(mean_spread(100.0), 10_000, 10_000), 2)
    3.96
    """
    se = spread.se(n, n_versus)
    found = _crossing(lambda effect: power_of(effect, spread, n, n_versus, **test) - power, 1e-9 * se, 1e6 * se)
    if found is None:
        raise Refusal(f"{n:g} units against {n_versus:g} show no effect with this power: enrol more.")
    return found


def smallest(reach: Callable[[float], float], power: float, scale: float) -> float | None:
    """The smallest effect at which `reach`, a rising function of the effect, comes to `power`; None where it never does.

    `scale` is a size to search around, such as the metric's level: up to a hundred times that is tried.

    >>> round(smallest(lambda effect: min(effect / 10, 1), .8, 1.0), 4)
    8.0
    """
    return _crossing(lambda effect: reach(effect) - power, 1e-6 * abs(scale), 100 * abs(scale))


def curve(effect: float, spread: Spread, totals: Sequence[float], *, share: float = 0.5, **test) -> pd.Series:
    """The power at each total number of units: what a figure needs.

    >>> curve(1.0, mean_spread(1.0), [20, 44, 80]).round(3).tolist()
    [0.562, 0.9, 0.993]
    """
    reach = _power_of_total(effect, spread, share, test)
    return pd.Series([reach(total) for total in totals], index=pd.Index(totals, name="units"), name="power")


def units_for_buyers(rate: float, least: int = MIN_NONZERO, chance: float = 0.99) -> int:
    """Customers an arm needs so that at least `least` of them buy, with `chance`, when a share `rate` does.

    Below that number of buyers `effect` refuses the mean of spend, whatever the formula for n says.

    >>> units_for_buyers(.05, least=50)
    1349
    """
    _need(0 < rate <= 1, "the share of buyers is not between 0 and 1", "measure it on the past")
    low, high = least, math.ceil((least + 10 * math.sqrt(least) + 30) / rate)
    while low < high:
        middle = (low + high) // 2
        if special.bdtr(least - 1, middle, rate) <= 1 - chance:
            high = middle
        else:
            low = middle + 1
    return low


@dataclass(frozen=True)
class Gate:
    """One thing that must be shown: `effect` is the distance, without sign, from what the interval must exclude.

    For the primary metric and profit that is the true effect wanted (less the hurdle), for a guardrail the margin.
    `sign` is 1 where more is better and −1 where less is.
    """

    name: str
    effect: float
    spread: Spread
    arm: str
    versus: str
    sign: int = 1


@dataclass(frozen=True)
class Joint:
    """The chance that all gates pass: `power` with their correlations, `independent` without, and the bounds of any."""

    power: float
    each: dict[str, float]
    independent: float
    least: float
    most: float

    def __str__(self) -> str:
        rows = [f"  {name}: {number(value, 'share')}" for name, value in self.each.items()]
        head = f"all {len(self.each)} gates together: {number(self.power, 'share')}"
        bounds = f"independent {number(self.independent, 'share')}; whatever the correlations, {number(self.least, 'share')} to {number(self.most, 'share')}"
        return "\n".join([head, f"  {bounds}", *rows])


def joint_power(each: Mapping[str, float] | Sequence[float], correlation: np.ndarray | None = None) -> Joint:
    """The chance that all gates pass, from the power of each and the correlation of their estimates (gates × gates).

    Each gate is a z-test: with correlations the estimates are jointly normal (integrated after Genz 1992).

    >>> round(joint_power([.8, .9, .9, .9]).power, 4)
    0.5832
    """
    named = dict(each) if isinstance(each, Mapping) else {f"gate {place}": p for place, p in enumerate(each, 1)}
    given = np.array(list(named.values()))
    _need(len(given) > 0 and ((given >= 0) & (given <= 1)).all(), "a power is not within 0 and 1", "write .8 for 80 %")
    independent = float(given.prod())
    together = independent
    if correlation is not None:
        together = _normal_below(special.ndtri(np.clip(given, 1e-300, 1 - 1e-16)), np.asarray(correlation, dtype=float))
    least, most = max(0.0, 1 - (1 - given).sum()), float(given.min())
    return Joint(min(max(together, least), most), named, independent, float(least), most)


def gate_correlation(gates: Sequence[Gate], outcomes: np.ndarray, n: Mapping[str, float]) -> np.ndarray:
    """The correlation of the gates' estimates, from the correlation of their outcomes within one customer.

    `outcomes` is gates × gates, the sign of each gate left out; `n` the size of each arm.  Two gates that share an arm
    share its chance, whether or not they share a metric.
    """
    size = len(gates)
    covariance = np.zeros((size, size))
    for i, one in enumerate(gates):
        for j, two in enumerate(gates):
            shared = 0.0
            for arm, side, spread in ((one.arm, 1, one.spread.arm), (one.versus, -1, one.spread.versus)):
                for other, facing, width in ((two.arm, 1, two.spread.arm), (two.versus, -1, two.spread.versus)):
                    if arm == other:
                        shared += side * facing * math.sqrt(spread * width) / n[arm]
            covariance[i, j] = one.sign * two.sign * outcomes[i, j] * shared
    spread = np.sqrt(np.diag(covariance))
    return covariance / np.outer(spread, spread)


@dataclass(frozen=True)
class Together:
    """How many customers all gates together need, and each alone.

    `n` is the size of each arm for the joint power, `alone` the arms' sizes for each gate by itself; `drives` is the gate
    that alone needs most.  `least` says which arm is too small for spend to be read at all, if that decides.
    """

    power: float
    n: dict[str, int]
    alone: dict[str, dict[str, int]]
    drives: str
    joint: Joint
    buyers: str = ""

    @property
    def total(self) -> int:
        return sum(self.n.values())

    def __str__(self) -> str:
        sizes = ", ".join(f"{arm} {number(n, 'count')}" for arm, n in self.n.items())
        rows = [f"  {name} alone: {number(sum(n.values()), 'count')} in all" for name, n in self.alone.items()]
        head = f"{number(self.total, 'count')} customers ({sizes}) for a joint power of {number(self.power, 'share')}"
        return "\n".join([head, *rows, f"  {self.drives} needs most", str(self.joint)])


def joint_of(gates: Sequence[Gate], outcomes: np.ndarray, n: Mapping[str, float], alpha: float = 0.05) -> Joint:
    """The joint power of the gates in arms of sizes `n`; `outcomes` as in `gate_correlation`."""
    each = {gate.name: power_of(gate.effect, gate.spread, n[gate.arm], n[gate.versus], alpha=alpha) for gate in gates}
    return joint_power(each, gate_correlation(gates, outcomes, n))


def size_together(
    gates: Sequence[Gate],
    outcomes: np.ndarray,
    weights: Mapping[str, float],
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    least: int = 0,
) -> Together:
    """How many customers are needed so that all gates pass together with `power`, the arms drawn by `weights`.

    A launch needs every gate, so the joint power is what the team experiences; each gate passes on its own two-sided
    interval at 1 − alpha (intersection and union: no correction).  `least` is the smallest arm that can be read.

    >>> sales = Gate("sales", 5.0, mean_spread(100.0), "new", "old")
    >>> harm = Gate("harm", .002, share_spread(.003, .003), "new", "old", sign=-1)
    >>> found = size_together([sales, harm], np.eye(2), {"new": 1, "old": 1})
    >>> found.alone["sales"], found.n
    ({'new': 6281, 'old': 6281}, {'new': 12364, 'old': 12364})
    """
    shares = {arm: weight / sum(weights.values()) for arm, weight in weights.items()}
    alone = {}
    for gate in gates:
        pair = shares[gate.arm] + shares[gate.versus]
        part = sample_size(gate.effect, gate.spread, power=power, share=shares[gate.arm] / pair, alpha=alpha)
        alone[gate.name] = _arms(part.exact / pair, shares)
    totals = {name: sum(n.values()) for name, n in alone.items()}
    most = max(totals.values())

    def short(total: float) -> float:
        return joint_of(gates, outcomes, {arm: total * share for arm, share in shares.items()}, alpha).power - power

    # the largest of the single sizes may be rounded past the joint one, where one gate decides alone
    total = _crossing(short, 0.5 * most, 100 * most) or most
    floor = least / min(shares.values())
    n = _arms(max(total, floor), shares)
    drives = max(totals, key=totals.get)
    few = min(shares, key=shares.get) if floor > total else ""
    return Together(power, n, alone, drives, joint_of(gates, outcomes, n, alpha), few)


@dataclass(frozen=True)
class Duration:
    """How many whole weeks an experiment lasts: enrolment, then the outcome window of the last customer.

    `seen` is how many weeks of arrivals were known; beyond them their number falls on.
    """

    enrolment: int
    window: int
    seen: int

    @property
    def weeks(self) -> int:
        return self.enrolment + self.window

    def __str__(self) -> str:
        return f"{self.weeks} weeks: {self.enrolment} to enrol, {self.window} for the last outcome window"


def duration(needed: int, arrivals: Sequence[float], customers: int, window_days: int) -> Duration:
    """Whole weeks until `needed` customers are enrolled as they come and have complete outcome windows.

    Whole weeks, because days of the week differ.  `arrivals` are *new* customers week by week, among `customers` there are:
    who came last week comes again this week and cannot be enrolled twice, so the number falls.  Beyond the weeks given it
    goes on as where customers come by chance, each at a rate of their own, the rates gamma distributed (Ehrenberg 1959).
    Raises Refusal where so many do not come within ten years.

    >>> print(duration(5_000, [2_000, 1_200, 900, 700], customers=10_000, window_days=28))
    9 weeks: 5 to enrol, 4 for the last outcome window
    """
    coming = np.asarray(arrivals, dtype=float)
    _need(needed > 0 and window_days > 0, "nothing to wait for", "give customers and days above 0")
    _need(len(coming) > 0 and coming.min() >= 0, "no arrivals were given", "give the new customers of each week")
    _need(0 < coming.sum() <= customers, "more customers arrive than there are", "count each customer once")
    reached = coming.cumsum()
    if reached[-1] < needed:
        reached = np.concatenate([reached, customers * _seen_by(coming, customers)])
    enough = np.nonzero(reached >= needed)[0]
    if not len(enough):
        raise Refusal(
            f"only about {number(reached[-1], 'count')} of {number(customers, 'count')} customers come within ten years and "
            f"{number(needed, 'count')} are needed: plan for a larger effect, or enrol from the whole customer list."
        )
    return Duration(int(enough[0]) + 1, math.ceil(window_days / 7), len(coming))


def _seen_by(coming: np.ndarray, customers: int) -> np.ndarray:
    """The share seen by each week after the last one given, up to ten years: 1 − (1 + week / scale) to the power −shape."""
    from scipy.optimize import minimize

    weeks, counted = np.arange(len(coming) + 1), np.append(coming, max(customers - coming.sum(), 0.0))

    def surprise(logs: np.ndarray) -> float:
        shape, scale = np.exp(np.clip(logs, -15, 15))
        unseen = (1 + weeks / scale) ** -shape
        chances = np.append(-np.diff(unseen), unseen[-1])
        return -float((counted * np.log(np.maximum(chances, 1e-300))).sum()) / customers

    found = minimize(
        surprise, [0.0, 1.0], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-12, "maxiter": 2000}
    )
    shape, scale = np.exp(np.clip(found.x, -15, 15))
    ahead = np.arange(len(coming) + 1, 521)
    return 1 - (1 + ahead / scale) ** -shape


@dataclass(frozen=True)
class Simulated:
    """Power counted on simulated experiments, with its exact 95 % interval, beside what the normal formula says.

    `refused` is the share of experiments in which `effect` would not give a number.
    """

    power: float
    low: float
    high: float
    refused: float
    formula: float
    reps: int

    def __str__(self) -> str:
        limits = f"{number(self.low, 'share')} to {number(self.high, 'share')}"
        return (
            f"power {number(self.power, 'share')} ({limits}) in {number(self.reps, 'count')} experiments, "
            f"{number(self.refused, 'share')} refused; the formula says {number(self.formula, 'share')}"
        )


def simulated_power(
    past: Sequence[float], factor: float, n: int, n_versus: int, *, reps: int = 500, seed: int = 1, alpha: float = 0.05
) -> Simulated:
    """Power for skewed spend or lifetime value: customers of the past drawn anew, the arm's spend times `factor`.

    `past` has one number a customer, 0 for those who did not buy.  Every experiment is analysed with `effect` and Hall's
    interval (Hall 1992), as the real one will be; a refusal shows nothing.

    >>> spend = np.random.default_rng(1).lognormal(3, 1, 4000) * (np.arange(4000) % 5 == 0)
    >>> simulated_power(spend, 2.0, 2000, 2000, reps=100).power > .9
    True
    """
    values = np.asarray(past, dtype=float)
    _need(values.ndim == 1 and len(values) > 1 and np.isfinite(values).all(), "no past to draw from", "one number each")
    _need(factor > 0 and factor != 1, f"the factor is {factor:g}", "give one such as 1.1")
    draws, metric = np.random.default_rng(seed), Mean("value")
    shown = refused = 0
    for _ in range(reps):
        rows = [
            _summed(values[draws.integers(0, len(values), size)] * times, arm)
            for arm, size, times in (("arm", n, factor), ("versus", n_versus, 1.0))
        ]
        try:
            seen = effect(Moments(pd.DataFrame(rows), (metric,)), metric, "arm", "versus", alpha=alpha)
        except Refusal:
            refused += 1
            continue
        shown += (seen.low > 0) if factor > 1 else (seen.high < 0)
    sd, mean = values.std(ddof=1), values.mean()
    formula = power_of(abs(factor - 1) * mean, mean_spread(sd * factor, sd), n, n_versus, alpha=alpha)
    return Simulated(shown / reps, *clopper_pearson(shown, reps), refused / reps, formula, reps)


def _summed(values: np.ndarray, arm: str) -> dict:
    """One arm's moments as the engine keeps them."""
    n, mean = len(values), values.mean()
    away = values - mean
    sums = {"mean value": mean, "sum value × value": (away**2).sum(), "sum value × value × value": (away**3).sum()}
    return {
        "arm": arm,
        "stratum": "",
        "day": "",
        "n": float(n),
        "nonzero value": float(np.count_nonzero(values)),
        **sums,
    }


def _power_of_total(effect: float, spread: Spread, share: float, test: dict) -> Callable[[float], float]:
    return lambda total: power_of(effect, spread, share * total, (1 - share) * total, **test)


def _arms(total: float, shares: Mapping[str, float]) -> dict[str, int]:
    return {arm: math.ceil(round(total * share, 6)) for arm, share in shares.items()}


def _crossing(rise: Callable[[float], float], low: float, high: float) -> float | None:
    """Where a rising function meets 0, searched on a logarithmic scale; `low` where it already lies above, None if never."""
    from scipy.optimize import brentq

    if rise(low) >= 0:
        return low
    step = low
    while rise(step) < 0:
        if step >= high:
            return None
        low, step = step, min(2 * step, high)
    return float(brentq(rise, low, step, xtol=1e-10 * step, rtol=1e-13))


def _z(tail: float) -> float:
    return -float(special.ndtri(tail))


@cache
def _dunnett(df: float, alpha: float, sides: int, comparisons: int, rho: float) -> float:
    """The quantile of the largest of correlated t: over what the comparisons share, and over the common variance."""
    from scipy.optimize import brentq

    nodes, weights = np.polynomial.hermite_e.hermegauss(96)
    weights = weights / weights.sum()
    points, parts = np.polynomial.legendre.leggauss(96)
    scale = np.sqrt(special.chdtri(df, (1 - points) / 2) / df)
    common = math.sqrt(rho) * nodes

    def beyond(limit: float) -> float:
        top = special.ndtr((limit * scale[:, None] + common) / math.sqrt(1 - rho))
        if sides == 2:
            top = top - special.ndtr((-limit * scale[:, None] + common) / math.sqrt(1 - rho))
        return 1 - (parts / 2) @ (top**comparisons) @ weights - alpha

    return float(brentq(beyond, 0.0, 50.0, xtol=1e-10))


def _normal_below(limits: np.ndarray, correlation: np.ndarray) -> float:
    """The chance that correlated standard normals all lie below their limits (Genz 1992), on a fixed lattice.

    Where an estimate is a mixture of others (a correlation of 1), its limit only narrows theirs (Genz and Kwong 2000).
    """
    order = np.argsort(limits)
    limits, correlation = limits[order], correlation[np.ix_(order, order)]
    rows, places = [], []
    lower = np.zeros((len(limits), len(limits)))
    rank = 0
    for i in range(len(limits)):
        for k in range(rank):
            lower[i, k] = (correlation[i, rows[k]] - lower[i, :k] @ lower[rows[k], :k]) / lower[rows[k], k]
        left = correlation[i, i] - (lower[i, :rank] ** 2).sum()
        if left > 1e-9:
            lower[i, rank] = math.sqrt(left)
            rows.append(i)
            rank += 1
        places.append(int(np.max(np.nonzero(np.abs(lower[i]) > 1e-7)[0])))
    shifts = np.sqrt(_primes(rank))
    lattice = np.abs(2 * ((np.arange(1, LATTICE + 1)[:, None] * shifts) % 1.0) - 1)
    drawn = np.zeros((LATTICE, rank))
    chance = np.ones(LATTICE)
    for k in range(rank):
        top, bottom = np.full(LATTICE, np.inf), np.full(LATTICE, -np.inf)
        for i in (i for i, place in enumerate(places) if place == k):
            bound = (limits[i] - drawn[:, :k] @ lower[i, :k]) / lower[i, k]
            top, bottom = (np.minimum(top, bound), bottom) if lower[i, k] > 0 else (top, np.maximum(bottom, bound))
        high, low = special.ndtr(top), special.ndtr(bottom)
        width = np.maximum(high - low, 0.0)
        chance *= width
        drawn[:, k] = special.ndtri(np.clip(low + lattice[:, k] * width, 1e-300, 1 - 1e-16))
    return float(chance.mean())


def _primes(count: int) -> np.ndarray:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % prime for prime in found):
            found.append(candidate)
        candidate += 1
    return np.array(found, dtype=float)


def _need(holds: bool, found: str, mend: str) -> None:
    if not holds:
        raise InputError(Problem("power", found, mend))
