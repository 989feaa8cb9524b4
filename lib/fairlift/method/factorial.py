"""Several channels switched on and off at random at once: the effect of each, of pairs, and of all together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np
import pandas as pd
from scipy import special

from fairlift.errors import InputError, Problem, Refusal, nearest
from fairlift.evidence import Evidence
from fairlift.format import estimate, number
from fairlift.method.effect import INTERVALS, MIN_NONZERO, _df_limits
from fairlift.method.hall import studentised, transformed
from fairlift.method.interval import holm
from fairlift.method.metric import Mean, Metric, Proportion
from fairlift.method.moments import Moments, moments

OFF = "none"
MOST = 6  # factors: 64 cells


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of cell means with its interval.

    `n` counts the units of the cells that enter, `p` is two-sided, `family_p` is adjusted by Holm over its family (None
    where it stands alone): a claim that one of several channels harms needs that one, because whoever looks at four
    channels finds one bad by chance more often.
    """

    name: str
    value: float
    se: float
    df: float
    low: float
    high: float
    level: float
    p: float
    n: int
    family_p: float | None = None


@dataclass(frozen=True)
class Omnibus:
    """One test of all interactions at once: `statistic` is F with `df` and `df_error` degrees of freedom."""

    statistic: float
    df: int
    df_error: float
    p: float


@dataclass(frozen=True, eq=False)
class Factorial:
    """What a factorial experiment says.

    `main` is each channel's effect averaged over the others in `shares`; `alone` its effect with all others off;
    `interactions` what two channels together bring beyond the sum of the two; `total` is all on against all off,
    `summed` the sum of `alone`, and `overlap` total − summed, below 0 where channels take sales from each
    other (None with a single channel).
    """

    metric: Metric
    factors: tuple[str, ...]
    shares: Mapping[str, float]
    interval: str
    main: tuple[Contrast, ...]
    alone: tuple[Contrast, ...]
    interactions: tuple[Contrast, ...]
    total: Contrast
    summed: Contrast
    overlap: Contrast | None
    omnibus: Omnibus | None
    cells: _Cells

    def simple(self, factor: str, on: Iterable[str] = ()) -> Contrast:
        """The effect of one channel while exactly the channels of `on` are on."""
        on = (on,) if isinstance(on, str) else tuple(on)
        _refuse_unknown((factor, *on), self.factors)
        given = {name: float(name in on) for name in self.factors}
        name = f"{factor} with {cell(on)} on" if on else f"{factor} alone"
        return _contrast(self.cells, name, _effect_of((factor,), self.factors, given), self.interval, self.total.level)

    def harmful(self, better: str = "up") -> tuple[str, ...]:
        """The channels shown to do harm, over all channels looked at: on the wrong side by Holm's p-values."""
        wrong = -1 if better == "up" else 1
        return tuple(one.name for one in self.main if one.value * wrong > 0 and one.family_p < 1 - one.level)

    def __str__(self) -> str:
        step = "points" if isinstance(self.metric, Proportion) else ""
        rows = [
            (one.name, one) for one in (*self.main, *self.interactions, self.total, self.summed, self.overlap) if one
        ]
        width = max(len(name) for name, _ in rows)
        lines = [f"{self.metric}: {len(self.factors)} channels, {number(self.cells.n.sum(), 'count')} units"]
        for name, one in rows:
            holm_p = "" if one.family_p is None else f", Holm p {number(one.family_p, 'p')}"
            shown = estimate(one.value, one.low, one.high, step)
            lines.append(f"  {name:<{width}}  {shown}, p {number(one.p, 'p')}{holm_p}")
        if self.omnibus:
            lines.append(f"  any interaction: p {number(self.omnibus.p, 'p')}")
        mix = ", ".join(f"{name} {number(share, 'share')}" for name, share in self.shares.items())
        lines.append(f"  ({INTERVALS[self.interval]}; averaged over customers with {mix} on)")
        return "\n".join(lines)


def cell(on: Iterable[str]) -> str:
    """The name of the combination in which these channels are on.

    >>> cell(["email", "push"]), cell([])
    ('email + push', 'none')
    """
    return " + ".join(on) or OFF


