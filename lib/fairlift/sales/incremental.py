"""Incremental revenue, profit and return on investment: the difference that personalisation makes, net of all its costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from fairlift.errors import Refusal
from fairlift.evidence import Evidence
from fairlift.format import estimate, number
from fairlift.method.effect import Effect, effect, lift
from fairlift.method.interval import fieller
from fairlift.method.kpi import as_planned, kpi_evidence, measured, read_kpis
from fairlift.method.metric import Mean
from fairlift.method.moments import Sample, moments
from fairlift.method.ramp import within_stages
from fairlift.sales.kpis import KPIS, REVENUE
from fairlift.study import Study
from fairlift.study.costs import cost_per_customer

SOLD = ("assignments", "orders")


@dataclass(frozen=True)
class Profit:
    """Incremental profit per assigned customer over the window, in money, net of all costs of personalisation.

    `effect` is contribution after the costs of single exposures, arm minus versus; `fixed` is the cost that does not depend
    on what a customer does.  A fixed cost moves the estimate and its limits alike and adds no variance.  `cost` is the whole
    cost per personalised customer, `roi` profit over cost with its limits; None where nothing is spent.
    """

    effect: Effect
    fixed: float
    cost: float
    roi: tuple[float, float, float] | None = None

    @property
    def value(self) -> float:
        return self.effect.value - self.fixed

    @property
    def low(self) -> float:
        return self.effect.low - self.fixed

    @property
    def high(self) -> float:
        return self.effect.high - self.fixed


def incremental_profit(
    units: pd.DataFrame,
    arm: str,
    versus: str,
    fixed: float,
    per_exposure: float = 0.0,
    alpha: float = 0.05,
    entry: str | None = None,
) -> Profit:
    """Contribution of `arm` minus `versus` per assigned customer, less the costs of personalising the customers of `arm`.

    `units` needs `contribution`, and `personalised_exposures` where one exposure costs something.  `arm` bears the costs,
    `versus` is not personalised and bears none.  `entry` names the column of the cells within which the arms are compared,
    where their shares changed.
    """
    frame = units[["arm", entry] if entry else ["arm"]].assign(net=units["contribution"], exposure=0.0)
    if per_exposure:
        frame["exposure"] = per_exposure * units["personalised_exposures"].where(units["arm"] == arm, 0)
        frame["net"] -= frame["exposure"]
    net = Mean("net", covariates=("exposure",))
    found = moments(frame, [net], arm="arm", day=entry)
    seen = effect(found, net, arm, versus, alpha=alpha, by=("day",) if entry else ())
    everyone, treated = found.by(seen.by), found.by(seen.by, arm)
    shares = everyone.n / everyone.n.sum()
    cost = fixed + float((shares * treated.mean("exposure")).sum())
    return Profit(seen, fixed, cost, _roi(seen, fixed, cost, treated, shares) if cost > 0 else None)


def _roi(
    seen: Effect, fixed: float, cost: float, treated: Sample, shares: np.ndarray
) -> tuple[float, float, float] | None:
    """Profit over cost: a plain division while the cost is fixed, Fieller's interval where it depends on the exposures."""
    profit = seen.value - fixed
    se_cost = float((shares**2 * treated.var("exposure") / treated.n).sum()) ** 0.5
    if se_cost == 0:
        return profit / cost, (seen.low - fixed) / cost, (seen.high - fixed) / cost
    covariance = float((shares**2 * treated.cov("net", "exposure") / treated.n).sum())
    limits = fieller(profit, cost, seen.se, se_cost, covariance, stats.t.isf((1 - seen.level) / 2, seen.df))
    return (profit / cost, *limits) if limits else None


def incremental_evidence(study: Study) -> list[Evidence]:
    """Every sales KPI by arm and contrast, incremental profit and ROI where costs are known, and revenue adjusted for the past."""
    settings, alpha = study.settings, study.plan.alpha if study.plan else 0.05
    units, entry = within_stages(study.units, study.stages)
    readings = read_kpis(units, KPIS, study.contrasts, alpha, entry, study.looks)
    rows = kpi_evidence(readings, study.targets, settings.outcome_window_days, settings.currency, SOLD)
    rows += adjusted_evidence(study, alpha)
    if "contribution" in study.units and study.costs is not None:
        for arm, versus in study.contrasts:
            if arm.startswith("personalised") and not versus.startswith("personalised"):
                rows += profit_evidence(study, arm, versus, alpha)
    return rows


