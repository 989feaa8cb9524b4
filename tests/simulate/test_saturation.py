"""The two small worlds are what they say: their truths are those of many draws."""

from __future__ import annotations

import numpy as np
import pytest

from fairlift.simulate.saturation import Homes, Neighbourhood, draw_clusters, draw_homes


def test_clusters_have_the_means_that_the_world_states():
    world, levels = Neighbourhood(), np.tile([0, 0.25, 1], 400)
    people = draw_clusters(world, levels, 20, np.random.default_rng(11))
    means = (
        people.groupby(["saturation", "treated", "cluster"])["outcome"]
        .mean()
        .groupby(level=[0, 1])
        .agg(["mean", "sem"])
    )
    for (level, treated), row in means.iterrows():
        truth = world.base + (world.total(level) if treated else world.spillover(level))
        assert abs(row["mean"] - truth) < 4 * row["sem"] < 0.5, (level, treated)
    assert world.total() == pytest.approx(1.6)


def test_customers_of_a_cluster_are_alike():
    world = Neighbourhood(between=2.0, within=2.0, direct=0.0, indirect=0.0)
    people = draw_clusters(world, [0.0] * 500, 20, np.random.default_rng(2))
    spread = people.groupby("cluster")["outcome"].mean().std()
    assert spread == pytest.approx(np.sqrt(4 + 4 / 20), rel=0.1)


def test_homes_spend_what_the_world_states():
    world = Homes(crowd=1.3, direct=3.0, indirect=2.0)
    people = draw_homes(world, 60_000, 0.4, np.random.default_rng(3))
    treated = people["arm"] == "personalised"
    mate = treated.groupby(people["household"]).transform("sum") - treated > 0
    size = people.groupby("household")["arm"].transform("size")
    for (own, near, persons), at in people.groupby([treated, mate, size])["outcome"]:
        truth = world.buying * world.spend * 1.3 ** (persons - 1) + 3.0 * own + 2.0 * near
        assert abs(at.mean() - truth) < 4 * at.sem(), (own, near, persons)
    assert (people["outcome"] > 0).mean() == pytest.approx(0.7, abs=0.01)


def test_the_same_generator_gives_the_same_people():
    one, two = (draw_homes(Homes(), 50, 0.5, np.random.default_rng(4)) for _ in range(2))
    assert one.equals(two)
    assert not one.equals(draw_homes(Homes(), 50, 0.5, np.random.default_rng(5)))
