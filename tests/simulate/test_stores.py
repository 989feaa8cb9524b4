"""The store trials are what they say: sizes, likeness, seasons, effects; and their tables agree with their sums."""

import numpy as np
import pytest

from fairlift.errors import InputError
from fairlift.method.cluster_means import by_cluster
from fairlift.method.icc import icc
from fairlift.simulate.stores import StoreTrial, customers, draw_half, draw_trials

TRIAL = StoreTrial(stores=24, cv=0.5, icc=0.08, regional=0.25, steady=0.7, effect=3.0, lean=0.6)


@pytest.fixture(scope="module")
def trials():
    return draw_trials(TRIAL, 4_000, seed=1)


def test_sizes_have_the_mean_and_spread_asked_for(trials):
    assert trials.size.mean() == pytest.approx(TRIAL.customers, rel=0.01)
    assert trials.size.std() / trials.size.mean() == pytest.approx(TRIAL.cv, rel=0.02)


def test_stores_differ_as_the_icc_says(trials):
    noise = (TRIAL.sd**2 / trials.size).mean()
    between = trials.mean.var() - noise
    assert between / (between + TRIAL.sd**2) == pytest.approx(TRIAL.icc, rel=0.05)
    assert (trials.within / (trials.size - 1)).mean() == pytest.approx(TRIAL.sd**2, rel=0.01)


def test_stores_of_a_region_share_their_season(trials):
    shared = np.mean((trials.mean[:, 0] - TRIAL.mean) * (trials.mean[:, 1] - TRIAL.mean))
    apart = np.mean((trials.mean[:, 0] - TRIAL.mean) * (trials.mean[:, -1] - TRIAL.mean))
    assert shared / TRIAL.between**2 == pytest.approx(TRIAL.regional, abs=0.07)
    assert apart / TRIAL.between**2 == pytest.approx(0, abs=0.07)


def test_the_period_before_foretells_as_steadily_as_asked():
    steady = draw_trials(StoreTrial(stores=20, customers=100_000, steady=0.7), 2_000, seed=2)
    periods = [values.ravel() for values in (steady.earlier, steady.pre, steady.mean)]
    found = np.corrcoef(periods)
    assert found[0, 1] == pytest.approx(0.7, abs=0.02)
    assert found[1, 2] == pytest.approx(0.7, abs=0.02)
    assert found[0, 2] == pytest.approx(0.49, abs=0.02)


def test_the_planted_effects_have_the_stated_truths(trials):
    assert trials.effect.mean() == pytest.approx(TRIAL.truth("clusters"), rel=0.01)
    assert (trials.size * trials.effect).sum() / trials.size.sum() == pytest.approx(TRIAL.truth("customers"), rel=0.01)
    assert TRIAL.truth("customers") > TRIAL.truth("clusters")


def test_a_long_tail_keeps_mean_and_spread():
    plain, skewed = (draw_trials(StoreTrial(stores=20, skewed=skew), 20_000, seed=3).mean for skew in (False, True))
    assert skewed.mean() == pytest.approx(plain.mean(), rel=0.005)
    assert skewed.std() == pytest.approx(plain.std(), rel=0.05)
    assert ((skewed - skewed.mean()) ** 3).mean() / skewed.std() ** 3 > 2


def test_half_of_the_stores_are_drawn(trials):
    treated = draw_half(trials, seed=4)
    assert (treated.sum(axis=1) == 12).all()
    assert np.abs(treated.mean(axis=0) - 0.5).max() < 0.04


def test_people_agree_with_their_trial():
    trial = StoreTrial(stores=30, customers=400, icc=0.1, effect=10.0)
    people = customers(trial, seed=5)
    found = by_cluster(people, "spend", "store", "arm")
    trials = draw_trials(trial, 1, seed=5)
    expected = trials.outcomes(found.arm[None, :] == "new")[0]
    assert np.abs(found.mean - expected).max() < 5 * trial.sd / np.sqrt(400)
    assert icc(found).low < trial.icc < icc(found).high
    assert (people["spend"] >= 0).all()


def test_the_same_seed_draws_the_same():
    one, two, other = (customers(StoreTrial(stores=4, customers=20), seed) for seed in (1, 1, 2))
    assert one.equals(two)
    assert not one.equals(other)


def test_impossible_trials_are_refused_at_once():
    with pytest.raises(InputError) as refusal:
        StoreTrial(stores=1, icc=1.0, cv=-1)
    assert len(refusal.value.problems) == 3
