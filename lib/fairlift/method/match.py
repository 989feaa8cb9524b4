"""Store purchases reach an experiment only where a loyalty card was shown: how many do, and what that does to an effect."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scipy import special

from fairlift.errors import InputError, Problem, Refusal
from fairlift.format import estimate, interval, number
from fairlift.method.compliance import inverted, transformed
from fairlift.method.effect import Effect
from fairlift.method.interval import newcombe, wilson

MIN_MATCHED = 30  # audited purchases matched, and not matched, below which a rate is too rough to divide by


@dataclass(frozen=True)
class MatchRate:
    """The share of store purchases that could be joined to a customer, in two arms.

    `rate` is over both arms, with Wilson's limits; `arms` gives of each arm (rate, low, high, audited); `difference` is
    arm − versus with Newcombe's limits, `p` of the hypothesis that the rates are the same.
    """

    arm: str
    versus: str
    matched: int
    audited: int
    rate: float
    low: float
    high: float
    level: float
    arms: Mapping[str, tuple[float, float, float, int]]
    difference: float
    difference_low: float
    difference_high: float
    p: float

    def __str__(self) -> str:
        rows = [
            f"  {name}: {number(rate, 'share')} ({interval(low, high, 'share')}) of {number(n, 'count')} audited"
            for name, (rate, low, high, n) in self.arms.items()
        ]
        shown = estimate(self.difference, self.difference_low, self.difference_high, "points")
        both = f"  both: {number(self.rate, 'share')} ({interval(self.low, self.high, 'share')})"
        return "\n".join(
            ["store purchases matched to a customer", *rows, f"  difference {shown}, p {number(self.p, 'p')}", both]
        )


@dataclass(frozen=True)
class Corrected:
    """An effect on all store purchases, from the effect on the matched ones.

    `value` with `low` and `high` at `level` holds if the match rate is the same in both arms; `worst_low` and
    `worst_high` hold whatever the two rates are, as far as the audit can tell.
    """

    observed: Effect
    value: float
    low: float
    high: float
    level: float
    worst_low: float
    worst_high: float

    def __str__(self) -> str:
        seen = self.observed
        return "\n".join(
            [
                f"{seen.metric}: {seen.arm} against {seen.versus}, on all store purchases",
                f"  matched only    {estimate(seen.value, seen.low, seen.high)}",
                f"  all purchases   {estimate(self.value, self.low, self.high)}, if both arms are matched alike",
                f"  at worst        {interval(self.worst_low, self.worst_high, signed=True)}, if they differ as the audit allows",
            ]
        )


def match_rate(
    matched: Mapping[str, int], audited: Mapping[str, int], arm: str, versus: str, alpha: float = 0.05
) -> MatchRate:
    """The share of store purchases joined to a customer, by arm (Wilson 1927; Newcombe 1998).

    An unmatched purchase has no customer and so no arm.  The rate by arm therefore comes from an *audit*: purchases whose
    buyer is known in another way (a receipt shown in a survey, a payment token, a panel), `audited` of them, of which
    `matched` were also joined through the card.  Audit one purchase a customer, or purchases are not independent.

    >>> print(match_rate({"personalised": 330, "holdout": 290}, {"personalised": 500, "holdout": 500}, "personalised", "holdout"))
    store purchases matched to a customer
      personalised: 66.00 % (61.74 % to 70.02 %) of 500 audited
      holdout: 58.00 % (53.63 % to 62.25 %) of 500 audited
      difference +8.00 points (+1.98 to +13.94 points), p 0.0092
      both: 62.00 % (58.95 % to 64.96 %)
    """
    problems = [
        Problem("match", f"the audit lacks the arm `{name}`", "count matched and audited purchases of both arms")
        for name in (arm, versus)
        if name not in matched or name not in audited
    ]
    problems += [
        Problem(
            "match",
            f"{matched[name]} of {audited[name]} purchases of `{name}`",
            "matched is 0 to audited, audited above 0",
        )
        for name in (arm, versus)
        if name in matched and name in audited and not 0 <= matched[name] <= audited[name] > 0
    ]
    if problems:
        raise InputError(problems)
    hits, n = [matched[name] for name in (arm, versus)], [audited[name] for name in (arm, versus)]
    rate = sum(hits) / sum(n)
    gap = hits[0] / n[0] - hits[1] / n[1]
    spread = math.sqrt(rate * (1 - rate) * (1 / n[0] + 1 / n[1]))
    limits = newcombe(hits[0], n[0], hits[1], n[1], alpha)
    return MatchRate(
        arm=arm,
        versus=versus,
        matched=sum(hits),
        audited=sum(n),
        rate=rate,
        low=wilson(sum(hits), sum(n), alpha)[0],
        high=wilson(sum(hits), sum(n), alpha)[1],
        level=1 - alpha,
        arms={
            name: (h / size, *wilson(h, size, alpha), size)
            for name, h, size in zip((arm, versus), hits, n, strict=True)
        },
        difference=gap,
        difference_low=limits[0],
        difference_high=limits[1],
        p=2 * float(special.ndtr(-abs(gap) / spread)) if spread > 0 else 1.0,
    )


def correct(observed: Effect, match: MatchRate, alpha: float = 0.05) -> Corrected:
    """The effect on all store purchases, from the effect on matched ones: divided by the match rate.

    What is not matched is not seen, so an effect shrinks by the match rate m.  Where m is the same in both arms and does
    not depend on what a customer spends, the whole effect is observed ÷ m; the interval carries the doubt of both (all
    effects δ for which observed − δ × m is not rejected, which is Fieller's interval, with the outcome's skew).

    Raises Refusal where the rates differ between the arms, or where too few purchases were audited: then dividing by
    one rate mistakes a difference in matching for an effect.  `bounds` still holds.

    References: Fieller 1954; Anderson and Rubin 1949.
    """
    _same_arms(observed, match)
    if match.matched < MIN_MATCHED or 0 < match.audited - match.matched < MIN_MATCHED:
        raise Refusal(
            f"{observed.metric}: of {number(match.audited, 'count')} audited purchases {number(match.matched, 'count')} "
            f"were matched; {MIN_MATCHED} matched and {MIN_MATCHED} not matched are needed to divide by the rate. Audit more."
        )
    worst_low, worst_high = bounds(observed, match, alpha)
    if match.p < alpha:
        gap = estimate(match.difference, match.difference_low, match.difference_high, "points")
        raise Refusal(
            f"{observed.metric}: store purchases of {match.arm} and {match.versus} are not matched alike ({gap}), so the "
            "effect cannot be corrected by one match rate; whatever the rates, it lies from "
            f"{interval(worst_low, worst_high, signed=True)}. Match by something that the offer does not change."
        )
    m, variance_m = match.rate, match.rate * (1 - match.rate) / match.audited
    value = observed.value / m
    se = math.sqrt(observed.se**2 + value**2 * variance_m) / m
    third = observed.skew * observed.se**3

    def tested(delta: float) -> tuple[float, float]:
        parts = [observed.se**2, delta**2 * variance_m]
        t, df = transformed(observed.value - delta * m, parts, [observed.df + 1, match.audited], third)
        return t, min(df, observed.df_limits)  # fewer where buyers are few

    low, high = inverted(tested, value, se, alpha)
    return Corrected(observed, value, low, high, 1 - alpha, worst_low, worst_high)


def bounds(observed: Effect, match: MatchRate, alpha: float = 0.05) -> tuple[float, float]:
    """The least and the largest effect on all store purchases that the data and the audit allow, whatever the two rates.

    Each arm's mean is divided by its own rate, at the worst corner of the two rates' intervals; half of `alpha` goes to
    the rates, half to the outcome, so that together they hold with at least 1 − alpha (Bonferroni).  It still takes
    that within an arm matching does not depend on what a customer spends.
    """
    _same_arms(observed, match)
    quantile = -float(special.stdtrit(observed.df_limits, alpha / 4))
    limits = []
    for name in (observed.arm, observed.versus):
        rate, _, _, n = match.arms[name]
        low, high = wilson(round(rate * n), n, alpha / 4)
        if low <= 0:
            raise Refusal(f"{observed.metric}: no audited purchase of {name} was matched, so nothing bounds the rest.")
        limits.append((low, high))
    found = []
    for one in limits[0]:
        for two in limits[1]:
            value = observed.mean_arm / one - observed.mean_versus / two
            half = quantile * math.hypot(observed.se_arm / one, observed.se_versus / two)
            found += [value - half, value + half]
    return min(found), max(found)


def _same_arms(observed: Effect, match: MatchRate) -> None:
    if (observed.arm, observed.versus) != (match.arm, match.versus):
        found = (
            f"the audit is of {match.arm} and {match.versus}, the effect of {observed.arm} against {observed.versus}"
        )
        raise InputError(Problem("match", found, "use the same arms in the same order"))