def cell_shares(shares: Mapping[str, float]) -> dict[str, float]:
    """The share of units in each combination when the channels are drawn independently, as `srm` takes it.

    >>> {name: round(share, 2) for name, share in cell_shares({"email": 0.8, "push": 0.5}).items()}
    {'none': 0.1, 'push': 0.1, 'email': 0.4, 'email + push': 0.4}
    """
    _refuse_shares(shares)
    return {
        cell(name for name, on in zip(shares, levels, strict=True) if on): math.prod(
            share if on else 1 - share for share, on in zip(shares.values(), levels, strict=True)
        )
        for levels in product((0, 1), repeat=len(shares))
    }


def gather(table, metrics: Metric | Iterable[Metric], factors: Sequence[str]) -> Moments:
    """One pass over one row per randomised unit; the arms of the moments are the combinations of the channels.

    `table` is a pandas frame or an Ibis table, `factors` its 0/1 columns, one a channel.  Raises InputError with every
    problem: absent columns, values other than 0 and 1, a unit that was not drawn for one of the channels.

    >>> units = pd.DataFrame({"email": [0, 0, 1, 1], "push": [0, 1, 0, 1], "spend": [1.0, 2.0, 3.0, 4.0]})
    >>> gather(units, Mean("spend"), ["email", "push"]).arms
    ('email', 'email + push', 'none', 'push')
    """
    factors, metrics = tuple(factors), (metrics,) if isinstance(metrics, Metric) else tuple(metrics)
    _refuse_factors(factors)
    present = [str(name) for name in table.columns]
    absent = [Problem("units", "there is no such column", nearest(f, present), column=f) for f in factors]
    absent = [problem for problem in absent if problem.column not in present]
    if absent:
        raise InputError(absent)
    names = [cell(f for f, on in zip(factors, levels, strict=True) if on) for levels in _levels(len(factors))]
    columns = [name for name in dict.fromkeys(c for m in metrics for c in m.columns) if name in present]
    if isinstance(table, pd.DataFrame):
        _refuse_values({f: int((~table[f].isin([0, 1])).sum()) for f in factors})
        code = sum(table[f].astype(int).to_numpy() << place for place, f in enumerate(factors))
        cells = table[columns].assign(**{_COMBINATION: np.array(names, dtype=object)[code]})
    else:
        import ibis

        drawn = {f: table[f].cast("float64") for f in factors}
        wrong = {f: (~drawn[f].isin([0, 1])).fill_null(True).cast("int64").sum() for f in factors}
        _refuse_values(table.aggregate(**wrong).to_pyarrow().to_pylist()[0])
        code = sum(drawn[f].cast("int64") * 2**place for place, f in enumerate(factors))
        cells = table.select(
            *columns, **{_COMBINATION: ibis.cases(*((code == place, name) for place, name in enumerate(names)))}
        )
    return moments(cells, metrics, arm=_COMBINATION)


