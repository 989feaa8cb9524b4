"""The effect of one arm against another, absolute and relative, from moments alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from scipy import special

from fairlift.errors import InputError, Problem, Refusal, nearest
from fairlift.format import interval as between
from fairlift.format import number, p_value, percent
from fairlift.method.hall import studentised, transformed
from fairlift.method.interval import fieller
from fairlift.method.metric import Mean, Metric, Proportion, Ratio
from fairlift.method.moments import Moments, Sample, moments

MIN_NONZERO = 100  # below this no interval of a skewed mean holds its tails: benchmarks/calibration/means.py
FEW_NONZERO = 500  # below this t has at most one degree of freedom per NONZERO_PER_DF of them
NONZERO_PER_DF = 4
INTERVALS = {"hall": "Hall", "welch": "Welch"}
WATCHED = {"sequence": "confidence sequence", "look": "repeated interval"}  # what replaces them before the end
ADJUSTMENTS = {"lin": "Lin", "pooled": "pooled CUPED"}


@dataclass(frozen=True)
class Effect:
    """A difference of two arms with its interval.

    `mean_arm` and `mean_versus` are the metric in each arm (adjusted and weighted where asked), `value` their
    difference, `se` its standard error with `df` degrees of freedom, `low` and `high` the limits at `level`, `p`
    two-sided and below 1 − level exactly when the interval leaves out 0.  `se_arm`, `se_versus` and `covariance` are of
    the two means; `skew` is the skewness of the difference that Hall's interval corrects for (0 under Welch); `fewest`
    is how many outcomes other than 0 the arm with fewer of them has (None for a ratio); `df_limits` the degrees of
    freedom of limits and p, which are fewer than `df` where few have such an outcome.
    """

    metric: Metric
    arm: str
    versus: str
    n_arm: int
    n_versus: int
    mean_arm: float
    mean_versus: float
    value: float
    se: float
    df: float
    low: float
    high: float
    level: float
    p: float
    interval: str
    adjust: str | None
    se_arm: float
    se_versus: float
    covariance: float
    skew: float
    by: tuple[str, ...] = ()
    fewest: int | None = None

    @property
    def df_limits(self) -> float:
        return (
            _df_limits(self.df, self.fewest) if self.interval == "hall" and isinstance(self.metric, Mean) else self.df
        )

    def __str__(self) -> str:
        unit, step = ("share", "points") if isinstance(self.metric, Proportion) else ("", "")
        rows = [
            (self.arm, number(self.mean_arm, unit), f"SE {number(self.se_arm, step)}", f"n {self.n_arm:,}"),
            (self.versus, number(self.mean_versus, unit), f"SE {number(self.se_versus, step)}", f"n {self.n_versus:,}"),
            ("difference", number(self.value, step, signed=True), f"SE {number(self.se, step)}", p_value(self.p)),
        ]
        how = [(INTERVALS | WATCHED)[self.interval]]
        how += [ADJUSTMENTS[self.adjust]] if self.adjust else []
        how += ["within " + " × ".join(self.by)] if self.by else []
        head = f"{self.metric}: {self.arm} against {self.versus}"
        limits = f"  {percent(self.level)} interval {between(self.low, self.high, step, signed=True)}"
        return "\n".join([head, *_aligned(rows), f"{limits} ({', '.join(how)})"])


@dataclass(frozen=True)
class Lift:
    """A relative lift with Fieller's interval; .12 is 12 %."""

    metric: Metric
    arm: str
    versus: str
    value: float
    low: float
    high: float
    level: float

    def __str__(self) -> str:
        value = number(self.value, "lift", signed=True)
        limits = f"{percent(self.level)} interval {between(self.low, self.high, 'lift', signed=True)}"
        return f"{self.metric}: lift of {self.arm} over {self.versus}\n  {value}, {limits} (Fieller)"


