"""The share of a leaking holdout is bounded exactly, and its effect on the effect honestly."""

from __future__ import annotations

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from benchmarks.calibration.spillover import leaks, leaky
from scipy import stats

from fairlift.errors import InputError, Refusal
from fairlift.method import Mean, effect, moments
from fairlift.method.contamination import (
    contamination,
    contamination_evidence,
    leak_log,
    separated,
    worst_case,
)


def stored(frame: pd.DataFrame) -> ibis.Table:
    return ibis.memtable(pa.Table.from_pandas(frame, preserve_index=False))


def study(n: int, leaked: int, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    arm = np.repeat(["personalised", "holdout"], n)
    offers = np.concatenate([np.full(n, 3), np.where(np.arange(n) < leaked, 2, 0)])
    spend = np.clip(20 + 2.0 * (offers > 0) + 5 * rng.standard_normal(2 * n), 0, 50)
    return pd.DataFrame({"unit": np.arange(2 * n), "arm": arm, "personalised_exposures": offers, "spend": spend})


def seen_in(units):
    return effect(moments(units, Mean("spend"), "arm"), Mean("spend"), "personalised", "holdout")


# ---------------------------------------------------------------- the share


@pytest.mark.parametrize(("leaked", "n"), [(0, 300), (3, 1_000), (80, 1_000), (1_000, 1_000)])
def test_the_bounds_are_the_exact_ones(leaked, n):
    """The peer: scipy's exact test, whose one-sided limits are Clopper and Pearson's."""
    ours = contamination(study(n, leaked), "holdout")
    low = stats.binomtest(leaked, n, alternative="greater").proportion_ci(0.95, "exact").low
    high = stats.binomtest(leaked, n, alternative="less").proportion_ci(0.95, "exact").high
    assert (ours.contaminated, ours.n) == (leaked, n)
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=1e-9)


def test_two_hundred_and_ninety_nine_without_any_say_under_one_in_a_hundred():
    assert contamination(study(299, 0), "holdout").high <= 0.01 < contamination(study(298, 0), "holdout").high


def test_the_bound_holds_where_the_usual_one_does_not():
    exact, usual = leaks(600, 0.01)(20_000, 5)
    assert exact.false_positive <= 0.05 and exact.power > 0.9
    assert usual.false_positive > 0.1


def test_a_table_in_duckdb_gives_the_same():
    units = study(500, 7)
    assert contamination(stored(units), "holdout") == contamination(units, "holdout")
    assert contamination_evidence(stored(units), 56) == contamination_evidence(units, 56)


def test_a_count_that_is_none_is_refused():
    units = study(100, 5)
    for wrong in (None, -1):
        broken = units.astype({"personalised_exposures": "float64"})
        broken.loc[150, "personalised_exposures"] = wrong
        for table in (broken, stored(broken)):
            with pytest.raises(InputError, match="1 of 100 customers of holdout"):
                contamination(table, "holdout")
    with pytest.raises(InputError, match="no such column"):
        contamination(units.drop(columns="personalised_exposures"), "holdout")
    with pytest.raises(Refusal, match="no customers"):
        contamination(units, "control")


# ---------------------------------------------------------------- what it does to the effect


def test_without_a_leak_the_bounds_are_the_effect():
    units = study(500, 0)
    seen = seen_in(units)
    for bounds in (
        separated(seen, contamination(units, "holdout")),
        worst_case(units, "spend", "personalised", "holdout", (0, 50)),
    ):
        assert bounds.lowest == bounds.highest == pytest.approx(seen.value)
        assert (bounds.low, bounds.high) == pytest.approx((seen.low, seen.high))


def test_dilution_is_undone_by_the_instrument_s_ratio():
    """Where a leaked offer does what a meant one does, the upper end is reach × effect / (difference in reach)."""
    units = study(1_000, 200)
    seen = seen_in(units)
    for reach in (1.0, 0.8):
        bounds = separated(seen, contamination(units, "holdout"), reach)
        assert bounds.lowest == seen.value
        assert bounds.highest == pytest.approx(reach * seen.value / (reach - 0.2))


