"""Size a study's plan from the study's own past: how many customers, how many weeks, and what the holdout costs."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
from scipy import special

from fairlift.errors import InputError, Problem, Refusal, nearest
from fairlift.evidence import Evidence
from fairlift.format import number
from fairlift.method.kpi import Kpi
from fairlift.method.looks import boundaries
from fairlift.method.metric import Mean, Proportion, Ratio
from fairlift.method.power import (
    Duration,
    Gate,
    Joint,
    Spread,
    Together,
    adjusted,
    duration,
    joint_of,
    power_of,
    sample_size,
    share_spread,
    size_together,
    smallest,
    units_for_buyers,
)
from fairlift.method.sequence import multiple
from fairlift.risk.kpis import KPIS as RISK
from fairlift.sales.kpis import CONTRIBUTION
from fairlift.sales.kpis import KPIS as SALES
from fairlift.study.costs import DAYS_A_YEAR, cost_per_customer
from fairlift.study.folder import Study
from fairlift.study.past import Past, past
from fairlift.study.plan import Guardrail, Plan
from fairlift.study.settings import Settings

KNOWN: dict[str, Kpi] = {kpi.id: kpi for kpi in (*SALES, *RISK)}
PROFIT = "sales.incremental.profit"
FEW_CLUSTERS = 30  # below this a test of clusters draws them anew instead of counting customers
GATE_ALPHA = 0.05  # the launch gate asks for 95 % intervals whatever a plan states


@dataclass(frozen=True)
class Sized:
    """One gate, sized: what it stands at, what it must show, and what that takes.

    `level` is the mean, share or ratio of the past, `rho` its correlation with the window before.  `n` is what each arm
    needs for this gate alone, `n_adjusted` the same after adjusting for the window before; `planned` is the power alone at
    the planned sizes.  `stated` marks a level that the plan states and the past does not show.
    """

    gate: Gate
    role: str
    unit: str
    unit_of_effect: str
    level: float
    rho: float | None
    n: Mapping[str, int]
    n_adjusted: int | None
    planned: float
    stated: bool = False

    @property
    def note(self) -> str:
        """What must be said beside the level."""
        return " as stated" if self.stated else " of contribution" if self.role == "net profit" else ""


@dataclass(frozen=True)
class Money:
    """What the test costs if the gain is as small as the plan's smallest, in money.

    `gain` is contribution per customer over the window, `cost` what personalising that customer costs; `holdout_week` the
    contribution forgone on those who get nothing, `waiting_week` the net profit forgone while all wait.
    """

    gain: float
    cost: float
    holdout_week: float
    waiting_week: float

    @property
    def holdout_year(self) -> float:
        return self.holdout_week * DAYS_A_YEAR / 7


@dataclass(frozen=True)
class Sizing:
    """A plan sized from the past.

    `needed` has the sizes for the joint power, None where they cannot be had (`refusal` says why).  `planned` is the joint
    power at the plan's sizes.  `out` names gates left out, and why.  `reach` is the smallest effect on the primary metric
    that is shown with the plan's power: alone at the planned sizes, alone with every customer there is, and together with
    all gates with every customer (None where a guardrail alone forbids it).  `ratio` is how many times the size that the planned arms, in the proportion
    planned, would need for the joint power; 1 or more is enough.  `alpha` is that of the interval at the end; where the plan
    looks before, it is smaller than the plan's and `looks` says so.
    """

    power: float
    alpha: float
    primary: str
    mde: float | None
    unit: str
    currency: str
    gates: tuple[Sized, ...]
    out: Mapping[str, str]
    planned_n: Mapping[str, int]
    needed: Together | None
    planned: Joint | None
    refusal: str
    smallest_arm: int
    duration: Duration | None
    enrolled: str
    ends_at: date
    done_at: date | None
    money: Money | None
    reach: tuple[float | None, float | None, float | None]
    customers: int
    past: str
    curve: pd.DataFrame
    ratio: float | None
    looks: str = ""

    def __str__(self) -> str:
        lines = [f"Sized from {self.past}, {number(self.customers, 'count')} customers."]
        for one in self.gates:
            lines.append(f"  {one.gate.name}: {_told(one, self.currency)}")
        lines += [f"  {name}: left out: {why}" for name, why in self.out.items()]
        lines += [self.looks] if self.looks else []
        if self.refusal:
            lines.append(self.refusal)
        if self.planned is not None:
            lines.append(
                f"At the planned sizes each alone passes as above, all together in {number(self.planned.power, 'share')} "
                f"of cases ({number(self.planned.independent, 'share')} if they were independent)."
            )
        if self.needed is not None:
            lines.append(
                f"Needed for {number(self.power, 'share')} together: {_sizes(self.needed.n)}; planned: {_sizes(self.planned_n)}. "
                f"{self.needed.drives} needs most."
            )
            lines.append("The plan is large enough." if self.ratio >= 1 else "The plan is too small.")
        lines += [line for line in (*self.time(), *self.reachable(), *self.costs()) if line]
        return "\n".join(lines)

    def time(self) -> list[str]:
        """How long it takes, in sentences."""
        lines = [self.enrolled] if self.enrolled else []
        if self.duration is not None:
            lines.append(f"Enrolled as they next visit or buy: {self.duration}.")
        if self.done_at is not None and self.done_at > self.ends_at:
            lines.append(
                f"That ends on {self.done_at}, after the plan's {self.ends_at}: the results would not be complete."
            )
        return lines

    def reachable(self) -> list[str]:
        """The smallest effect that the customers there are can show, in sentences."""
        planned, everybody, together = (
            number(value, self.unit, self.currency) if value is not None else None for value in self.reach
        )
        lines = (
            [f"The smallest difference in {self.primary} shown alone: {planned} at the planned sizes."]
            if planned
            else []
        )
        if everybody:
            lines.append(
                f"With every customer there is: {everybody} alone, "
                + (
                    f"{together} with all gates."
                    if together
                    else "and never with all gates: a guardrail needs more customers."
                )
            )
        return lines

    def costs(self) -> list[str]:
        """What the holdout and waiting cost, in sentences."""
        if self.money is None:
            return []
        week, year, waiting, gain, cost = (
            number(value, unit, self.currency)
            for value, unit in (
                (self.money.holdout_week, "money_round"),
                (self.money.holdout_year, "money_round"),
                (self.money.waiting_week, "money_round"),
                (self.money.gain, "money"),
                (self.money.cost, "money"),
            )
        )
        return [
            f"If the gain is the smallest that matters, a customer brings {gain} more contribution in the window and costs {cost}.",
            f"The holdout then costs {week} of contribution a week ({year} a year); a week of waiting costs {waiting} of net profit.",
        ]


def size_plan(study: Study, seen: Past | None = None) -> Sizing:
    """Size a study's plan from its own past, before anybody is assigned or after.

    The primary metric must show the plan's `mde`; net profit must stay above the hurdle when the primary rises by just that
    (contribution is taken to rise by the same part as the primary metric); a guardrail must stay within its margin when
    nothing harms.  All must pass, so the size is solved for their joint power, with the correlations of the past.

    Raises InputError where there is no plan or a table cannot be read, Refusal where the study has no past.
    """
    plan = study.plan
    if plan is None:
        raise InputError(Problem("plan.yml", "there is no plan to size", "write plan.yml first"))
    seen = past(study) if seen is None else seen
    return _Sizer(study, seen).sizing()


def _at_the_end(plan: Plan, settings: Settings, alpha: float) -> float:
    """The alpha of the interval that is read at the end: what the looks before it have left.

    Looks are taken at the share of enrolment days whose windows are closed by then; that one of them may stop the test
    early is not counted, so sizes are never too small.
    """
    if plan.validity == "end":
        return alpha
    if plan.validity == "always":
        reach = multiple(1, 1, alpha)
    else:
        first = settings.period.start + timedelta(days=settings.outcome_window_days)
        last = max((plan.ends_at - first).days, 1)
        shares = [(day - first).days / last for day in plan.look_days]
        reach = boundaries([*(share for share in shares if share > 0), 1.0], alpha, plan.spending or "obrien_fleming")[
            -1
        ]
    return float(2 * special.ndtr(-reach))


def _price_of_looks(plan: Plan, alpha: float) -> str:
    if plan.validity == "end":
        return ""
    wider = special.ndtri(alpha / 2) / special.ndtri(min(plan.alpha, GATE_ALPHA) / 2)
    return f"Looks before the end are counted in: intervals at the end are {number(wider - 1, 'lift')} wider than with one look."


class _Sizer:
    """One plan against one past."""

    def __init__(self, study: Study, seen: Past):
        self.study, self.plan, self.settings, self.past = study, study.plan, study.settings, seen
        stated = min(self.plan.alpha, GATE_ALPHA)
        self.alpha = _at_the_end(self.plan, study.settings, stated)
        self.out: dict[str, str] = {}
        self.influence: dict[str, np.ndarray | None] = {}
        self.kpis: dict[str, Kpi] = {}
        self.known: dict[str, np.ndarray] = {}
        self.moments: dict[str, tuple[float, float]] = {}
        self.correlations: dict[tuple[str, ...], np.ndarray] = {}
        self.cost = self._cost()
        self.clusters = self._clusters()

    def sizing(self) -> Sizing:
        plan, mde = self.plan, self.plan.primary.mde
        kpi = self._primary_kpi()
        if mde is not None and isinstance(kpi.metric, Proportion) and not 0 < self._level(kpi) + mde < 1:
            found = f"`primary.mde` is {mde:g}, and the share stands at {number(self._level(kpi), 'share')}"
            raise InputError(Problem("plan.yml", found, "write points as a fraction: .01 is one point"))
        gates, refusal = self._gates(mde)
        needed = planned = None
        if mde is None:
            refusal = (
                f"No size can be computed: the plan states no smallest effect. To mend: write `mde:` under `primary`, in the "
                f"unit of {plan.primary.metric}."
            )
        elif not refusal:
            try:
                planned = joint_of(gates, self._correlation(gates), plan.planned_n, self.alpha)
                needed = size_together(
                    gates,
                    self._correlation(gates),
                    plan.weights,
                    power=plan.power,
                    alpha=self.alpha,
                    least=self._least(kpi),
                )
            except Refusal as none:
                refusal = str(none)
        lasts, enrolled, done = self._time(needed)
        return Sizing(
            power=plan.power,
            alpha=self.alpha,
            primary=self._name(plan.primary.metric),
            mde=mde,
            unit=kpi.unit_of_difference,
            currency=self.settings.currency,
            gates=tuple(self._sized(gate) for gate in gates),
            out=self.out,
            planned_n=plan.planned_n,
            needed=needed,
            planned=planned,
            refusal=refusal,
            smallest_arm=self._least(kpi),
            duration=lasts,
            enrolled=enrolled,
            ends_at=plan.ends_at,
            done_at=done,
            money=self._money(mde),
            reach=self._reach(kpi),
            customers=len(self.past.units),
            past=self.past.when,
            curve=self._curve(gates, needed),
            ratio=self._ratio(gates, kpi) if needed is not None else None,
            looks=_price_of_looks(plan, self.alpha),
        )

    # what is known of the past

    def _primary_kpi(self) -> Kpi:
        metric = self.plan.primary.metric
        kpi = KNOWN.get(CONTRIBUTION.id if metric == PROFIT else metric)
        if kpi is None:
            raise Refusal(
                f"The primary metric {metric} cannot be sized from the past: there is no definition of it here; "
                f"{nearest(metric, [*KNOWN, PROFIT])}"
            )
        if not self.past.has(*kpi.metric.outcomes):
            raise Refusal(
                f"{kpi.name} did not occur in {self.past.when}, so the plan cannot be sized: bring the tables that hold "
                f"{', '.join(kpi.metric.outcomes)}, back to that time."
            )
        if not np.ptp(self._influence_of(kpi)) > 0:
            raise Refusal(
                f"{kpi.name} is the same for everybody in {self.past.when}, so the plan cannot be sized by it."
            )
        return kpi

    def _name(self, metric: str) -> str:
        return "Net profit per customer" if metric == PROFIT else KNOWN[metric].name if metric in KNOWN else metric

    def _cost(self) -> float | None:
        """What personalising one customer costs over the window; exposures are those of the past, where there were any."""
        if self.past.costs is None:
            return None
        customers = self.settings.rollout_customers or self.past.customers
        fixed, exposure = cost_per_customer(self.past.costs, self.past.days, customers)
        if exposure and not self.past.has("exposures"):
            self.out["the cost of single exposures"] = "nothing was sent before the start, so it is not in the cost"
            return fixed
        return fixed + (exposure * float(self.past.units["exposures"].mean()) if exposure else 0.0)

    def _level(self, kpi: Kpi) -> float:
        units = self.past.units
        if isinstance(kpi.metric, Ratio):
            return float(units[kpi.metric.numerator].mean() / units[kpi.metric.denominator].mean())
        return float(units[kpi.metric.column].mean())

    def _influence_of(self, kpi: Kpi) -> np.ndarray:
        """What each customer adds to the estimate, around 0."""
        if kpi.id not in self.known:
            units = self.past.units
            if isinstance(kpi.metric, Ratio):
                bottom = units[kpi.metric.denominator].to_numpy(dtype=float)
                top = units[kpi.metric.numerator].to_numpy(dtype=float)
                self.known[kpi.id] = (top - self._level(kpi) * bottom) / bottom.mean()
            else:
                values = units[kpi.metric.column].to_numpy(dtype=float)
                self.known[kpi.id] = values - values.mean()
        return self.known[kpi.id]

    def _clusters(self) -> pd.Series | None:
        """The household or store of each customer, where the plan draws them whole; who has none is one alone."""
        assignment = self.plan.assignment
        if assignment is None or assignment.cluster is None:
            return None
        name = assignment.cluster.removesuffix("_id")
        if name not in self.past.units or self.past.units[name].isna().all():
            raise Refusal(
                f"The plan draws customers by {assignment.cluster}, and customers have none: bring that column."
            )
        codes = self.past.units[name].to_numpy(dtype=float)
        alone = np.isnan(codes)
        found = pd.Series(np.where(alone, codes[~alone].max() + 1 + np.cumsum(alone), codes))
        if found.nunique() < FEW_CLUSTERS:
            raise Refusal(
                f"The plan draws customers by {assignment.cluster}, and there are {found.nunique()}: with fewer than "
                f"{FEW_CLUSTERS} a size in customers says nothing, because the clusters are what is drawn. Draw smaller ones."
            )
        return found

    def _totals(self, influence: np.ndarray) -> np.ndarray:
        """What is drawn as a whole adds as a whole: customers, or their households or stores as they are."""
        if self.clusters is None:
            return influence
        return np.bincount(pd.factorize(self.clusters)[0], weights=influence)

    def _moments(self, kpi: Kpi) -> tuple[float, float]:
        """Variance and third moment that a customer adds."""
        if kpi.id not in self.moments:
            totals, size = self._totals(self._influence_of(kpi)), len(self.past.units) - 1
            self.moments[kpi.id] = float((totals**2).sum() / size), float((totals**3).sum() / size)
        return self.moments[kpi.id]

    def _rho(self, kpi: Kpi) -> float | None:
        """The correlation with the same outcome in the window before."""
        name = f"pre_{getattr(kpi.metric, 'column', '')}"
        if name == "pre_converted":
            name = "pre_orders"
        if not isinstance(kpi.metric, Mean | Proportion) or name not in self.past.units or not self.past.covered:
            return None
        before = self.past.units[name]
        return float(np.corrcoef(self.past.units[kpi.metric.column], before)[0, 1]) if before.nunique() > 1 else None

    def _lift(self, mde: float) -> float:
        """The primary's smallest effect as a part of its level."""
        kpi = self._primary_kpi()
        level = self._level(kpi)
        if self.plan.primary.metric == PROFIT:
            return (mde + (self.cost or 0.0)) / level if level > 0 else math.nan
        return mde / level if level > 0 else math.nan

    def _net(self, mde: float) -> float | None:
        """Net profit per customer when the primary metric rises by its smallest effect; None where it cannot be said."""
        if self.cost is None or not self.past.has("contribution"):
            return None
        if self._primary_kpi().better != "up":
            return None
        return self._lift(mde) * self._level(CONTRIBUTION) - self.cost

    # gates

    def _gates(self, mde: float | None) -> tuple[list[Gate], str]:
        """All gates that can be sized; and why the plan cannot, if so."""
        plan, gates, refusal = self.plan, [], ""
        if mde is not None:
            pair = plan.contrasts[plan.primary.contrast]
            if plan.primary.metric != PROFIT:
                kpi = self._primary_kpi()
                gates.append(self._gate(kpi, mde, pair, lift=self._lift(mde)))
            refusal = self._add_profit(gates, mde)
        for guard in plan.guardrails:
            gate = self._guard(guard, {other.name for other in gates})
            gates += [gate] if gate is not None else []
        return gates, refusal

    def _add_profit(self, gates: list[Gate], mde: float) -> str:
        plan = self.plan
        name = self._name(PROFIT)
        if self._net(mde) is None:
            why = (
                "study.yml states no `costs`"
                if self.cost is None
                else "the orders have no costs and study.yml no `margin`"
                if not self.past.has("contribution")
                else "what the primary metric adds to profit cannot be said"
            )
            self.out[name] = f"{why}; the launch gate will ask for it all the same"
            return ""
        above = self._net(mde) - self.settings.hurdle
        if above <= 0:
            least = (self.cost + self.settings.hurdle) / self._level(CONTRIBUTION) * self._level(self._primary_kpi())
            least = self.settings.hurdle if plan.primary.metric == PROFIT else least
            shown = [
                number(value, self._primary_kpi().unit_of_difference, self.settings.currency) for value in (mde, least)
            ]
            return (
                f"The smallest effect of the plan, {shown[0]}, does not pay: net profit would be "
                f"{number(self._net(mde), 'money', self.settings.currency, signed=True)} per customer against a hurdle of "
                f"{number(self.settings.hurdle, 'money', self.settings.currency)}, and no number of customers shows a profit that is "
                f"not there. To mend: state an `mde` well above {shown[1]}, or lower the costs."
            )
        pair = plan.contrasts[plan.profit_contrast]
        gates.append(self._gate(CONTRIBUTION, above, pair, lift=self._lift(mde), name=name))
        return ""

    def _gate(self, kpi: Kpi, effect: float, pair, lift: float = 0.0, name: str = "") -> Gate:
        """A gate of a known KPI; a mean that rises by a factor spreads by that factor too."""
        name = name or kpi.name
        self.kpis[name] = kpi
        self.influence[name] = self._influence_of(kpi)
        better = 1 if kpi.better == "up" else -1
        if isinstance(kpi.metric, Proportion):
            level = self._level(kpi)
            risen = min(max(level + better * effect, 1e-9), 1 - 1e-9) if lift else level
            inflate = self._moments(kpi)[0] / (level * (1 - level)) if self.clusters is not None else 1.0
            spread = share_spread(risen, level)
            spread = replace(spread, arm=spread.arm * inflate, versus=spread.versus * inflate)
        else:
            variance, third = self._moments(kpi)
            rises = 1 + lift if isinstance(kpi.metric, Mean) and better == 1 and lift > 0 else 1.0
            third *= better if isinstance(kpi.metric, Mean) else 0  # ratios are not read with Hall's interval
            spread = Spread(variance * rises**2, variance, third=third * rises**3, third_versus=third)
        return Gate(name, effect, spread, pair.arm, pair.versus, better)

    def _guard(self, guard: Guardrail, taken: Collection[str]) -> Gate | None:
        """The gate of a guardrail, named apart where its metric is judged twice; None where the past is silent."""
        kpi, pair = KNOWN.get(guard.metric), self.plan.contrasts[guard.contrast]
        if kpi is None:
            hint = nearest(guard.metric, [*KNOWN])
            hint = f"; {hint}" if hint.startswith("did") else ""
            self.out[guard.metric] = f"there is no definition of it here to size it by{hint}"
            return None
        if isinstance(kpi.metric, Proportion) and guard.margin >= 1:
            found = f"the `margin` of {guard.metric} is {guard.margin:g}, and no share can change by that much"
            raise InputError(Problem("plan.yml", found, "write points as a fraction: .01 is one point"))
        name = f"{kpi.name}, {pair.arm} against {pair.versus}" if kpi.name in taken else kpi.name
        if self.past.has(*kpi.metric.outcomes) and np.ptp(self._influence_of(kpi)) > 0:
            return self._gate(kpi, guard.margin, pair, name=name)
        if guard.rate is not None and isinstance(kpi.metric, Proportion):
            self.kpis[name], self.influence[name] = kpi, None
            return Gate(name, guard.margin, share_spread(guard.rate, guard.rate), pair.arm, pair.versus, -1)
        mend = "state a `rate` beside its margin" if isinstance(kpi.metric, Proportion) else "bring its table"
        self.out[kpi.name] = f"no data before the start; {mend} to have it sized"
        return None

    def _correlation(self, gates: Sequence[Gate]) -> np.ndarray:
        """How the gates' outcomes go together within one customer; a stated rate goes with nothing."""
        names = tuple(gate.name for gate in gates)
        if names not in self.correlations:
            found = np.eye(len(gates))
            places = [place for place, name in enumerate(names) if self.influence[name] is not None]
            if len(places) > 1:
                totals = [self._totals(self.influence[names[place]]) for place in places]
                found[np.ix_(places, places)] = np.corrcoef(totals)
            self.correlations[names] = found
        return self.correlations[names]

    def _least(self, kpi: Kpi) -> int:
        """The smallest arm in which enough customers have something other than 0 for a mean to be read."""
        columns = [kpi.metric.column] if isinstance(kpi.metric, Mean) else []
        columns += ["contribution"] if self.cost is not None and self.past.has("contribution") else []
        rates = [float((self.past.units[name] != 0).mean()) for name in columns]
        return units_for_buyers(min(rates)) if rates else 2

    def _sized(self, gate: Gate) -> Sized:
        plan, kpi = self.plan, self.kpis[gate.name]
        weight, other = plan.weights[gate.arm], plan.weights[gate.versus]
        rule = {"power": plan.power, "share": weight / (weight + other), "alpha": self.alpha}
        size = sample_size(gate.effect, gate.spread, **rule)
        rho = self._rho(kpi) if self.influence[gate.name] is not None else None
        sharp = sample_size(gate.effect, adjusted(gate.spread, rho), **rule).total if rho else None
        role = (
            "primary"
            if kpi.id == plan.primary.metric
            else "net profit"
            if gate.name == self._name(PROFIT)
            else "guardrail"
        )
        stated = self.influence[gate.name] is None
        level = next(g.rate for g in plan.guardrails if g.metric == kpi.id) if stated else self._level(kpi)
        n, versus = plan.planned_n[gate.arm], plan.planned_n[gate.versus]
        return Sized(
            gate=gate,
            role=role,
            unit=kpi.unit,
            unit_of_effect=kpi.unit_of_difference,
            level=level,
            rho=rho,
            n={gate.arm: size.n_arm, gate.versus: size.n_versus},
            n_adjusted=sharp,
            planned=power_of(gate.effect, gate.spread, n, versus, alpha=self.alpha),
            stated=stated,
        )

    # time and money

    def _time(self, needed: Together | None) -> tuple[Duration | None, str, date | None]:
        """Weeks when customers are enrolled as they come, the sentence on the customer list, and the day all is done."""
        if needed is None:
            return None, "", None
        window, period = self.past.days, self.settings.period
        last = min(period.end, self.plan.ends_at - timedelta(days=window))
        weeks = max(1, math.ceil(((last - period.start).days + 1) / 7))
        total, there = needed.total, len(self.past.units)
        span = f"{number(weeks, 'count')} {'week' if weeks == 1 else 'weeks'} of enrolment"
        if total > there:
            few = f"{number(total, 'count')} customers are needed and there are {number(there, 'count')}"
            return (
                None,
                f"It cannot be done: {few}. Plan for a larger effect or wider margins, or split the arms evenly.",
                None,
            )
        whole = weeks + math.ceil(window / 7)
        listed = (
            f"Drawn from the customer list, as the plan's dates have it: {number(whole, 'weeks')} with {span}, "
            f"{number(total, 'count')} of {number(there, 'count')} customers."
        )
        done = period.start + timedelta(days=7 * weeks + window - 1)
        if not any(self.past.arrivals):
            return None, listed, done
        try:
            lasts = duration(total, self.past.arrivals, there, window)
        except Refusal as never:
            return None, f"{listed} Enrolled as they next visit or buy: {never}", done
        return lasts, listed, done

    def _money(self, mde: float | None) -> Money | None:
        if mde is None or self._net(mde) is None or not self._net(mde) > 0:
            return None
        gain = self._net(mde) + self.cost
        customers = self.settings.rollout_customers or self.past.customers
        weeks = self.past.days / 7
        plan = self.plan
        idle = [arm for arm in plan.weights if arm.startswith("holdout")] or [
            plan.contrasts[plan.profit_contrast].versus
        ]
        share = sum(plan.weights[arm] for arm in idle) / sum(plan.weights.values())
        return Money(gain, self.cost, share * customers * gain / weeks, customers * self._net(mde) / weeks)

    # the reverse

    def _reach(self, kpi: Kpi) -> tuple[float | None, float | None, float | None]:
        plan = self.plan
        if plan.primary.metric == PROFIT:
            return None, None, None
        shares = {arm: weight / sum(plan.weights.values()) for arm, weight in plan.weights.items()}
        everybody = {arm: len(self.past.units) * share for arm, share in shares.items()}
        pair = plan.contrasts[plan.primary.contrast]

        def alone(n: Mapping[str, float]) -> float | None:
            if min(n[pair.arm], n[pair.versus]) < max(2, self._least(kpi)):
                return None
            level = self._level(kpi)

            def rise(effect: float) -> float:
                gate = self._gate(kpi, effect, pair, lift=effect / level)
                return power_of(gate.effect, gate.spread, n[pair.arm], n[pair.versus], alpha=self.alpha)

            return smallest(rise, plan.power, level)

        def together(effect: float) -> float:
            gates, refusal = self._gates(effect)
            return 0.0 if refusal else joint_of(gates, self._correlation(gates), everybody, self.alpha).power

        kept = dict(self.out)
        found = alone(plan.planned_n), alone(everybody)
        both = smallest(together, plan.power, self._level(kpi)) if found[1] is not None else None
        self.out = kept
        return (*found, both)

    def _ratio(self, gates: Sequence[Gate], kpi: Kpi) -> float:
        plan = self.plan
        rule = {"power": plan.power, "alpha": self.alpha, "least": self._least(kpi)}
        wanted = size_together(gates, self._correlation(gates), plan.planned_n, **rule)
        return sum(plan.planned_n.values()) / wanted.total

    def _curve(self, gates: Sequence[Gate], needed: Together | None) -> pd.DataFrame:
        """The power of each gate and of all together at sizes around the needed and the planned one."""
        if needed is None:
            return pd.DataFrame()
        plan, total = self.plan, sum(self.plan.weights.values())
        top = 1.5 * max(needed.total, sum(plan.planned_n.values()))
        rows = {}
        for size in np.linspace(top / 40, top, 40).round():
            n = {arm: size * weight / total for arm, weight in plan.weights.items()}
            joint = joint_of(gates, self._correlation(gates), n, self.alpha)
            rows[int(size)] = joint.each | {"all together": joint.power}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("customers")


