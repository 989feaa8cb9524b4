"""Intervals for counts and p-values of a family, against published answers and statsmodels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from fairlift.errors import InputError
from fairlift.method import benjamini_hochberg, clopper_pearson, holm, newcombe, wilson

# Benjamini and Hochberg (1995), section 3.2: fifteen comparisons of a trial in myocardial infarction
BH_1995 = [
    0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344,
    0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000,
]  # fmt: skip

counts = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, st.sampled_from([0.001, 0.05, 0.2]))
def test_wilson_and_exact_are_those_of_statsmodels(count, alpha):
    assert wilson(*count, alpha) == pytest.approx(proportion_confint(*count, alpha, "wilson"), abs=1e-12)
    assert clopper_pearson(*count, alpha) == pytest.approx(proportion_confint(*count, alpha, "beta"), abs=1e-12)


@given(counts, counts)
def test_newcombe_is_that_of_statsmodels(one, two):
    peer = confint_proportions_2indep(*one, *two, method="newcomb", compare="diff")
    assert newcombe(*one, *two) == pytest.approx(peer, abs=1e-12)


def test_published():
    assert np.round(wilson(81, 263), 4).tolist() == [0.2553, 0.3662]  # Newcombe 1998a
    assert np.round(newcombe(56, 70, 48, 80), 4).tolist() == [0.0524, 0.3339]  # Newcombe 1998b, example (a)


def test_one_and_two_sided_bounds_differ():
    assert clopper_pearson(0, 299, sides=1)[1] < 0.01 < clopper_pearson(0, 298, sides=1)[1]
    assert clopper_pearson(0, 299)[1] > 0.01
    per_10k = [round(1e4 * clopper_pearson(0, 10_000, sides=sides)[1], 1) for sides in (1, 2)]
    assert per_10k == [3.0, 3.7]


def test_exact_interval_covers_at_least_its_level():
    n, p = 40, 0.07
    draws = np.random.default_rng(7).binomial(n, p, 4000)
    limits = {events: clopper_pearson(int(events), n) for events in np.unique(draws)}
    assert np.mean([limits[x][0] <= p <= limits[x][1] for x in draws]) > 0.95


def test_families_of_p_values():
    assert (holm(BH_1995) < 0.05).sum() == 3
    assert (benjamini_hochberg(BH_1995) < 0.05).sum() == 4
    assert (np.array(BH_1995) < 0.05).sum() == 9
    assert holm([]).size == 0


def test_holm_by_hand():
    assert holm([0.04, 0.01, 0.03, 0.005]).tolist() == pytest.approx([0.06, 0.03, 0.06, 0.02])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: wilson(3, 2),
        lambda: wilson(-1, 2),
        lambda: clopper_pearson(0, 0),
        lambda: clopper_pearson(1, 9, sides=3),
        lambda: newcombe(1, 2, 3, 0),
        lambda: holm([0.5, 1.2]),
        lambda: holm([0.5, float("nan")]),
    ],
)
def test_refuses(wrong):
    with pytest.raises(InputError):
        wrong()