def factorial(
    gathered: Moments,
    metric: Metric,
    factors: Sequence[str],
    *,
    shares: Mapping[str, float] | None = None,
    interval: str | None = None,
    alpha: float = 0.05,
    min_nonzero: int = MIN_NONZERO,
) -> Factorial:
    """Estimate each channel's effect, their interactions and the total, by intention to treat.

    `gathered` comes from `gather`, with one row per unit that was *randomised*: where a channel is drawn by store, the
    units are stores.  Cell means are combined with known weights and each cell keeps its own variance, so unequal cells
    and unequal variances do no harm (Dasgupta, Pillai and Rubin 2015): it equals least squares with every interaction,
    effect coding and HC2 errors.

    `shares` says with which share of customers each channel is on in the world that the main effects and interactions
    speak of: the launch you plan, or the design you ran.  The default is one half each, as textbooks have it.
    An interaction is what two channels on together bring beyond the sum of the two (with effect coding, four times the
    coefficient of the product; a main effect is twice its coefficient).

    The omnibus test of all interactions is Welch's, for unequal variances (Johansen 1980).

    Raises Refusal when a combination has fewer than two units, does not vary, or, for a skewed mean, has so few
    non-zero outcomes that an interval would miss too often.

    >>> units = pd.DataFrame([(e, p, 10 + 2 * e + p + s) for e in (0, 1) for p in (0, 1) for s in (-1, 1)] * 50,
    ...     columns=["email", "push", "spend"])
    >>> found = factorial(gather(units, Mean("spend"), ["email", "push"]), Mean("spend"), ["email", "push"])
    >>> [(one.name, round(one.value, 6)) for one in (*found.main, *found.interactions, found.total)]
    [('email', 2.0), ('push', 1.0), ('email × push', 0.0), ('all on', 3.0)]
    """
    factors = tuple(factors)
    _refuse_factors(factors)
    interval = interval or ("hall" if isinstance(metric, Mean) else "welch")
    shares = dict.fromkeys(factors, 0.5) | dict(shares or {})
    _check(metric, factors, shares, interval, alpha)
    cells = _cells(gathered, metric, factors, min_nonzero)

    def read(name: str, weights: np.ndarray) -> Contrast:
        return _contrast(cells, name, weights, interval, 1 - alpha)

    off = dict.fromkeys(factors, 0.0)
    ones = [(f,) for f in factors]
    main = _family([read(f, _effect_of((f,), factors, shares)) for f in factors])
    by_itself = [_effect_of(one, factors, off) for one in ones]
    pairs = list(combinations(factors, 2))
    mixed = _family([read(" × ".join(pair), _effect_of(pair, factors, shares)) for pair in pairs])
    total = np.zeros(len(cells.n))
    total[-1], total[0] = 1.0, -1.0
    summed = sum(by_itself)
    return Factorial(
        metric=metric,
        factors=factors,
        shares=shares,
        interval=interval,
        main=main,
        alone=tuple(read(f"{f} alone", weights) for f, weights in zip(factors, by_itself, strict=True)),
        interactions=mixed,
        total=read("all on", total),
        summed=read("sum of each alone", summed),
        overlap=read("overlap", total - summed) if len(factors) > 1 else None,
        omnibus=_omnibus(cells, factors),
        cells=cells,
    )


def channel_evidence(found: Factorial, unit: str, window_days: int, currency: str = "EUR") -> list[Evidence]:
    """A factorial experiment as evidence: one row a channel, pair, total and overlap; reported, without a threshold."""
    rows = [("main", one.name, "on", "off", one) for one in found.main]
    rows += [("interaction", one.name, "both", "sum", one) for one in found.interactions]
    rows += [("total", "all", "all on", "all off", found.total)]
    rows += [("overlap", "all", "all on", "sum", found.overlap)] if found.overlap else []
    return [
        Evidence(
            id=f"method.channels.{kind}",
            segment=segment,
            arm=arm,
            versus=versus,
            requirement="design.channels",
            statement=f"{found.metric}, {one.name}: {estimate(one.value, one.low, one.high, unit, currency)}.",
            kind="interval",
            design="randomised",
            unit=unit,
            value=one.value,
            se=one.se,
            low=one.low,
            high=one.high,
            level=one.level,
            p=one.p,
            n=one.n,
            family="channels" if kind == "main" else "exploratory",
            tables=("assignments", "orders"),
            window_start="day 0",
            window_end=f"day {window_days}",
        )
        for kind, segment, arm, versus, one in rows
    ]


_COMBINATION = "channels on"


@dataclass(frozen=True, eq=False)
class _Cells:
    """The combinations in the order of `_levels`: how many units, means, variances of the means, third cumulants."""

    names: tuple[str, ...]
    n: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    third: np.ndarray
    nonzero: np.ndarray
    least: int


def _levels(count: int) -> list[tuple[int, ...]]:
    """Every combination of 0 and 1, the first factor changing fastest: all off first, all on last."""
    return [levels[::-1] for levels in product((0, 1), repeat=count)]


