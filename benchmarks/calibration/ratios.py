"""Ratios: totals over totals, such as orders per session; the customer was drawn, so the customer is counted."""

from __future__ import annotations

import numpy as np
from benchmarks.calibration import Case
from benchmarks.calibration.means import NEW, OLD, dense, limits, runs
from scipy import stats

from fairlift.method import Ratio, effect
from fairlift.method.calibration import Row, scored

CONVERSION = Ratio("orders", "sessions")
VALUE = Ratio("revenue", "orders")


def conversion(reps: int, seed: int) -> list[Row]:
    """Customers differ in how readily they order, so the sessions of one are alike; no effect."""
    draws = np.random.default_rng(seed)
    cells, totals = [], {}
    for arm, n in ((OLD, 200), (NEW, 400)):
        sessions = 1 + draws.poisson(6, (reps, n))
        orders = draws.binomial(sessions, draws.beta(0.8, 3.2, (reps, n)))
        cells.append((arm, dense({"orders": orders.astype(float), "sessions": sessions.astype(float)})))
        totals[arm] = orders.sum(axis=1), sessions.sum(axis=1)
    found = runs([CONVERSION], cells)
    case = "orders per session, 400 against 200 customers"
    rates = {arm: orders / sessions for arm, (orders, sessions) in totals.items()}
    spread = np.sqrt(sum(rates[arm] * (1 - rates[arm]) / totals[arm][1] for arm in totals))
    gap, half = rates[NEW] - rates[OLD], stats.norm.isf(0.025) * spread
    return [
        scored("delta method over customers", case, "closed", *limits(found, _delta(CONVERSION)), 0.0),
        scored("z-test over sessions", case, "closed", gap - half, gap + half, 0.0, naive=True),
    ]


def order_value(reps: int, seed: int) -> list[Row]:
    """Revenue per order rises by a tenth; customers who order often have smaller orders."""
    draws = np.random.default_rng(seed)
    cells, each = [], {}
    for arm, n, rise in ((OLD, 300, 1.0), (NEW, 600, 1.1)):
        taste = draws.gamma(2.0, 0.5, (reps, n))
        orders = draws.poisson(2 * taste).astype(float)
        revenue = orders * rise * 40 / (1 + taste) * draws.gamma(20, 1 / 20, (reps, n))
        cells.append((arm, dense({"orders": orders, "revenue": revenue})))
        buyers, own = (orders > 0).sum(axis=1), np.divide(revenue, orders, out=np.zeros_like(revenue), where=orders > 0)
        mean = own.sum(axis=1) / buyers
        each[arm] = mean, ((own**2).sum(axis=1) - buyers * mean**2) / (buyers - 1) / buyers
    found = runs([VALUE], cells)
    # of Poisson orders with mean 2t at taste t: E[2t · 40 / (1 + t)] / E[2t], by quadrature over the gamma
    taste = stats.gamma(2.0, scale=0.5)
    truth = 0.1 * taste.expect(lambda t: 2 * t * 40 / (1 + t)) / taste.expect(lambda t: 2 * t)
    case = "money per order up by a tenth, 600 against 300 customers"
    gap = each[NEW][0] - each[OLD][0]
    half = stats.norm.isf(0.025) * np.sqrt(each[NEW][1] + each[OLD][1])
    return [
        scored("delta method over customers", case, "closed", *limits(found, _delta(VALUE)), truth),
        scored(
            "mean over buyers of their own average order", case, "closed", gap - half, gap + half, truth, naive=True
        ),
    ]


def _delta(metric: Ratio):
    return lambda run: effect(run, metric, NEW, OLD)


CASES = (Case("conversion", 10_000, conversion), Case("order value", 10_000, order_value))
