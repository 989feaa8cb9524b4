"""The small trials of channels: their closed-form truth is the mean of many draws, and the same seed gives the same rows."""

import numpy as np
import pandas as pd
import pytest

from fairlift.simulate.channels import PLACES, SHARES, Place, draw_channels, draw_matched, draw_reached


def test_the_same_seed_gives_the_same_rows():
    pd.testing.assert_frame_equal(draw_channels(500, seed=3).units, draw_channels(500, seed=3).units)
    assert not draw_channels(500, seed=3).units.equals(draw_channels(500, seed=4).units)


def test_channels_are_drawn_independently_with_their_shares():
    units = draw_channels(40_000, seed=1).units
    for name, share in SHARES.items():
        assert units[name].mean() == pytest.approx(share, abs=0.01)
    assert np.abs(np.corrcoef(units[list(SHARES)].T) - np.eye(4)).max() < 0.02


def test_cell_means_are_the_closed_form():
    units = draw_channels(300_000, seed=2).units
    for place, spec in PLACES.items():
        for levels, part in units.groupby(list(SHARES)):
            on = [name for name, level in zip(SHARES, levels, strict=True) if level]
            error = part[place].std() / np.sqrt(len(part))
            assert abs(part[place].mean() - spec.mean(on)) < 4.5 * error, (place, on)


def test_truth_by_hand():
    places = {"shop": Place(10.0, {"a": 0.2, "b": 0.1}, {("a", "b"): -0.05})}
    truth = draw_channels(10, seed=1, shares={"a": 0.5, "b": 0.8}, places=places).truth
    expected = {"a": 1.6, "b": 0.75, "a alone": 2.0, "b alone": 1.0, "a × b": -0.5, "all on": 2.5, "overlap": -0.5}
    for name, value in expected.items():
        assert truth[f"shop: {name}"] == pytest.approx(value), name
        assert truth[f"revenue: {name}"] == pytest.approx(value), name


@pytest.mark.parametrize("lift", [0.0, 0.3])
def test_reached_truth_is_the_mean_of_many(lift):
    drawn = draw_reached(600_000, seed=4, lift=lift)
    units, truth = drawn.units, drawn.truth
    offers = units[units["arm"] == "offers"]
    assert units.loc[units["arm"] == "holdout", "opened"].sum() == 0
    assert offers["opened"].mean() == pytest.approx(truth["reached"], abs=0.003)
    means = offers.groupby("opened")["revenue"].mean()
    assert means[1] - means[0] == pytest.approx(truth["naive"], rel=0.02)
    base = units.loc[units["arm"] == "holdout", "revenue"]
    gap = offers["revenue"].mean() - base.mean()
    assert gap == pytest.approx(truth["itt"], abs=4 * base.std() / np.sqrt(len(base)) * 1.2)
    assert truth["cace"] == pytest.approx(truth["itt"] / truth["reached"])


def test_matched_sales_are_the_share_they_are_said_to_be():
    trial, hits, audited = draw_matched(100_000, seed=6, lift=0.2, matched={"offers": 0.7, "holdout": 0.5})
    sums = trial.units.groupby("arm")[["matched_revenue", "revenue"]].sum()
    rate = sums["matched_revenue"] / sums["revenue"]
    assert rate["offers"] == pytest.approx(0.7, abs=0.01)
    assert rate["holdout"] == pytest.approx(0.5, abs=0.01)
    assert all(0 < hits[arm] < audited[arm] for arm in hits)
    assert (trial.units["matched_revenue"] <= trial.units["revenue"] + 1e-9).all()
    gap = trial.units.groupby("arm")["revenue"].mean()
    assert gap["offers"] - gap["holdout"] == pytest.approx(trial.truth["itt"], abs=2.5)
