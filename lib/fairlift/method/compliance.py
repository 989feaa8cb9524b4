"""The effect on those whom an offer really reached, when who is reached is not up to chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from scipy import optimize, special

from fairlift.errors import InputError, Problem, Refusal, nearest
from fairlift.evidence import Evidence
from fairlift.format import estimate, number
from fairlift.format import interval as between
from fairlift.method.effect import INTERVALS, MIN_NONZERO, Effect, effect
from fairlift.method.hall import transformed as hall_transformed
from fairlift.method.interval import wilson
from fairlift.method.metric import Mean
from fairlift.method.moments import Moments, Sample, moments

MIN_F = 10.0  # Staiger and Stock 1997
ASSUMED = (
    "An offer that did not reach a customer changes nothing for that customer (exclusion).",
    "Nobody is reached only because of being drawn for the other arm (monotonicity).",
)


@dataclass(frozen=True)
class Reception:
    """An outcome, and a 0/1 column that says whether the offer reached the unit, gathered with what they share.

    >>> Reception("revenue", "opened_any").columns
    ('revenue', 'opened_any')
    """

    outcome: str
    reached: str

    order = 3
    covariates = ()

    def __str__(self) -> str:
        return f"{self.outcome} by {self.reached}"

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Columns that every unit must have."""
        return (self.outcome, self.reached)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns it reads."""
        return (self.outcome, self.reached)


@dataclass(frozen=True)
class Compliance:
    """The effect on the customers reached (complier average causal effect), and what it is made from.

    `itt` is the effect of being assigned; `reach` and `reach_versus` are the shares reached in each arm, `f` how well
    their difference is known (the first-stage F).  `value` is itt ÷ difference of reach, `se` its delta-method standard
    error (for comparison only), `low` and `high` the limits at `level`.  `mean_reached` and `mean_missed` are the
    outcomes of those reached and not reached in the arm: their difference is the naive answer.
    """

    outcome: str
    reached: str
    arm: str
    versus: str
    itt: Effect
    reach: float
    reach_versus: float
    f: float
    value: float
    se: float
    low: float
    high: float
    level: float
    p: float
    n: int
    interval: str
    leak: float
    mean_reached: float | None
    mean_missed: float | None

    @property
    def naive(self) -> float | None:
        """Those reached minus those not reached in the same arm: no effect, only a difference between people."""
        if self.mean_reached is None or self.mean_missed is None:
            return None
        return self.mean_reached - self.mean_missed

    def __str__(self) -> str:
        lines = [
            f"{self.outcome} of those with {self.reached}: {self.arm} against {self.versus}",
            f"  reached {number(self.reach, 'share')} against {number(self.reach_versus, 'share')}, F {number(self.f)}",
            f"  effect of being assigned {estimate(self.itt.value, self.itt.low, self.itt.high)}",
            f"  effect on those reached {estimate(self.value, self.low, self.high)} "
            f"({INTERVALS[self.interval]}, inverted), p {number(self.p, 'p')}",
        ]
        leak = f" An offer unseen is taken to have {number(self.leak, 'share')} of the effect." if self.leak else ""
        return "\n".join([*lines, "  Holds only if: " + " ".join(ASSUMED) + leak])


def gather(table, outcome: str, reached: str, arm: str = "arm") -> Moments:
    """One pass over one row per randomised unit, for `cace`.

    `table` is a pandas frame or an Ibis table; `reached` is a column of 0 and 1 (or true and false).

    >>> import pandas as pd
    >>> units = pd.DataFrame({"arm": ["a", "a", "b", "b"], "reached": [1, 0, 0, 0], "spend": [5.0, 1.0, 1.0, 2.0]})
    >>> gather(units, "spend", "reached").counts
    {'a': 2, 'b': 2}
    """
    return moments(table, (Reception(outcome, reached), Mean(outcome)), arm=arm)


def cace(
    gathered: Moments,
    outcome: str,
    reached: str,
    arm: str,
    versus: str,
    *,
    interval: str = "hall",
    alpha: float = 0.05,
    leak: float = 0.0,
    min_f: float = MIN_F,
    min_nonzero: int = MIN_NONZERO,
) -> Compliance:
    """Estimate the effect on the customers whom the offer reached only because of their arm (Imbens and Angrist 1994).

    It is the effect of being assigned divided by the share that assignment reached.  The interval holds every effect β
    for which outcome − β × reached does not differ between the arms (Anderson and Rubin 1949; with normal quantiles it
    is Fieller's), so it stays right where few were reached, and it leaves out 0 exactly when the interval of the effect
    of assignment does.

    Two assumptions carry it and no data can prove them: `ASSUMED`.  `leak` loosens the first: the share of the effect
    that an offer has on customers it did not reach, such as a subject line that was read but not opened.

    `gathered` comes from `gather`.  Raises Refusal where the difference of reach cannot be told from 0 or its F is below
    `min_f` (Staiger and Stock 1997), and where `effect` refuses the outcome itself.

    Vitamin A in Aceh (Sommer and Zeger 1991; Imbens and Rubin 1997), deaths per child:

    >>> import pandas as pd
    >>> counts = [("a", 1, 0, 9663), ("a", 1, 1, 12), ("a", 0, 0, 2385), ("a", 0, 1, 34), ("b", 0, 0, 11514), ("b", 0, 1, 74)]
    >>> rows = pd.DataFrame([row[:3] for row in counts], columns=["arm", "reached", "died"])
    >>> rows = rows.loc[rows.index.repeat([row[3] for row in counts])]
    >>> found = cace(gather(rows, "died", "reached"), "died", "reached", "a", "b", min_nonzero=40)
    >>> round(found.value, 4), round(found.se, 4), round(found.itt.value, 4)
    (-0.0032, 0.0012, -0.0026)
    """
    _check(gathered, reached, arm, versus, interval, alpha, leak)
    itt = effect(gathered, Mean(outcome), arm, versus, interval=interval, alpha=alpha, min_nonzero=min_nonzero)
    one, two = gathered.arm(arm), gathered.arm(versus)
    reach, reach_versus = (round(float(sample.mean(reached) * sample.n)) / float(sample.n) for sample in (one, two))
    first = reach - reach_versus
    pairs = [_pair(sample, outcome, reached) for sample in (one, two)]
    spread = sum(r * (1 - r) / (pair.n - 1) for r, pair in zip((reach, reach_versus), pairs, strict=True))
    f = float(first**2 / spread) if spread > 0 else (math.inf if first else 0.0)
    _refuse_weak(
        outcome, reached, one, two, arm, versus, f, max(min_f, float(special.stdtrit(itt.df_limits, alpha / 2)) ** 2)
    )
    top, bottom = itt.value, leak + (1 - leak) * reach - reach_versus  # who was drawn for `versus` was sent nothing

    def tested(beta: float) -> tuple[float, float]:
        slopes = beta * (1 - leak), beta
        parts = [pair.variance(slope) for pair, slope in zip(pairs, slopes, strict=True)]
        thirds = [pair.third_cumulant(slope) for pair, slope in zip(pairs, slopes, strict=True)]
        third = thirds[0] - thirds[1] if interval == "hall" else 0.0
        t, df = transformed(top - beta * bottom, parts, [pair.n for pair in pairs], third)
        return t, min(df, itt.df_limits)  # fewer where buyers are few

    value = float(top / bottom)
    se = float(math.sqrt(pairs[0].variance(value * (1 - leak)) + pairs[1].variance(value)) / bottom)
    low, high = inverted(tested, value, se, alpha)
    return Compliance(
        outcome=outcome,
        reached=reached,
        arm=arm,
        versus=versus,
        itt=itt,
        reach=reach,
        reach_versus=reach_versus,
        f=f,
        value=value,
        se=se,
        low=low,
        high=high,
        level=1 - alpha,
        p=itt.p,
        n=itt.n_arm + itt.n_versus,
        interval=interval,
        leak=leak,
        mean_reached=_mean_where(one, outcome, reached, True),
        mean_missed=_mean_where(one, outcome, reached, False),
    )


def transformed(gap: float, variances: Sequence[float], n: Sequence[float], third: float = 0.0) -> tuple[float, float]:
    """A gap over its standard error, with Hall's transform for its third cumulant, and Welch's degrees of freedom.

    >>> transformed(2.0, [0.5, 0.5], [11, 11])
    (2.0, 20.0)
    """
    variance = sum(variances)
    df = variance**2 / sum(part**2 / (size - 1) for part, size in zip(variances, n, strict=True))
    t, skew = gap / math.sqrt(variance), third / variance**1.5
    return hall_transformed(t, skew), df


def inverted(
    tested: Callable[[float], tuple[float, float]], value: float, se: float, alpha: float
) -> tuple[float, float]:
    """The interval of all β that a test does not reject; `tested(β)` answers (t, df), t falling in β.

    `value` lies inside and `se` says how far to look first.  Raises Refusal where an end lies nowhere.

    >>> [round(limit, 3) for limit in inverted(lambda beta: (1 - beta, 1e9), 1.0, 1.0, 0.05)]
    [-0.96, 2.96]
    """
    ends = []
    for side in (-1, 1):

        def beyond(beta: float, side=side) -> float:
            t, df = tested(beta)
            return -side * t + float(special.stdtrit(df, alpha / 2))

        step, inner = 2 * se, value
        for _ in range(60):
            outer = value + side * step
            if beyond(outer) > 0:
                break
            inner, step = outer, 2 * step
        else:
            raise Refusal("The interval has no end on one side; collect more units.")
        ends.append(float(optimize.brentq(beyond, inner, outer, xtol=1e-12 * max(abs(value), se), rtol=1e-12)))
    return ends[0], ends[1]


def cace_evidence(found: Compliance, unit: str, window_days: int, currency: str = "EUR") -> Evidence:
    """The effect on those reached as evidence, reported without a threshold.

    It rests on assumptions besides the draw, so its design is "quasi" and it never carries a benefit.
    """
    shown = estimate(found.value, found.low, found.high, unit, currency)
    return Evidence(
        id="method.channels.cace",
        statement=f"Effect on {found.outcome} of the customers reached, {found.arm} against {found.versus}: {shown}.",
        kind="interval",
        design="quasi",
        arm=found.arm,
        versus=found.versus,
        population="exposed",
        value=found.value,
        se=found.se,
        low=found.low,
        high=found.high,
        level=found.level,
        p=found.p,
        n=found.n,
        unit=unit,
        **_common(window_days),
    )


def reach_evidence(counts: Mapping[str, tuple[int, int]], window_days: int) -> list[Evidence]:
    """The share reached in every arm, with Wilson's limits; `counts` gives (reached, customers) by arm.

    >>> print(reach_evidence({"personalised": (970, 1000)}, 56)[0].statement)
    Share reached in personalised: 97.00 % (95.75 % to 97.89 %).
    """
    rows = []
    for arm, (reached, n) in counts.items():
        low, high = wilson(reached, n)
        statement = f"Share reached in {arm}: {number(reached / n, 'share')} ({between(low, high, 'share')})."
        rows.append(
            Evidence(
                id="method.channels.reached",
                statement=statement,
                kind="exact",
                design="descriptive",
                arm=arm,
                value=reached / n,
                low=low,
                high=high,
                level=0.95,
                n=n,
                unit="share",
                **_common(window_days),
            )
        )
    return rows


def _common(window_days: int) -> dict:
    return {
        "requirement": "design.channels",
        "tables": ("assignments", "exposures", "orders"),
        "window_start": "day 0",
        "window_end": f"day {window_days}",
        "family": "exploratory",
    }


@dataclass(frozen=True)
class _Pair:
    """What one arm knows of its outcome y and receipt d: the cumulants of their means.

    `second` are the variances and covariance of the two means (yy, yd, dd), `third` their third cumulants (yyy … ddd).
    """

    n: float
    second: tuple[float, float, float]
    third: tuple[float, float, float, float]

    def variance(self, slope: float) -> float:
        """The variance of the mean of y − slope × d."""
        yy, yd, dd = self.second
        return max(yy - 2 * slope * yd + slope**2 * dd, 0.0)

    def third_cumulant(self, slope: float) -> float:
        """The third cumulant of the mean of y − slope × d."""
        yyy, yyd, ydd, ddd = self.third
        return yyy - 3 * slope * yyd + 3 * slope**2 * ydd - slope**3 * ddd


def _pair(sample: Sample, y: str, d: str) -> _Pair:
    n = float(sample.n)
    second = tuple(float(sample.products(*term)) / (n * (n - 1)) for term in ((y, y), (y, d), (d, d)))
    cubed = n * (n - 1) * max(n - 2, 1)
    third = tuple(float(sample.products(*term)) / cubed for term in ((y, y, y), (y, y, d), (y, d, d), (d, d, d)))
    return _Pair(n, second, third)


def _mean_where(sample: Sample, outcome: str, reached: str, here: bool) -> float | None:
    """The mean outcome of the units reached (or not), from means and one product; None where there is nobody."""
    share = float(sample.mean(reached))
    both = float(sample.products(outcome, reached) / sample.n + sample.mean(outcome) * share)
    part, weight = (both, share) if here else (float(sample.mean(outcome)) - both, 1 - share)
    return part / weight if weight * sample.n > 0.5 else None


def _refuse_weak(outcome, reached, one: Sample, two: Sample, arm: str, versus: str, f: float, least: float) -> None:
    shares = f"{number(one.mean(reached), 'share')} of {arm}, {number(two.mean(reached), 'share')} of {versus}"
    if f >= least and one.mean(reached) < two.mean(reached):
        raise Refusal(
            f"{reached}: {versus} was reached more often than {arm} ({shares}), so assignment did not bring the offer; "
            "compare the arms the other way round."
        )
    if f < least:
        raise Refusal(
            f"{outcome}: assignment hardly changed who was reached ({shares}; F {number(f)}, {number(least)} needed), so "
            "an effect on those reached has no useful interval; read the effect of being assigned, or reach more customers."
        )


def _check(gathered: Moments, reached: str, arm: str, versus: str, interval: str, alpha: float, leak: float) -> None:
    problems = []
    if interval not in INTERVALS:
        problems.append(Problem("interval", f"`{interval}` is not known", nearest(str(interval), tuple(INTERVALS))))
    if not 0 < alpha < 1:
        problems.append(Problem("alpha", f"is {alpha}", "choose a fraction such as 0.05"))
    if not 0 <= leak < 1:
        problems.append(Problem("leak", f"is {leak}", "give a share from 0 to below 1"))
    for sample in (gathered.arm(name) for name in (arm, versus) if name in gathered.arms):
        share = sample.mean(reached)
        if abs(sample.products(reached, reached) - sample.n * share * (1 - share)) > 1e-6 * sample.n:
            found = "holds values other than 0 and 1"
            problems.append(Problem("units", found, "say whether, not how often: `exposures > 0`", column=reached))
            break
    if problems:
        raise InputError(problems)