@dataclass(frozen=True)
class Capped:
    """A mean read twice, as it is and with every unit's value cut at `cap`; `above` is the share of units cut, by arm."""

    uncapped: Effect
    capped: Effect
    cap: float
    above: Mapping[str, float]

    @property
    def agree(self) -> bool:
        """Whether both lead to the same conclusion: above 0, below 0, or not told apart from it."""
        return _side(self.uncapped) == _side(self.capped)

    def __str__(self) -> str:
        rows = (("no cap", self.uncapped), (f"capped at {number(self.cap)}", self.capped))
        wide = max(len(name) for name, _ in rows)
        lines = [f"{self.uncapped.metric}: {self.uncapped.arm} against {self.uncapped.versus}"]
        for name, seen in rows:
            limits = between(seen.low, seen.high, signed=True)
            lines.append(f"  {name:<{wide}}  {number(seen.value, signed=True)} ({limits}): {_side(seen)}")
        cut = ", ".join(f"{number(share, 'share')} of {arm}" for arm, share in self.above.items())
        verdict = "the two agree" if self.agree else "the two disagree: a few customers make the result"
        return "\n".join([*lines, f"  {verdict}; the cap cuts {cut}"])


def default_interval(metric: Metric) -> str:
    """Hall's interval for a mean and for a share, whose skew shifts the tails; Welch's for ratios.

    >>> default_interval(Mean("revenue")), default_interval(Ratio("orders", "sessions"))
    ('hall', 'welch')
    """
    return "welch" if isinstance(metric, Ratio) else "hall"


def effect(
    moments: Moments,
    metric: Metric,
    arm: str,
    versus: str,
    *,
    interval: str | None = None,
    alpha: float = 0.05,
    adjust: str | None = None,
    by: Sequence[str] = (),
    weights: Mapping | None = None,
    min_nonzero: int = MIN_NONZERO,
) -> Effect:
    """Estimate how much `metric` differs between `arm` and `versus`.

    interval: "welch" (Welch 1947), or "hall", the monotone cubic transformation of t that removes the skewness of the
    difference (Hall 1992); the default is `default_interval(metric)`.  Where
    fewer than `FEW_NONZERO` units of an arm have a value other than 0, the variance of a skewed mean is less certain than
    n promises, and Hall's t has one degree of freedom per `NONZERO_PER_DF` of them: at 100 buyers a twentieth wider.
    For a share fewer than 15 events in an arm are too few for either interval: a side may be missed once in 20.  An arm
    with none is refused where chance alone would leave it without any: its own error would be read as 0.
    Ratios use the delta method (Deng, Knoblich and Lu 2018).

    adjust: "lin" regresses on the metric's covariates in each arm apart (Lin 2013), pooled within the cells of `by`
    (Miratrix, Sekhon and Yu 2013); "pooled" uses one slope for both arms (CUPED; Deng et al. 2013).

    by: "stratum", "day" or both: estimate within each cell and combine with the cells' shares of all units, as is
    needed when the arms' shares changed.  `weights` replaces those shares: {cell: weight}, a cell being a text, or a
    tuple of texts for two keys.  Given weights are taken as fixed; shares and covariate means are taken as estimates,
    so the interval is for the population the units came from.

    Raises Refusal where a number would mislead: an arm without units, no variation at all, a cell of `by` that lacks an
    arm, a share with no event in an arm and few in the other, or a mean with fewer than `min_nonzero` non-zero outcomes in an arm under "hall".

    >>> import pandas as pd
    >>> from fairlift.method import Mean, moments
    >>> units = pd.DataFrame({"arm": ["a"] * 100 + ["b"] * 100, "spend": [1.0, 3.0] * 50 + [1.0, 2.0] * 50})
    >>> print(effect(moments(units, Mean("spend"), "arm"), Mean("spend"), "a", "b"))
    mean of spend: a against b
      a           2.000   SE 0.1005  n 100
      b           1.500   SE 0.05025  n 100
      difference +0.5000  SE 0.1124  p = 0.0002
      95 % interval +0.2686 to +0.7314 (Hall)
    """
    interval = interval or default_interval(metric)
    by = (by,) if isinstance(by, str) else tuple(by)
    _check(metric, arm, versus, interval, alpha, adjust, by)
    _refuse_without_units(moments, metric, arm, versus)
    if interval == "hall" and isinstance(metric, Mean):
        _refuse_few(moments, metric, arm, versus, min_nonzero)
    if isinstance(metric, Proportion):
        _refuse_one_sided(moments, metric, arm, versus, alpha)
    shares, total = _shares(moments, by, arm, versus, weights)
    both = moments.by(by, arm, versus)
    names = moments.with_indicators(metric.covariates) if adjust else ()
    samples = [moments.by(by, name) for name in (arm, versus)]
    fits = [_slopes(metric, names, both if adjust == "pooled" else sample) for sample in samples]
    one, two = (
        # one slope for both arms is treated as known, as CUPED does; Lin's spend degrees of freedom
        _estimate(metric, names, sample, both, slope, 0 if adjust == "pooled" else rank, shares)
        for sample, (slope, rank) in zip(samples, fits, strict=True)
    )
    common = _common(one, two, names, both, shares, total, fixed=weights is not None)
    v_one, v_two = one.parts.sum(), two.parts.sum()
    variance = v_one + v_two + common.difference
    size = max(abs(one.value), abs(two.value))
    if variance <= (1e-12 * size) ** 2:
        raise _no_variation(metric, arm, versus, size)
    se = math.sqrt(variance)
    df = (v_one + v_two) ** 2 / ((one.parts**2 / one.dof).sum() + (two.parts**2 / two.dof).sum())
    skew = (one.third - two.third) / se**3 if interval == "hall" else 0.0
    value = one.value - two.value
    fewest = None if isinstance(metric, Ratio) else min(int(part.nonzero(metric.column).sum()) for part in samples)
    df_limits = _df_limits(df, fewest) if interval == "hall" and isinstance(metric, Mean) else df
    quantile = float(-special.stdtrit(df_limits, alpha / 2))
    return Effect(
        metric=metric,
        arm=arm,
        versus=versus,
        n_arm=int(samples[0].n.sum()),
        n_versus=int(samples[1].n.sum()),
        mean_arm=float(one.value),
        mean_versus=float(two.value),
        value=float(value),
        se=se,
        df=float(df),
        low=float(value - se * studentised(quantile, skew)),
        high=float(value - se * studentised(-quantile, skew)),
        level=1 - alpha,
        p=float(2 * special.stdtr(df_limits, -abs(transformed(value / se, skew)))),
        interval=interval,
        adjust=adjust,
        se_arm=math.sqrt(v_one + common.arm),
        se_versus=math.sqrt(v_two + common.versus),
        covariance=float(common.covariance),
        skew=float(skew),
        by=by,
        fewest=fewest,
    )


