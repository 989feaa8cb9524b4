import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.proportion import confint_proportions_2indep
from tests.sales.test_incremental import study

from fairlift.risk.complaints import complaints_evidence
from fairlift.risk.kpis import KPIS


def units(n=30_000, extra=0.002, seed=3):
    random = np.random.default_rng(seed)
    arm = random.choice(["personalised", "control", "holdout"], n, p=[0.6, 0.2, 0.2])
    complained = random.random(n) < 0.004 + extra * (arm == "personalised")
    return pd.DataFrame({"arm": arm, "complete": True, "complained": complained.astype(int)})


def test_the_extra_ones_are_counted_over_everybody_assigned():
    frame = units()
    (row,) = [r for r in complaints_evidence(study(frame)) if r.versus == "holdout"]
    means = frame.groupby("arm").complained.mean()
    assert row.value == pytest.approx(means["personalised"] - means["holdout"])
    assert row.unit == "points" and row.better == "down"


def test_interval_agrees_with_a_peer():
    frame = units()
    (row,) = [r for r in complaints_evidence(study(frame)) if r.versus == "holdout"]
    counts = frame.groupby("arm").complained.agg(["sum", "size"])
    pair = (*counts.loc["personalised"], *counts.loc["holdout"])
    score, wald = (confint_proportions_2indep(*pair, method=method) for method in ("score", "wald"))
    assert (row.low, row.high) == pytest.approx(score, abs=1e-4)
    assert (row.low, row.high) != pytest.approx(wald, abs=1e-4)  # it follows the skew of a small count


def test_only_what_the_tables_hold_is_read():
    ids = {row.id for row in complaints_evidence(study(units()))}
    assert ids == {"risk.complaints.rate"}
    assert {kpi.id for kpi in KPIS} > ids