def test_a_harm_is_diluted_toward_zero_as_a_gain_is():
    units = study(1_000, 200)
    units["spend"] = 50 - units["spend"]
    seen = seen_in(units)
    bounds = separated(seen, contamination(units, "holdout"))
    assert bounds.highest == seen.value < 0
    assert bounds.lowest == pytest.approx(seen.value / 0.8)


def test_the_worst_case_is_every_leaked_customer_at_a_limit():
    units = study(400, 40)
    leaked = (units["arm"] == "holdout") & (units["personalised_exposures"] > 0)
    bounds = worst_case(units, "spend", "personalised", "holdout", (0, 50))
    for end, at in ((bounds.highest, 0), (bounds.lowest, 50)):
        means = units["spend"].where(~leaked, at).groupby(units["arm"]).mean()
        assert end == pytest.approx(means["personalised"] - means["holdout"])


@pytest.fixture(scope="module")
def rows():
    return {row.method: row for row in leaky(0.2, 1.0, "")(60, 6)}


def test_the_bounds_hold_the_effect_of_full_separation(rows):
    assert rows["contamination, diluted at most"].false_positive < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 60)
    assert rows["contamination, worst case"].false_positive == 0


def test_the_effect_as_seen_misses_it_more_often(rows):
    assert (
        rows["the effect as if nothing leaked"].false_positive > rows["contamination, diluted at most"].false_positive
    )


def test_bounds_that_would_mislead_are_refused():
    units = study(400, 40)
    seen, leak = seen_in(units), contamination(units, "holdout")
    with pytest.raises(Refusal, match="the two do not differ"):
        separated(seen, leak, reach=0.1)
    with pytest.raises(InputError, match="share of the personalised arm"):
        separated(seen, leak, reach=0)
    with pytest.raises(InputError, match="count the contaminated of holdout"):
        separated(seen, contamination(units, "personalised"))
    with pytest.raises(InputError, match="cap the outcome"):
        worst_case(units, "spend", "personalised", "holdout", (0, 10))
    unknown = units.assign(personalised_exposures=units["personalised_exposures"].astype(float))
    unknown.loc[unknown["personalised_exposures"].gt(0) & (unknown["arm"] == "holdout"), "personalised_exposures"] = (
        None
    )
    with pytest.raises(InputError, match="have no count"):
        worst_case(unknown, "spend", "personalised", "holdout", (0, 1000))


# ---------------------------------------------------------------- the log


def test_the_log_counts_customers_and_hides_small_cells():
    events = pd.DataFrame({"unit": [*range(20), *range(20), 1, 2], "channel": ["app"] * 40 + ["email"] * 2, "n": 1})
    log = leak_log(events, "channel", column="n")
    assert log.loc["app"].tolist() == [20, 40]
    assert log.loc["email"].isna().all()
    assert "unit" not in str(log)


def test_the_log_never_lists_customers():
    with pytest.raises(InputError, match="single customers"):
        leak_log(study(100, 5), ["unit"])


def test_an_empty_log_is_empty():
    assert leak_log(study(100, 0).query("arm == 'holdout'").assign(week=1), ["week"]).empty


# ---------------------------------------------------------------- the evidence


@pytest.mark.parametrize(
    ("leaked", "n", "verdict"), [(0, 1_000, "pass"), (6, 1_000, "inconclusive"), (80, 1_000, "fail")]
)
def test_the_verdict_rests_on_the_exact_bound(leaked, n, verdict):
    (row,) = contamination_evidence(study(n, leaked), 56)
    assert (row.id, row.kind, row.arm, row.verdict) == ("method.contamination.share", "exact", "holdout", verdict)
    assert (row.threshold, row.hard_limit, row.n) == (0.01, 0.05, n)


def test_every_arm_without_personal_offers_has_a_row_and_no_other():
    units = pd.concat([study(400, 0), study(400, 0).query("arm == 'holdout'").assign(arm="control/a")])
    assert [row.arm for row in contamination_evidence(units, 56)] == ["control/a", "holdout"]


def test_without_exposures_nothing_is_claimed():
    assert contamination_evidence(study(400, 0).drop(columns="personalised_exposures"), 56) == []