def lift(effect: Effect, alpha: float = 0.05) -> Lift:
    """The relative effect, arm ÷ versus − 1, with Fieller's interval (Fieller 1954).

    Dividing the limits of the difference by the control's mean ignores that this mean is itself uncertain.  Raises
    Refusal when the interval of the control's mean includes 0, where the set of possible lifts has no end, and when the
    control's mean is negative, where a lift has no meaning.

    >>> import pandas as pd
    >>> from fairlift.method import Mean, moments
    >>> units = pd.DataFrame({"arm": ["a"] * 100 + ["b"] * 100, "spend": [1.0, 3.0] * 50 + [1.0, 2.0] * 50})
    >>> print(lift(effect(moments(units, Mean("spend"), "arm"), Mean("spend"), "a", "b")))
    mean of spend: lift of a over b
      +33.3 %, 95 % interval +18.0 % to +49.9 % (Fieller)
    """
    top, bottom = effect.mean_arm, effect.mean_versus
    quantile = -float(special.stdtrit(effect.df, alpha / 2))
    limits = fieller(top, bottom, effect.se_arm, effect.se_versus, effect.covariance, quantile)
    if limits is None or bottom <= 0:
        why = "is negative" if limits else "cannot be told from 0"
        raise Refusal(
            f"{effect.metric}: no relative lift, because the mean of {effect.versus} {why}; "
            "use the absolute difference, or collect more units."
        )
    low, high = (limit - 1 for limit in limits)
    return Lift(effect.metric, effect.arm, effect.versus, top / bottom - 1, low, high, 1 - alpha)


