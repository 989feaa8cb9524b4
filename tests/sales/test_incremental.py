import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fairlift.evidence import Evidence
from fairlift.method.kpi import kpi_evidence, read_kpis
from fairlift.sales.incremental import incremental_evidence, incremental_profit
from fairlift.sales.kpis import KPIS
from fairlift.simulate import simulate
from fairlift.study import Plan, Settings, Standing, Study, open_study, prepare
from fairlift.study.costs import cost_per_customer
from fairlift.study.outcomes import outcomes
from fairlift.study.settings import Cost

ROOT = Path(__file__).resolve().parents[2]


def retailer(n=20_000, effect=0.1, seed=1):
    random = np.random.default_rng(seed)
    arm = random.choice(["personalised", "control", "holdout"], n, p=[0.6, 0.2, 0.2])
    orders = random.poisson(1 + effect * (arm == "personalised"))
    revenue = orders * random.lognormal(3, 0.6, n)
    return pd.DataFrame(
        {
            "unit": range(n),
            "arm": arm,
            "complete": True,
            "orders": orders,
            "converted": (orders > 0).astype(int),
            "revenue": revenue,
            "contribution": 0.3 * revenue,
            "refund": 0.05 * revenue,
            "sessions": orders + random.poisson(3, n),
            "personalised_exposures": np.where(arm == "personalised", random.poisson(4, n), 0),
            "pre_revenue": revenue * 0.5 + random.gamma(1, 10, n),
        }
    )


SETTINGS = {
    "retailer": "Shop",
    "markets": ["EU"],
    "experiment": "launch",
    "arms": {"personalised": ["model"], "control": ["best"], "holdout": ["none"]},
    "period": {"start": "2026-01-05", "end": "2026-03-01"},
    "outcome_window_days": 73,
}
PLAN = {
    "experiment": "launch",
    "hypothesis": "More revenue.",
    "contrasts": {
        "launch": {"arm": "personalised", "versus": "holdout"},
        "model": {"arm": "personalised", "versus": "control"},
    },
    "primary": {"metric": "sales.incremental.revenue", "contrast": "launch"},
    "profit_contrast": "launch",
    "guardrails": [{"metric": "sales.returns.rate", "contrast": "launch", "margin": 0.01}],
    "weights": {"personalised": 6, "control": 2, "holdout": 2},
    "planned_n": {"personalised": 11_000, "control": 3_500, "holdout": 3_500},
    "ends_at": "2026-03-01",
    "decision_rule": "Both must rise.",
}


def study(units, plan=PLAN, **settings):
    return Study.in_memory(
        Settings.model_validate(SETTINGS | settings),
        Plan.model_validate(plan) if plan else None,
        units,
        Standing("registered", ""),
    )


def found(rows, metric, arm="personalised", versus="holdout") -> Evidence:
    (row,) = [row for row in rows if (row.id, row.arm, row.versus) == (metric, arm, versus)]
    return row


def test_levels_and_differences_are_those_of_pandas():
    units = retailer()
    rows = kpi_evidence(read_kpis(units, KPIS, [("personalised", "holdout")]), {}, 73, "EUR")
    means = units.groupby("arm")[["revenue", "contribution", "converted", "orders"]].mean()
    totals = units.groupby("arm")[["revenue", "orders", "sessions", "refund"]].sum()
    expected = {
        "sales.incremental.revenue": means["revenue"],
        "sales.incremental.contribution": means["contribution"],
        "sales.conversion.rate": means["converted"],
        "sales.frequency.orders": means["orders"],
        "sales.value.order": totals["revenue"] / totals["orders"],
        "sales.value.visit": totals["revenue"] / totals["sessions"],
        "sales.returns.rate": totals["refund"] / totals["revenue"],
    }
    for metric, by_arm in expected.items():
        for arm in ("personalised", "holdout"):
            assert found(rows, metric, arm, "").value == pytest.approx(by_arm[arm], rel=1e-12)
        assert found(rows, metric).value == pytest.approx(by_arm["personalised"] - by_arm["holdout"], abs=1e-10)


def test_costs_per_customer_by_hand():
    lines = [
        Cost(line="licence", kind="licences", amount=100_000),
        Cost(line="set-up", kind="one_off", amount=60_000, per="once", years=3),
        Cost(line="hosting", kind="compute", amount=0.5, per="customer_year"),
        Cost(line="sending", kind="marketing", amount=0.01, per="exposure"),
    ]
    fixed, exposure = cost_per_customer(lines, window_days=73, customers=50_000)
    assert fixed == pytest.approx(0.2 * (100_000 / 50_000 + 20_000 / 50_000 + 0.5))
    assert exposure == 0.01


def test_profit_takes_costs_off_the_personalised_arm_only_and_adds_no_doubt_for_fixed_ones():
    units = retailer()
    plain = incremental_profit(units, "personalised", "holdout", fixed=0)
    charged = incremental_profit(units, "personalised", "holdout", fixed=0.4)
    assert charged.value == pytest.approx(plain.value - 0.4)
    assert charged.high - charged.low == pytest.approx(plain.high - plain.low)
    per_exposure = incremental_profit(units, "personalised", "holdout", fixed=0.4, per_exposure=0.02)
    exposures = units.loc[units.arm == "personalised", "personalised_exposures"].mean()
    assert per_exposure.value == pytest.approx(charged.value - 0.02 * exposures)
    assert per_exposure.cost == pytest.approx(0.4 + 0.02 * exposures)