def profit_evidence(study: Study, arm: str, versus: str, alpha: float) -> list[Evidence]:
    """Incremental profit against the hurdle, and the return on what personalisation cost."""
    settings = study.settings
    customers = settings.rollout_customers or study.mart["customers"]
    fixed, per_exposure = cost_per_customer(study.costs, settings.outcome_window_days, customers)
    common = _common(study, arm, versus, "sales.profit", ("assignments", "orders", "costs"))
    gate = (
        {"threshold": settings.hurdle, "threshold_from": "study.yml", "family": "primary"}
        if _profit_pair(study, arm, versus)
        else {}
    )
    units, entry = within_stages(study.units, study.stages)
    try:
        profit = incremental_profit(units, arm, versus, fixed, per_exposure, alpha, entry)
        profit = replace(profit, effect=as_planned(profit.effect, study.looks.get((arm, versus))))
    except Refusal as refusal:
        return [
            Evidence(
                id="sales.incremental.profit",
                statement=f"Net profit per customer: {refusal}",
                unit="money",
                **gate,
                **common,
            )
        ]
    seen = estimate(profit.value, profit.low, profit.high, "money", settings.currency)
    size = {"level": 1 - alpha, "n": profit.effect.n_arm + profit.effect.n_versus}
    rows = [
        Evidence(
            id="sales.incremental.profit",
            statement=f"Net profit per customer, {arm} against {versus}: {seen} after costs of {number(profit.cost, 'money', settings.currency)}.",
            unit="money",
            value=profit.value,
            low=profit.low,
            high=profit.high,
            se=profit.effect.se,
            validity=measured(profit.effect)["validity"],
            **size,
            **gate,
            **common,
        )
    ]
    if profit.roi:
        value, low, high = profit.roi
        shown = estimate(value, low, high, "lift")
        statement = f"Return on the money spent on personalisation, {arm} against {versus}: {shown}."
        common = common | {"requirement": "sales.roi"} | size
        rows.append(
            Evidence(id="sales.roi.ratio", statement=statement, unit="lift", value=value, low=low, high=high, **common)
        )
    return rows


def adjusted_evidence(study: Study, alpha: float) -> list[Evidence]:
    """Beside the plain reading of revenue: its relative lift (Fieller 1954), adjusted for earlier spend (Lin 2013), and capped.

    The cap is the plan's, fixed beforehand; a customer's revenue above it counts as the cap.
    """
    settings, rows = study.settings, []
    units, entry = within_stages(study.units, study.stages)
    by = ("day",) if entry else ()
    covariates = tuple(name for name in ("pre_revenue",) if name in units)
    metric, capped = Mean(REVENUE.metric.column, covariates), Mean("capped")
    cap = study.plan.cap if study.plan else None
    frame = units if cap is None else units.assign(capped=units["revenue"].clip(upper=cap))
    found = moments(frame, [metric] if cap is None else [metric, capped], arm="arm", day=entry)
    for arm, versus in study.contrasts:
        common = _common(study, arm, versus, "sales.incremental", SOLD)
        try:
            plain = effect(found, metric, arm, versus, alpha=alpha, by=by)
            rows += _lift_row(plain, alpha, common)
            if covariates:
                sharp = effect(found, metric, arm, versus, alpha=alpha, adjust="lin", interval="welch", by=by)
                sharp = as_planned(sharp, study.looks.get((arm, versus)))
                rows.append(_beside("adjusted", "adjusted for earlier spend", sharp, settings.currency, common))
            if cap is not None:
                low = effect(found, capped, arm, versus, alpha=alpha, by=by)
                low = as_planned(low, study.looks.get((arm, versus)))
                said = f"capped at {number(cap, 'money', settings.currency)}"
                rows.append(_beside("capped", said, low, settings.currency, common))
        except Refusal:  # the plain reading already says why
            continue
    return rows


def _beside(name: str, said: str, seen: Effect, currency: str, common: dict) -> Evidence:
    shown = estimate(seen.value, seen.low, seen.high, "money", currency)
    return Evidence(
        id=f"sales.incremental.revenue_{name}",
        statement=f"Revenue per customer {said}, {seen.arm} against {seen.versus}: difference {shown}.",
        unit="money",
        **measured(seen),
        **common,
    )


def _lift_row(seen: Effect, alpha: float, common: dict) -> list[Evidence]:
    base = {"id": "sales.incremental.lift", "unit": "lift", **common}
    try:
        relative = lift(seen, alpha=alpha)
    except Refusal as refusal:
        return [Evidence(statement=f"Relative lift of revenue: {refusal}", **base)]
    shown = estimate(relative.value, relative.low, relative.high, "lift")
    statement = f"Relative lift of revenue per customer, {seen.arm} against {seen.versus}: {shown}."
    size = {"value": relative.value, "low": relative.low, "high": relative.high, "level": 1 - alpha}
    return [Evidence(statement=statement, n=seen.n_arm + seen.n_versus, **size, **base)]


def _common(study: Study, arm: str, versus: str, requirement: str, tables: Sequence[str]) -> dict:
    return {
        "kind": "interval",
        "design": "randomised",
        "arm": arm,
        "versus": versus,
        "requirement": requirement,
        "better": "up",
        "tables": tuple(tables),
        "window_start": "day 0",
        "window_end": f"day {study.settings.outcome_window_days}",
        "planned_n": _planned(study, arm, versus),
    }


def _planned(study: Study, arm: str, versus: str) -> int | None:
    targets = study.targets
    return next((t.planned_n for (_, a, v), t in targets.items() if (a, v) == (arm, versus)), None)


def _profit_pair(study: Study, arm: str, versus: str) -> bool:
    if not study.plan:
        return True
    pair = study.plan.contrasts[study.plan.profit_contrast]
    return (pair.arm, pair.versus) == (arm, versus)