def capped(table, metric: Mean, cap: float, arm_column: str, arm: str, versus: str, **reading) -> Capped:
    """Read a mean with and without a cap, to see whether a few very large values make the result.

    `table` is a pandas frame or an Ibis table with one row per randomised unit; a value above `cap` counts as the cap.
    The uncapped reading is the effect, because the till takes the whole sum; the capped one is a check of it and measures
    something smaller.  Fix the cap before any outcome is seen, from earlier data: a cap chosen afterwards can be chosen
    to please.  `reading` is what `effect` takes (interval, alpha, adjust).

    Raises InputError for a cap that is not a positive number and for a metric that is no mean; Refusal as `effect` does.

    >>> import pandas as pd
    >>> spend = [4.0, 5.0, 6.0, 7.0] * 150
    >>> rows = pd.DataFrame({"arm": ["new"] * 600 + ["old"] * 600, "spend": [9004.0, *spend[1:], *spend]})
    >>> print(capped(rows, Mean("spend"), 94.0, "arm", "new", "old", interval="welch"))
    mean of spend: new against old
      no cap        +15 (\N{MINUS SIGN}14.45 to +44.45): not told apart from 0
      capped at 94  +0.1500 (\N{MINUS SIGN}0.1661 to +0.4661): not told apart from 0
      the two agree; the cap cuts 0.17 % of new, 0.00 % of old
    """
    problems = []
    if not isinstance(metric, Mean):
        problems.append(Problem("metric", f"{metric} cannot be capped", "cap a `Mean`"))
    if not 0 < cap < math.inf:
        problems.append(
            Problem("cap", f"is {cap}", "give a positive amount, such as the 99.5th percentile of last year")
        )
    if problems:
        raise InputError(problems)
    low, over = Mean(f"{metric.column} capped", metric.covariates), Mean(f"{metric.column} above the cap")
    column = table[metric.column]
    if isinstance(table, pd.DataFrame):
        table = table.assign(**{low.column: column.clip(upper=cap), over.column: (column > cap).astype(float)})
    else:
        table = table.mutate(**{low.column: column.clip(upper=cap), over.column: (column > cap).cast("float64")})
    found = moments(table, [metric, low, over], arm=arm_column)
    one, two = (effect(found, each, arm, versus, **reading) for each in (metric, low))
    return Capped(one, two, cap, {name: float(found.arm(name).mean(over.column)) for name in (arm, versus)})


def _side(seen: Effect) -> str:
    return "above 0" if seen.low > 0 else "below 0" if seen.high < 0 else "not told apart from 0"


def above(effect: Effect, bound: float) -> float:
    """The one-sided p-value against "the true effect is at most `bound`"; 1 minus it is that against "at least".

    It is below alpha / 2 exactly when the interval at 1 − alpha lies wholly above `bound`.

    >>> import pandas as pd
    >>> from fairlift.method import Mean, moments
    >>> units = pd.DataFrame({"arm": ["a"] * 100 + ["b"] * 100, "spend": [1.0, 3.0] * 50 + [1.0, 2.0] * 50})
    >>> seen = effect(moments(units, Mean("spend"), "arm"), Mean("spend"), "a", "b")
    >>> bool(abs(above(seen, 0.0) - seen.p / 2) < 1e-12), bool(abs(above(seen, seen.low) - 0.025) < 1e-12)
    (True, True)
    """
    t = (effect.value - bound) / effect.se
    return float(special.stdtr(effect.df_limits, -transformed(t, effect.skew)))


def _df_limits(df: float, fewest: int) -> float:
    return df if fewest >= FEW_NONZERO else min(df, fewest / NONZERO_PER_DF)


@dataclass(frozen=True)
class _Arm:
    """One arm's estimate: its value, and per cell the weighted variance parts, their degrees of freedom and offsets."""

    value: float
    parts: np.ndarray
    dof: np.ndarray
    offsets: np.ndarray  # each cell's estimate from the arm's, linearised
    third: float  # third cumulant of the estimate
    slope: np.ndarray


@dataclass(frozen=True)
class _Common:
    """Variance that both arms' estimates share, because both use the same estimated shares and covariate means."""

    arm: float
    versus: float
    covariance: float
    difference: float


def _slopes(metric: Metric, names: Sequence[str], sample: Sample) -> tuple[np.ndarray, int]:
    """Regression slopes of the outcome on the covariates, pooled within cells, and how many are free."""
    if not names:
        return np.zeros(0), 0
    inner = np.array([[sample.products(a, b).sum() for b in names] for a in names])
    outer = np.array([sample.products(metric.column, a).sum() for a in names])
    spread = np.sqrt(np.diag(inner))
    spread[spread <= 1e-12 * np.array([np.abs(sample.mean(a)).max() for a in names])] = np.inf  # constant: no slope
    solution, _, rank, _ = np.linalg.lstsq(inner / np.outer(spread, spread), outer / spread, rcond=1e-10)
    return solution / spread, int(rank)