def planned_evidence(sizing: Sizing) -> list[Evidence]:
    """How many times the size needed the plan plans; no row where no size could be computed."""
    if sizing.ratio is None:
        return []
    left = f" Left out: {', '.join(sizing.out)}." if sizing.out else ""
    return [
        Evidence(
            id="method.power.planned",
            requirement="method.power",
            kind="exact",
            design="descriptive",
            unit="times",
            better="up",
            value=sizing.ratio,
            n=sizing.customers,
            threshold=1.0,
            threshold_from="checklist",
            family="validity",
            tables=("orders",),
            statement=(
                f"The plan has {_sizes(sizing.planned_n)}; for a joint power of {number(sizing.power, 'share')} it needs "
                f"{_sizes(sizing.needed.n)}. At the planned sizes all gates pass together in "
                f"{number(sizing.planned.power, 'share')} of cases.{left}"
            ),
        )
    ]


def _told(one: Sized, currency: str) -> str:
    level = number(one.level, one.unit, currency) + one.note
    verb = "must stay within" if one.role == "guardrail" else "must show"
    effect = number(one.gate.effect, one.unit_of_effect, currency)
    sharp = f" ({number(one.n_adjusted, 'count')} in both if adjusted for the window before)" if one.n_adjusted else ""
    return (
        f"at {level}, {verb} {effect}; alone it needs {_sizes(one.n)}{sharp}; "
        f"power {number(one.planned, 'share')} at the planned sizes"
    )


def _sizes(n: Mapping[str, int]) -> str:
    return ", ".join(f"{arm} {number(count, 'count')}" for arm, count in n.items())
