"""Several arms against one control, and several metrics of one experiment, each read by the rule of its family."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy import optimize, special

from fairlift.errors import InputError, Problem, nearest
from fairlift.evidence import Evidence
from fairlift.format import estimate, number, p_value, percent
from fairlift.method.effect import Effect, above, effect
from fairlift.method.interval import benjamini_hochberg, holm
from fairlift.method.kpi import measured
from fairlift.method.metric import Metric, Proportion
from fairlift.method.moments import Moments

ROLES = ("primary", "guardrail", "exploratory")
FAR = 8.5  # standard deviations beyond which a normal has no weight that counts


# --- several arms ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dunnett:
    """Every arm against one control, so that all intervals together hold at `level`.

    `effects` are in the order asked; their limits and p are the simultaneous ones.  `quantile` replaces the t quantile of a
    single comparison, at `df` degrees of freedom.
    """

    effects: tuple[Effect, ...]
    quantile: float
    df: float
    level: float

    def best(self, better: str = "up") -> Effect:
        """The arm with the best estimate; its interval holds although it was picked after looking."""
        return (max if better == "up" else min)(self.effects, key=lambda seen: seen.value)

    def __str__(self) -> str:
        first = self.effects[0]
        lines = [f"{first.metric}: {len(self.effects)} arms against {first.versus}, {percent(self.level)} together"]
        wide = max(len(seen.arm) for seen in self.effects)
        lines += [f"  {seen.arm:<{wide}}  {_shown(seen)}  {p_value(seen.p)}" for seen in self.effects]
        return "\n".join(lines)


def dunnett(
    moments: Moments,
    metric: Metric,
    versus: str,
    arms: Sequence[str] | None = None,
    *,
    alpha: float = 0.05,
    **reading,
) -> Dunnett:
    """Compare several arms with one control so that the chance of any false alarm is at most alpha (Dunnett 1955).

    `arms` are all but `versus` where none is named; `reading` is what `effect` takes (interval, adjust, by).  The
    comparisons are correlated because they share the control, so the interval is narrower than Bonferroni's.  Each arm keeps
    its own variance, and the smallest degrees of freedom serve for all (Hasler and Hothorn 2008); with one common variance
    an arm whose spend varies more would be read too narrowly.  Skew is corrected as in a single comparison.

    Raises InputError without arms or where the control is among them; Refusal as `effect` does.

    >>> import pandas as pd
    >>> from fairlift.method import Mean, moments
    >>> rows = pd.DataFrame({"arm": list("abc") * 500, "spend": [3.0, 2.0, 2.0, 1.0, 1.0, 1.0] * 250})
    >>> print(dunnett(moments(rows, Mean("spend"), "arm"), Mean("spend"), versus="c"))
    mean of spend: 2 arms against c, 95 % together
      a  +0.5000 (+0.3883 to +0.6117)  p < 0.0001
      b  0 (−0.07061 to +0.07061)  p = 1.0000
    """
    arms = tuple(name for name in moments.arms if name != versus) if arms is None else tuple(arms)
    if not arms or versus in arms or len(set(arms)) < len(arms):
        found = f"the arms are {', '.join(arms) or 'none'} and the control is {versus}"
        raise InputError(Problem("arms", found, "name each arm once, and the control apart"))
    alone = [effect(moments, metric, arm, versus, alpha=alpha, **reading) for arm in arms]
    df = min(seen.df_limits for seen in alone)
    shared = [math.sqrt(max(seen.se_versus**2 - seen.covariance, 0.0)) / seen.se for seen in alone]
    quantile = largest_t_quantile(alpha, shared, df)
    each = 2 * float(special.stdtr(df, -quantile))
    effects = []
    for seen in alone:
        limits = effect(moments, metric, seen.arm, versus, alpha=each, **reading)
        t = -float(special.stdtrit(df, seen.p / 2)) if seen.p > 0 else math.inf
        p = 1.0 - largest_t(abs(t), shared, df) if t < math.inf else 0.0
        effects.append(replace(limits, level=1 - alpha, p=min(max(p, 0.0), 1.0)))
    return Dunnett(tuple(effects), quantile, df, 1 - alpha)


def largest_t(t: float, shared: Sequence[float], df: float) -> float:
    """The chance that no comparison with a common control exceeds `t` in size, where there is no effect.

    `shared` has for each comparison the root of the share of its variance that is the control's; two comparisons correlate
    by the product of theirs.  Computed by integrating over the control's error and over the common scale, so that the
    answer is the same each time (Dunnett 1955).

    >>> round(1 - largest_t(2.21, [0.5**0.5] * 2, 1e9), 3), round(1 - largest_t(2.57, [0.5**0.5] * 2, 10), 3)
    (0.05, 0.05)
    """
    shared = np.clip(np.asarray(shared, dtype=float), 0.0, 0.9999)
    own = np.sqrt(1 - shared**2)
    z, weight = _nodes(-FAR, FAR, int(50 + 25 / own.min()))  # the less is a comparison's own, the steeper the integrand
    weight = weight * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    scale, chance = _scales(df)
    own = own[:, None, None]
    centre = shared[:, None, None] * z[None, None, :]
    reach = t * scale[None, :, None]
    inside = special.ndtr((reach - centre) / own) - special.ndtr((-reach - centre) / own)
    return float(chance @ np.prod(inside, axis=0) @ weight)


def largest_t_quantile(alpha: float, shared: Sequence[float], df: float) -> float:
    """The size that the largest of several comparisons with one control exceeds with chance `alpha`, without effects.

    >>> [round(largest_t_quantile(0.05, [0.5**0.5] * arms, 20), 2) for arms in (1, 2, 3)]
    [2.09, 2.38, 2.54]
    """
    single, bonferroni = (-float(special.stdtrit(df, alpha / 2 / many)) for many in (1, len(shared)))
    if len(shared) == 1:
        return single
    found = optimize.brentq(lambda t: largest_t(t, shared, df) - (1 - alpha), single - 1e-6, bonferroni + 1e-6)
    return float(found)


def _nodes(low: float, high: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    place, weight = _gauss(count)
    return (high - low) / 2 * place + (high + low) / 2, (high - low) / 2 * weight


@cache
def _gauss(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(count)


def _scales(df: float) -> tuple[np.ndarray, np.ndarray]:
    """The estimated over the true standard deviation, with its chance: chi over the root of its degrees of freedom."""
    if df > 1e5:
        return np.ones(1), np.ones(1)
    low, high = (math.sqrt(special.chdtri(df, tail) / df) for tail in (1 - 1e-13, 1e-13))
    scale, weight = _nodes(low, high, 32)
    density = np.exp((df - 1) * np.log(scale) - df * (scale**2 - 1) / 2)
    chance = weight * density
    return scale, chance / chance.sum()


# --- several metrics ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NonInferiority:
    """Whether a metric got worse by more than a margin: pass (surely not), fail (surely), or inconclusive.

    `p` is one-sided, against "it got worse by the margin or more"; `p_harm` against "it got worse by the margin at most".
    """

    effect: Effect
    margin: float
    better: str
    p: float
    p_harm: float
    verdict: str

    def __str__(self) -> str:
        said = {
            "pass": "not worse by more than the margin",
            "fail": "worse by more than the margin",
            "inconclusive": "worse by more than the margin, or not: this cannot be told yet",
        }[self.verdict]
        seen = self.effect
        head = f"{seen.metric}: {seen.arm} against {seen.versus}, margin {_size(self.margin, seen.metric)}"
        return f"{head}\n  {_shown(seen)}; one-sided {p_value(self.p)}\n  {self.verdict}: {said}"


def noninferior(effect: Effect, margin: float, better: str = "up") -> NonInferiority:
    """Test whether a metric got worse by more than `margin`, a size in its own unit (Schuirmann 1987; Piaggio et al. 2012).

    A guardrail is passed by evidence, not by the lack of it: the whole interval must lie on the good side of the margin.  "No
    significant harm" is not that: the fewer customers, the more easily it is said.  With margin 0 this asks for a gain.

    Raises InputError for a margin below 0 or an unknown direction.

    >>> import pandas as pd
    >>> from fairlift.method import Proportion, effect, moments
    >>> rows = pd.DataFrame({"arm": ["new"] * 1000 + ["old"] * 1000, "left": [1, 0, 0, 0] * 500})
    >>> seen = effect(moments(rows, Proportion("left"), "arm"), Proportion("left"), "new", "old")
    >>> print(noninferior(seen, 0.05, better="down"))
    share with left: new against old, margin 5.00 points
      0.00 points (−3.80 to +3.80 points); one-sided p = 0.0050
      pass: not worse by more than the margin
    >>> noninferior(seen, 0.02, better="down").verdict
    'inconclusive'
    """
    problems = []
    if not (margin >= 0 and math.isfinite(margin)):
        problems.append(Problem("margin", f"is {margin}", "give a size of 0 or more; the side follows from `better`"))
    if better not in ("up", "down"):
        problems.append(Problem("better", f"is {better!r}", 'say "up" or "down"'))
    if problems:
        raise InputError(problems)
    if better == "up":
        p, low, high, bound = above(effect, -margin), effect.low, effect.high, -margin
    else:
        p, low, high, bound = 1 - above(effect, margin), -effect.high, -effect.low, -margin
    verdict = "pass" if low > bound else "fail" if high < bound else "inconclusive"
    return NonInferiority(effect, margin, better, float(p), float(1 - p), verdict)


@dataclass(frozen=True)
class Asked:
    """One metric of an experiment: its role, which way is better, and for a guardrail the harm still accepted.

    `effect` is None where it was refused: then nothing is shown about it.  `unit` is that of the difference, one of
    `fairlift.format.UNITS`.
    """

    name: str
    role: str
    effect: Effect | None
    better: str = "up"
    margin: float = 0.0
    unit: str = ""
    currency: str = "EUR"


@dataclass(frozen=True)
class Answer:
    """What one metric says: pass, fail or inconclusive for a gate; "worth a test" or "nothing shown" for what was only
    looked at.  `p` is one-sided beyond the margin for a gate, two-sided otherwise; `p_family` is of harm by Holm among gates
    of one role, of a difference by Benjamini and Hochberg among the exploratory.
    """

    asked: Asked
    verdict: str
    p: float | None
    p_family: float | None


@dataclass(frozen=True)
class Family:
    """All metrics of one experiment, each judged by the rule of its role."""

    answers: tuple[Answer, ...]
    alpha: float

    @property
    def gates(self) -> tuple[Answer, ...]:
        return tuple(answer for answer in self.answers if answer.asked.role != "exploratory")

    @property
    def go(self) -> bool:
        """Whether every gate passes."""
        return all(answer.verdict == "pass" for answer in self.gates)

    def __str__(self) -> str:
        by_role = sorted(self.answers, key=lambda answer: ROLES.index(answer.asked.role))
        guards = sum(answer.asked.role == "guardrail" for answer in by_role)
        looks = len(by_role) - guards - 1
        head = f"1 primary, {guards} guardrail{'s' * (guards != 1)}, {looks} exploratory, at {percent(1 - self.alpha)}"
        wide = max(len(answer.asked.name) for answer in by_role)
        lines = [head]
        for answer in by_role:
            asked = answer.asked
            shown = _shown(asked.effect, asked.unit, asked.currency) if asked.effect else "no number"
            if asked.role == "guardrail" and asked.effect:
                shown += f", margin {_size(asked.margin, asked.effect.metric, asked.unit, asked.currency)}"
            lines.append(f"  {asked.role:<11}  {asked.name:<{wide}}  {shown}: {answer.verdict}")
        open_ = [answer.asked.name for answer in self.gates if answer.verdict != "pass"]
        lines.append("  every gate passes" if self.go else f"  not passed: {', '.join(open_)}")
        return "\n".join(lines)


def read_family(asked: Sequence[Asked], alpha: float = 0.05) -> Family:
    """Judge the metrics of one experiment together: one primary, guardrails, and what is only looked at.

    *Pass*: all gates must pass, so each is read on its own interval, unadjusted: the chance that all pass although one should
    not is at most alpha / 2 (intersection–union; Berger 1982).  *Fail*: any one would do, so the more gates the more false
    fails; Holm's p among the gates of one role must be below alpha (Holm 1979).  *Exploratory*: Benjamini and Hochberg
    (1995); what they find is a reason for the next experiment and no result.

    Raises InputError unless there is exactly one primary, all intervals are at 1 − alpha, and the names differ.

    >>> import pandas as pd
    >>> from fairlift.method import Proportion, effect, moments
    >>> rows = pd.DataFrame({"arm": ["new"] * 1000 + ["old"] * 1000})
    >>> rows["bought"], rows["left"] = [1, 1, 0, 0] * 250 + [1, 0, 0, 0] * 250, [1, 0, 0, 0] * 500
    >>> metrics = [Proportion("bought"), Proportion("left")]
    >>> seen = [effect(moments(rows, metrics, "arm"), metric, "new", "old") for metric in metrics]
    >>> asked = [Asked("bought", "primary", seen[0]), Asked("left", "guardrail", seen[1], "down", 0.02)]
    >>> print(read_family(asked))
    1 primary, 1 guardrail, 0 exploratory, at 95 %
      primary      bought  +25.00 points (+20.86 to +29.07 points): pass
      guardrail    left    0.00 points (−3.80 to +3.80 points), margin 2.00 points: inconclusive
      not passed: left
    """
    _check(asked, alpha)
    gates = {
        place: noninferior(one.effect, one.margin, one.better)
        for place, one in enumerate(asked)
        if one.effect and one.role != "exploratory"
    }
    family: dict[int, float] = {}
    for role in ROLES:
        members = [place for place, one in enumerate(asked) if one.effect and one.role == role]
        if role == "exploratory":
            adjusted = benjamini_hochberg([asked[place].effect.p for place in members])
        else:  # twice the one-sided p, so that alone it agrees with the two-sided interval
            adjusted = holm([min(1.0, 2 * gates[place].p_harm) for place in members])
        family |= dict(zip(members, map(float, adjusted), strict=True))
    answers = []
    for place, one in enumerate(asked):
        if one.effect is None:
            nothing = "nothing shown" if one.role == "exploratory" else "inconclusive"
            answers.append(Answer(one, nothing, None, None))
        elif one.role == "exploratory":
            found = "worth a test" if family[place] < alpha else "nothing shown"
            answers.append(Answer(one, found, one.effect.p, family[place]))
        else:
            gate = gates[place]
            chance = gate.verdict == "fail" and family[place] >= alpha
            answers.append(Answer(one, "inconclusive" if chance else gate.verdict, gate.p, family[place]))
    return Family(tuple(answers), alpha)


def reported(
    id: str, name: str, seen: Effect, unit: str, window_days: int, currency: str = "EUR", segment: str = "all"
) -> Evidence:
    """An effect as evidence that is only reported: it has no threshold, so no gate reads it.

    >>> import pandas as pd
    >>> from fairlift.method import Proportion, effect, moments
    >>> rows = pd.DataFrame({"arm": ["new"] * 1000 + ["old"] * 1000, "left": [1, 0, 0, 0] * 500})
    >>> seen = effect(moments(rows, Proportion("left"), "arm"), Proportion("left"), "new", "old")
    >>> row = reported("method.reading.left", "Customers who left", seen, "points", 56)
    >>> row.verdict, row.statement
    ('reported', 'Customers who left, new against old: difference 0.00 points (\N{MINUS SIGN}3.80 to +3.80 points).')
    """
    shown = estimate(seen.value, seen.low, seen.high, unit, currency)
    return Evidence(
        id=id,
        statement=f"{name}, {seen.arm} against {seen.versus}: difference {shown}.",
        kind="interval",
        design="randomised",
        requirement="method.ab",
        segment=segment,
        arm=seen.arm,
        versus=seen.versus,
        unit=unit,
        window_start="day 0",
        window_end=f"day {window_days}",
        tables=("assignments", "orders"),
        **measured(seen),
    )


def _check(asked: Sequence[Asked], alpha: float) -> None:
    problems = [
        Problem("family", f"the role of {one.name} is `{one.role}`", nearest(one.role, ROLES))
        for one in asked
        if one.role not in ROLES
    ]
    primary = [one.name for one in asked if one.role == "primary"]
    if len(primary) != 1:
        found = f"{len(primary)} metrics are primary" + (f": {', '.join(primary)}" if primary else "")
        problems.append(Problem("family", found, "choose one, before the outcomes are seen"))
    names = [one.name for one in asked]
    if len(set(names)) < len(names):
        problems.append(Problem("family", "a name stands twice", "ask each metric once"))
    off = [one.name for one in asked if one.effect and abs(1 - one.effect.level - alpha) > 1e-9]
    if off:
        mend = f"estimate all effects with alpha={alpha}"
        problems.append(Problem("family", f"the intervals of {', '.join(off)} are at another level", mend))
    if problems:
        raise InputError(problems)


def _shown(seen: Effect, unit: str = "", currency: str = "EUR") -> str:
    unit = unit or ("points" if isinstance(seen.metric, Proportion) else "")
    return estimate(seen.value, seen.low, seen.high, unit, currency)


def _size(margin: float, metric: Metric, unit: str = "", currency: str = "EUR") -> str:
    return number(margin, unit or ("points" if isinstance(metric, Proportion) else ""), currency)