def _estimate(metric, names, sample: Sample, both: Sample, slope: np.ndarray, free: int, shares: np.ndarray) -> _Arm:
    n = sample.n
    if isinstance(metric, Ratio):
        top, bottom = sample.mean(metric.numerator), sample.mean(metric.denominator)
        below = (shares * bottom).sum()
        if below == 0:
            raise Refusal(f"{metric}: {metric.denominator} is 0 for every unit of an arm, so the ratio does not exist.")
        value = (shares * top).sum() / below
        combination = {metric.numerator: 1 / below, metric.denominator: -value / below}
        offsets = (top - value * bottom) / below
    else:
        apart = [b * (sample.mean(x) - both.mean(x)) for b, x in zip(slope, names, strict=True)]
        local = sample.mean(metric.column) - sum(apart)
        value = (shares * local).sum()
        combination = {metric.column: 1.0} | dict(zip(names, -slope, strict=True))
        offsets = local - value
    dof = (n - 1) * (1 - free / (n - 1).sum())
    if not (dof > 0).all():
        raise Refusal(f"{metric}: too few units for {free} covariates; adjust for fewer, or collect more units.")
    squares = sum(a * b * sample.products(x, y) for (x, a), (y, b) in product(combination.items(), repeat=2))
    third = 0.0
    if isinstance(metric, Proportion):
        p = sample.mean(metric.column)  # of 0 and 1 the third moment is known
        third = float((shares**3 * p * (1 - p) * (1 - 2 * p) / ((n - 1) * np.maximum(n - 2, 1))).sum())
    elif metric.order == 3:
        cubes = sum(
            a * b * c * sample.products(x, y, z) for (x, a), (y, b), (z, c) in product(combination.items(), repeat=3)
        )
        third = float((shares**3 * cubes / (n * (n - 1) * np.maximum(n - 2, 1))).sum())
    return _Arm(float(value), shares**2 * np.maximum(squares, 0.0) / dof / n, dof, offsets, third, slope)


def _common(one: _Arm, two: _Arm, names, both: Sample, shares, total: float, fixed: bool) -> _Common:
    def shared(left: np.ndarray, right: np.ndarray) -> float:
        pairs = product(zip(left, names, strict=True), zip(right, names, strict=True))
        return float(sum((shares**2 * a * b * both.cov(x, y) / both.n).sum() for (a, x), (b, y) in pairs))

    def mixed(left: np.ndarray, right: np.ndarray) -> float:
        return 0.0 if fixed else float((shares * left * right).sum() / total)

    slope, offsets = one.slope - two.slope, one.offsets - two.offsets
    return _Common(
        arm=shared(one.slope, one.slope) + mixed(one.offsets, one.offsets),
        versus=shared(two.slope, two.slope) + mixed(two.offsets, two.offsets),
        covariance=shared(one.slope, two.slope) + mixed(one.offsets, two.offsets),
        difference=shared(slope, slope) + mixed(offsets, offsets),
    )


def _shares(
    moments: Moments, by: Sequence[str], arm: str, versus: str, weights: Mapping | None
) -> tuple[np.ndarray, float]:
    """The weight of each cell, summing to 1, and the number of units the shares were taken from."""
    if not by:
        return np.ones(1), 1.0
    cells = {name: _names(moments.by(by, name), by) for name in (arm, versus)}
    for name, other in ((arm, versus), (versus, arm)):
        lacking = [cell for cell in cells[other] if cell not in set(cells[name])]
        if lacking:
            raise Refusal(
                f"{len(lacking)} of the cells of {' × '.join(by)} have units of {other} but none of {name}; "
                "merge cells, or leave out the units that could only be in one arm."
            )
    if min(moments.by(by, name).n.min() for name in (arm, versus)) < 2:
        raise Refusal(f"a cell of {' × '.join(by)} has a single unit in an arm, so it has no variance; merge cells.")
    everyone = moments.by(by)
    size = dict(zip(_names(everyone, by), everyone.n, strict=True))
    if weights is None:
        n = np.array([size[cell] for cell in cells[arm]])
        return n / n.sum(), float(n.sum())
    given = {(key,) if isinstance(key, str) else tuple(key): weight for key, weight in weights.items()}
    absent = [cell for cell in cells[arm] if cell not in given]
    if absent or min(given.values()) < 0 or not sum(given[cell] for cell in cells[arm]) > 0:
        found = f"{len(absent)} cells have no weight" if absent else "some are negative or all are 0"
        raise InputError(Problem("weights", found, "give each cell a weight of 0 or more"))
    chosen = np.array([float(given[cell]) for cell in cells[arm]])
    return chosen / chosen.sum(), float(sum(size[cell] for cell in cells[arm]))