COSTS = [{"line": "licence", "kind": "licences", "amount": 20_000}]


def test_evidence_carries_the_plan():
    rows = incremental_evidence(study(retailer(), costs=COSTS, rollout_customers=20_000))
    primary = found(rows, "sales.incremental.revenue")
    assert (primary.threshold, primary.threshold_from, primary.planned_n, primary.family) == (
        0,
        "plan.yml",
        14_500,
        "primary",
    )
    guard = found(rows, "sales.returns.rate")
    assert (guard.threshold, guard.hard_limit, guard.verdict) == (0.01, 0.02, "pass")
    profit = found(rows, "sales.incremental.profit")
    assert profit.value == pytest.approx(found(rows, "sales.incremental.contribution").value - 0.2)
    assert found(rows, "sales.roi.ratio").value == pytest.approx(profit.value / 0.2)
    assert found(rows, "sales.incremental.profit", "personalised", "control").threshold is None
    adjusted = found(rows, "sales.incremental.revenue_adjusted")
    assert adjusted.se < 0.9 * primary.se  # earlier spend explains much of the spend in this retailer


def test_return_on_exposure_costs_takes_their_doubt_into_account():
    units = retailer()
    costs = [*COSTS, {"line": "sending", "kind": "marketing", "amount": 0.02, "per": "exposure"}]
    roi = found(incremental_evidence(study(units, costs=costs, rollout_customers=20_000)), "sales.roi.ratio")
    treated = units[units.arm == "personalised"]
    cost = 0.2 + 0.02 * treated.personalised_exposures.mean()
    gain = treated.contribution.mean() - units.loc[units.arm == "holdout", "contribution"].mean()
    assert roi.value == pytest.approx(gain / cost - 1)
    assert roi.low < roi.value < roi.high


def test_without_costs_or_contribution_profit_is_not_invented():
    for given in (study(retailer()), study(retailer().drop(columns="contribution"), costs=COSTS)):
        assert not [row for row in incremental_evidence(given) if "profit" in row.id or "roi" in row.id]


def test_too_few_buyers_are_refused_in_words():
    units = retailer(300, effect=0)
    units.loc[units.index[30:], ["orders", "revenue", "contribution", "converted", "refund"]] = 0
    rows = incremental_evidence(study(units, costs=COSTS))
    row = found(rows, "sales.incremental.revenue")
    assert row.value is None and row.verdict == "inconclusive" and "100 are needed" in row.statement
    assert found(rows, "sales.incremental.profit").verdict == "inconclusive"


def test_without_a_plan_everything_is_only_reported():
    rows = incremental_evidence(study(retailer(), plan=None))
    assert {(row.arm, row.versus) for row in rows if row.versus} == {
        ("personalised", "holdout"),
        ("personalised", "control"),
    }
    assert {row.verdict for row in rows} == {"reported"}


def test_the_capped_reading_stands_beside_the_plain_one():
    units = retailer()
    units.loc[units.index[0], ["arm", "revenue"]] = ["personalised", 1e6]  # one customer with more than all others
    rows = incremental_evidence(study(units, plan=PLAN | {"cap": 200}))
    clipped = units.assign(revenue=units.revenue.clip(upper=200)).groupby("arm").revenue.mean()
    capped, plain = found(rows, "sales.incremental.revenue_capped"), found(rows, "sales.incremental.revenue")
    assert capped.value == pytest.approx(clipped["personalised"] - clipped["holdout"])
    assert capped.low > 0 and plain.value > 10 * capped.value
    assert not [row for row in incremental_evidence(study(units)) if "capped" in row.id]


def test_net_profit_covers_the_truth_tail_by_tail():
    misses = np.zeros(2)
    for seed in range(400):
        units = retailer(4_000, effect=0.1, seed=seed)[["arm", "contribution"]]
        profit = incremental_profit(units, "personalised", "holdout", fixed=0.2)
        truth = 0.3 * 0.1 * np.exp(3 + 0.6**2 / 2) - 0.2
        misses += [profit.low > truth, profit.high < truth]
    for tail in misses:  # 2.5 % nominal; a tail outside these bounds has p < .001
        assert stats.binom.ppf(0.0005, 400, 0.025) <= tail <= stats.binom.ppf(0.9995, 400, 0.025)


def test_every_kpi_reads_outcomes_of_the_mart():
    known = set(outcomes()["outcome"])
    for kpi in KPIS:
        assert set(kpi.metric.outcomes) <= known, kpi.id


@pytest.mark.parametrize("name", ["study/data", "method/ab_test", "sales/incremental"])
def test_a_notebook_has_nothing_to_say_while_no_window_is_complete(name, tmp_path, capsys):
    simulate(tmp_path / "early", "clean-win", 1, 1000)
    settings = tmp_path / "early" / "study.yml"
    text = re.sub(r"outcome_window_days: \d+", "outcome_window_days: 700", settings.read_text(encoding="utf-8"))
    settings.write_text(text, encoding="utf-8")
    prepare(open_study(tmp_path / "early"))
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    first, *cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert first.startswith("study = ")
    names = {"study": str(tmp_path / "early"), "display": lambda shown: None}
    for cell in cells:
        exec(cell, names)
    assert all(row.value is None for row in names["rows"] if row.id.startswith("sales.")), name
    assert "left in" in capsys.readouterr().out