def _effect_of(chosen: Sequence[str], factors: Sequence[str], shares: Mapping[str, float]) -> np.ndarray:
    """Weights of the cells for the effect of `chosen` (one: difference, two: difference of differences)."""
    parts = [
        np.array([-1.0, 1.0]) if name in chosen else np.array([1 - shares[name], shares[name]]) for name in factors
    ]
    return np.array(
        [math.prod(part[on] for part, on in zip(parts, levels, strict=True)) for levels in _levels(len(factors))]
    )


def _cells(gathered: Moments, metric: Metric, factors: tuple[str, ...], least: int) -> _Cells:
    names = [cell(f for f, on in zip(factors, levels, strict=True) if on) for levels in _levels(len(factors))]
    stray = [arm for arm in gathered.arms if arm not in set(names)]
    if stray:
        found = f"`{stray[0]}` is no combination of {', '.join(factors)}"
        raise InputError(Problem("moments", found, "gather them with `gather` and the same channels"))
    counts = gathered.counts
    few = [name for name in names if counts.get(name, 0) < 2]
    if few:
        raise Refusal(
            f"{metric}: {len(few)} of {len(names)} combinations of channels have fewer than two customers "
            f"({'; '.join(few[:4])}), so their means are unknown; analyse fewer channels together."
        )
    everyone = gathered.by(("arm",))
    place = {name: i for i, name in enumerate(everyone.values["arm"])}
    order = [place[name] for name in names]
    n = everyone.n[order]
    still = [name for name, spread in zip(names, everyone.var(metric.column)[order], strict=True) if spread <= 0]
    if still:
        raise Refusal(
            f"{metric}: no unit differs from another in {len(still)} of {len(names)} combinations of channels "
            f"({'; '.join(still[:4])}), so their error would be read as 0; analyse fewer channels together, or collect more."
        )
    third = np.zeros(len(n))
    if metric.order == 3:
        cubes = everyone.products(*[metric.column] * 3)[order]
        third = cubes / (n * (n - 1) * np.maximum(n - 2, 1))
    return _Cells(
        tuple(names),
        n,
        everyone.mean(metric.column)[order],
        everyone.var(metric.column)[order] / n,
        third,
        everyone.nonzero(metric.column)[order],
        least,
    )


def _contrast(cells: _Cells, name: str, weights: np.ndarray, interval: str, level: float) -> Contrast:
    used = np.abs(weights) > 1e-12
    c, v, n = weights[used], cells.variance[used], cells.n[used]
    buyers = _fewest(cells, weights)
    if interval == "hall" and buyers < cells.least:
        raise Refusal(
            f"{name}: its combinations have the weight of {number(math.floor(buyers), 'count')} customers with a value "
            f"other than 0 and {cells.least} are needed, because below that the interval of a skewed mean misses too "
            "often; collect more units, or analyse fewer channels together."
        )
    variance = float(c**2 @ v)
    value = float(c @ cells.mean[used])
    if variance <= (1e-12 * np.abs(cells.mean[used]).max()) ** 2:
        raise Refusal(f"{name}: no unit differs from another in its combination, so there is nothing to compare.")
    se = math.sqrt(variance)
    df = float(variance**2 / ((c**2 * v) ** 2 / (n - 1)).sum())
    skew = float(c**3 @ cells.third[used]) / se**3 if interval == "hall" else 0.0
    df_limits = _df_limits(df, buyers) if interval == "hall" else df
    quantile = -float(special.stdtrit(df_limits, (1 - level) / 2))
    return Contrast(
        name=name,
        value=value,
        se=se,
        df=df,
        low=float(value - se * studentised(quantile, skew)),
        high=float(value - se * studentised(-quantile, skew)),
        level=level,
        p=float(2 * special.stdtr(df_limits, -abs(transformed(value / se, skew)))),
        n=int(n.sum()),
    )


def _fewest(cells: _Cells, weights: np.ndarray) -> float:
    """How many units with a value other than 0 the weaker side of a contrast rests on, counted as its weights use them."""
    found = []
    for side in (weights > 1e-12, weights < -1e-12):
        w, buyers = np.abs(weights[side]), cells.nonzero[side]
        found.append(w.sum() ** 2 / (w**2 / buyers).sum() if (buyers > 0).all() else 0.0)
    return float(min(found))