def _names(sample: Sample, by: Sequence[str]) -> list[tuple[str, ...]]:
    return list(zip(*(sample.values[key] for key in by), strict=True))


def _check(metric, arm, versus, interval, alpha, adjust, by) -> None:
    problems = []
    if not isinstance(metric, Mean | Proportion | Ratio):
        problems.append(Problem("metric", f"{metric} is no outcome", "use Mean, Proportion or Ratio"))
    if arm == versus:
        problems.append(Problem("arms", f"`{arm}` is compared with itself", "name two arms"))
    if interval not in INTERVALS:
        problems.append(Problem("interval", f"`{interval}` is not known", nearest(str(interval), tuple(INTERVALS))))
    elif interval == "hall" and isinstance(metric, Ratio):
        problems.append(Problem("interval", "Hall's interval is for means and shares", 'use interval="welch"'))
    if not 0 < alpha < 1:
        problems.append(Problem("alpha", f"is {alpha}", "choose a fraction such as 0.05"))
    if adjust is not None and adjust not in ADJUSTMENTS:
        problems.append(Problem("adjust", f"`{adjust}` is not known", nearest(str(adjust), tuple(ADJUSTMENTS))))
    elif adjust and not metric.covariates:
        problems.append(Problem("adjust", f"{metric} names no covariates", 'declare them: Mean("spend", ("history",))'))
    unknown = [key for key in by if key not in ("stratum", "day")]
    problems += [Problem("by", f"`{key}` is not known", "use stratum, day or both") for key in unknown]
    if problems:
        raise InputError(problems)


def _refuse_without_units(moments: Moments, metric: Metric, arm: str, versus: str) -> None:
    counts = moments.counts
    for name in (arm, versus):
        n = counts.get(name, 0)
        if n < 2:
            has = "has no units" if n == 0 else "has a single unit"
            there = ", ".join(moments.arms) or "none"
            raise Refusal(f"{metric}: arm {name} {has}, so there is nothing to compare (arms with units: {there}).")


def _refuse_few(moments: Moments, metric: Mean, arm: str, versus: str, least: int) -> None:
    nonzero = {name: int(moments.arm(name).nonzero(metric.column)) for name in (arm, versus)}
    if not any(nonzero.values()):
        raise _no_variation(metric, arm, versus, 0)
    few = min(nonzero, key=nonzero.get)
    if nonzero[few] < least:
        raise Refusal(
            f"{metric}: {few} has {nonzero[few]:,} units with a value other than 0 and {least} are needed, "
            "because below that the interval of a skewed mean misses too often; collect more units."
        )


def _refuse_one_sided(moments: Moments, metric: Proportion, arm: str, versus: str, alpha: float) -> None:
    """Refuse a share that is 0 (or 1) in one arm where Fisher's exact test leaves that to chance: it is read without error."""
    n = {name: int(moments.arm(name).n) for name in (arm, versus)}
    hits = {name: int(moments.arm(name).nonzero(metric.column)) for name in (arm, versus)}
    for what, counts in (("a value other than 0", hits), ("the value 0", {name: n[name] - hits[name] for name in n})):
        none, other = sorted(counts, key=counts.get)
        if counts[none] or not counts[other]:
            continue
        total, rest = n[none] + n[other], n[other] - counts[other]  # the chance that all of them fall to the other arm
        ways = special.gammaln(np.array([n[none] + rest, n[other], total, rest]) + 1.0)
        chance = math.exp(float(ways[0] + ways[1] - ways[2] - ways[3]))
        if chance > alpha / 2:
            raise Refusal(
                f"{metric}: no unit of {none} has {what} and {counts[other]:,} of {other} have, which chance alone may do, "
                "so nothing tells how sure the share of the one is; collect more units."
            )


def _no_variation(metric: Metric, arm: str, versus: str, size: float) -> Refusal:
    return Refusal(
        f"{metric}: no unit of {arm} or {versus} differs from another (all have {number(size)}), "
        "so there is nothing to compare."
    )


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i].lstrip("+\N{MINUS SIGN}")) for row in rows) for i in range(2)]
    lines = []
    for name, value, *rest in rows:
        sign = value[0] if value[0] in "+\N{MINUS SIGN}" else " "
        lines.append(f"  {name:<{widths[0]}} {sign}{value.lstrip(sign):<{widths[1]}}  " + "  ".join(rest))
    return lines
