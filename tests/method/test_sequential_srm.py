"""The sample ratio, asked every day: known values, false alarms, and how soon an error is seen."""

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from fairlift.errors import InputError, Refusal
from fairlift.method.sequential_srm import e_values, sequential_srm
from fairlift.method.srm import srm

WEIGHTS = {"personalised": 0.6, "control": 0.2, "holdout": 0.2}
SHARES = np.array(list(WEIGHTS.values()))


@pytest.mark.parametrize("counts", [(0, 0), (3, 1), (40, 70)])
@pytest.mark.parametrize("concentration", [2.0, 37.0])
def test_two_arms_against_the_integral_that_defines_it(counts, concentration):
    """The likelihood of the counts under Beta-distributed shares, over that under the planned shares."""
    share, (a, b) = 0.3, counts
    prior = stats.beta(concentration * share, concentration * (1 - share))
    mixed = quad(lambda q: prior.pdf(q) * q**a * (1 - q) ** b, 0, 1, epsabs=0, epsrel=1e-10)[0]
    found = e_values([counts], [share, 1 - share], concentration)[0]
    assert np.exp(found) == pytest.approx(mixed / (share**a * (1 - share) ** b), rel=1e-6)


def test_three_arms_against_scipys_dirichlet_multinomial():
    counts = np.array([[60, 21, 19], [612, 180, 208]])
    ours = e_values(counts, SHARES, 500.0)
    for row, value in zip(counts, ours, strict=True):
        planned = stats.multinomial(row.sum(), SHARES).logpmf(row)
        mixed = stats.dirichlet_multinomial(500.0 * SHARES, row.sum()).logpmf(row)
        assert value == pytest.approx(mixed - planned, rel=1e-8)


def test_its_mean_is_one_at_every_look_where_nothing_is_wrong():
    """An e-value is a fair bet: the mean over sound experiments is 1 (a martingale), which bounds its maximum."""
    total = np.random.default_rng(1).multinomial(20, SHARES, (40_000, 5)).cumsum(axis=1)
    e = np.exp(e_values(total, SHARES, 30.0))
    assert np.abs(e.mean(axis=0) - 1).max() < 4 * (e.std(axis=0) / 200).max()


def test_watched_every_day_it_keeps_its_false_alarms_and_chi_squared_does_not():
    total = np.random.default_rng(2).multinomial(400, SHARES, (6_000, 182)).cumsum(axis=1)
    e = e_values(total, SHARES)
    expected = total.sum(axis=2, keepdims=True) * SHARES
    p = stats.chi2.sf(((total - expected) ** 2 / expected).sum(axis=2), 2)
    for alpha in (0.05, 0.001):
        bound = alpha + 4 * np.sqrt(alpha / 6_000)
        assert (e >= -np.log(alpha)).any(axis=1).mean() < bound
        assert (p < alpha).any(axis=1).mean() > 2 * bound


def test_a_share_two_points_short_is_seen_within_a_fortnight():
    wrong = np.array([0.58, 0.20, 0.22])
    daily = np.random.default_rng(3).multinomial(1_300, wrong, (300, 28))
    days = []
    for experiment in daily:
        found = sequential_srm(dict(zip(WEIGHTS, experiment.T.tolist(), strict=True)), WEIGHTS)
        assert found.failed and found.p < 0.001
        days.append(found.crossed + 1)
    assert np.mean(np.array(days) <= 14) > 0.95
    assert 2 < np.median(days) < 10


def test_the_known_case_is_seen_by_both():
    """The experiment of Fabijan et al.: 821,588 against 815,482 where halves were planned."""
    counts = {"a": [821_588], "b": [815_482]}
    found = sequential_srm(counts, {"a": 1, "b": 1}, concentration=100_000)
    assert found.failed and srm({arm: n[0] for arm, n in counts.items()}, {"a": 1, "b": 1}).failed
    assert not sequential_srm({"a": [8_215], "b": [8_154]}, {"a": 1, "b": 1}).failed


def test_a_crossing_stands_though_the_shares_recover():
    gained = {"a": [600] * 10 + [0] + [540] * 300, "b": [500] * 10 + [1_000] + [540] * 300}
    found = sequential_srm(gained, {"a": 1, "b": 1})
    assert found.e[-1] < 1000 <= found.running[-1]
    assert found.failed and found.p == pytest.approx(1 / max(found.e))
    assert (np.diff(found.running) >= 0).all()
    assert "seen at look" in str(found)


def test_a_very_wrong_draw_does_not_overflow():
    found = sequential_srm({"a": [10**6], "b": [10]}, {"a": 1, "b": 1})
    assert found.failed and np.isfinite(found.e).all() and "above 1,000,000" in str(found)


def test_what_cannot_be_tested_is_refused_whole():
    with pytest.raises(InputError) as caught:
        sequential_srm({"a": [1, 2.5], "c": [1]}, {"a": 1, "b": -1}, alpha=2, concentration=0)
    assert len(caught.value.problems) == 7
    with pytest.raises(InputError, match="a single arm"):
        sequential_srm({"a": [3]}, {"a": 1})
    for counts in ({"a": [], "b": []}, {"a": [0], "b": [0]}):
        with pytest.raises(Refusal, match="nobody was counted"):
            sequential_srm(counts, {"a": 1, "b": 1})
