"""How methods are scored: misses on either side, refusals, and the bounds of each kind."""

import numpy as np
import pytest

from fairlift.errors import InputError
from fairlift.method.calibration import Row, alarmed, faults, scored


def intervals(reps, below, above, truth=0.0):
    """Intervals around the truth of which the stated shares lie wholly below and above it."""
    shift = np.zeros(reps)
    shift[: round(below * reps)] = -2
    shift[reps - round(above * reps) :] = 2
    return truth + shift - 1, truth + shift + 1


@pytest.mark.parametrize(
    ("below", "above", "wrong"),
    [
        (0.025, 0.025, 0),
        (0.018, 0.032, 0),
        (0.010, 0.033, 2),  # right coverage, wrong tails
        (0.045, 0.045, 3),
        (0.0, 0.0, 3),
    ],
)
def test_a_formula_is_bound_in_coverage_and_in_each_tail(below, above, wrong):
    row = scored("m", "c", "closed", *intervals(10_000, below, above), 0.0)
    assert (row.miss_low, row.miss_high) == (pytest.approx(below), pytest.approx(above))
    assert row.false_positive == pytest.approx(below + above)
    assert len(faults(row)) == wrong


def test_a_true_effect_makes_a_rejection_power():
    row = scored("m", "c", "costly", *intervals(600, 0.03, 0.03, truth=5.0), 5.0)
    assert row.false_positive is None
    assert row.power == 1.0
    assert faults(row) == []


def test_refusals_are_counted_and_not_scored():
    low, high = intervals(1000, 0.025, 0.025)
    low[:500] = np.nan
    row = scored("m", "c", "costly", low, high, 0.0)
    assert row.refused == 0.5
    assert row.reps == 1000
    assert row.miss_low == 0.0


def test_who_refuses_always_breaks_nothing():
    row = scored("m", "c", "closed", np.full(10_000, np.nan), np.full(10_000, np.nan), 0.0)
    assert (row.refused, row.coverage, faults(row)) == (1.0, None, [])


@pytest.mark.parametrize(("alarms", "sound"), [(0, True), (25, True), (33, True), (50, False)])
def test_a_conservative_method_may_have_fewer_false_alarms_and_not_surely_more(alarms, sound):
    row = alarmed("m", "c", "conservative", np.arange(500) < alarms, power=0.5)
    assert (faults(row) == []) is sound


def test_a_conservative_method_states_its_power():
    assert faults(alarmed("m", "c", "conservative", np.zeros(500))) == ["no power stated"]


def test_too_few_experiments_prove_nothing():
    assert "100 experiments" in faults(scored("m", "c", "closed", *intervals(100, 0.02, 0.02), 0.0))[0]


def test_no_bound_holds_for_a_naive_method():
    assert faults(scored("m", "c", "closed", *intervals(10, 0.5, 0.5), 0.0, naive=True)) == []


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match="closed, costly, conservative"):
        alarmed("m", "c", "exact", [True])


def test_a_row_knows_its_columns():
    """The published table's columns, in their order."""
    assert list(Row.__dataclass_fields__) == [
        *("method", "naive", "kind", "case", "nominal", "coverage", "miss_low", "miss_high"),
        *("false_positive", "power", "refused", "width", "reps"),
    ]