def _family(contrasts: Sequence[Contrast]) -> tuple[Contrast, ...]:
    adjusted = holm([one.p for one in contrasts])
    return tuple(replace(one, family_p=float(p)) for one, p in zip(contrasts, adjusted, strict=True))


def _omnibus(cells: _Cells, factors: Sequence[str]) -> Omnibus | None:
    """Welch's test that all interactions of every order are 0 (Johansen 1980); None with a single channel."""
    half = dict.fromkeys(factors, 0.5)
    chosen = [group for size in range(2, len(factors) + 1) for group in combinations(factors, size)]
    if not chosen or (cells.variance <= 0).any():
        return None
    return _welch_james(cells, np.array([_effect_of(group, factors, half) for group in chosen]))


def _welch_james(cells: _Cells, rows: np.ndarray) -> Omnibus:
    """The test that every row's weighted sum of cell means is 0, each cell with its own variance."""
    spread = rows * np.sqrt(cells.variance)
    inverse = np.linalg.pinv(spread @ spread.T)
    gap = rows @ cells.mean
    wald, r = float(gap @ inverse @ gap), len(rows)
    lever = np.einsum("ij,ik,kj->j", spread, inverse, spread)  # how much of each cell's variance the test uses
    a = float((lever**2 / (cells.n - 1)).sum())
    statistic = wald / (r + 2 * a - 6 * a / (r + 2))
    df_error = r * (r + 2) / (3 * a)
    return Omnibus(statistic, r, df_error, float(special.fdtrc(r, df_error, statistic)))


def _check(metric, factors, shares, interval, alpha) -> None:
    problems = []
    if not isinstance(metric, Mean | Proportion):
        problems.append(Problem("metric", f"{metric} is no mean", "use Mean or Proportion"))
    if interval not in INTERVALS:
        problems.append(Problem("interval", f"`{interval}` is not known", nearest(str(interval), tuple(INTERVALS))))
    elif interval == "hall" and not isinstance(metric, Mean):
        problems.append(Problem("interval", "Hall's interval is for means", 'use interval="welch"'))
    if not 0 < alpha < 1:
        problems.append(Problem("alpha", f"is {alpha}", "choose a fraction such as 0.05"))
    problems += [
        Problem("shares", f"`{f}` is no channel here", nearest(f, factors)) for f in shares if f not in factors
    ]
    problems += _wrong_shares(shares)
    if problems:
        raise InputError(problems)


def _wrong_shares(shares: Mapping[str, float]) -> list[Problem]:
    return [
        Problem("shares", f"`{name}` is on for a share of {share}", "give a share from 0 to 1")
        for name, share in shares.items()
        if not 0 <= share <= 1
    ]


def _refuse_shares(shares: Mapping[str, float]) -> None:
    if problems := _wrong_shares(shares):
        raise InputError(problems)


def _refuse_factors(factors: Sequence[str]) -> None:
    problems = []
    if not 1 <= len(factors) <= MOST or len(set(factors)) < len(factors):
        problems.append(Problem("factors", f"{len(factors)} are named", f"name 1 to {MOST} channels, each once"))
    problems += [
        Problem("factors", f"`{f}` cannot name a channel", "rename the column")
        for f in factors
        if f == OFF or " + " in f
    ]
    if problems:
        raise InputError(problems)


def _refuse_unknown(named: Sequence[str], factors: Sequence[str]) -> None:
    unknown = [Problem("factors", f"`{f}` is no channel here", nearest(f, factors)) for f in named if f not in factors]
    if unknown:
        raise InputError(unknown)


def _refuse_values(wrong: Mapping[str, int]) -> None:
    mend = "give every unit 0 or 1; leave out the units that were not drawn for all channels"
    problems = [
        Problem("units", f"{count:,} units are neither 0 nor 1", mend, column=name, count=count)
        for name, count in wrong.items()
        if count
    ]
    if problems:
        raise InputError(problems)
