"""Looks agreed beforehand: published boundaries to the printed digit, false alarms on simulated paths, refusals."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fairlift.errors import InputError, Refusal
from fairlift.method.effect import effect
from fairlift.method.looks import at_look, boundaries, boundary_at, constants, crossing, design, spent
from fairlift.method.metric import Mean, Proportion, Ratio
from fairlift.method.moments import moments

FIFTHS = [0.2, 0.4, 0.6, 0.8, 1.0]


# published: Jennison and Turnbull (2000), tables 2.1, 2.3, 7.x; Lan and DeMets (1983), Reboussin et al. (2000)


@pytest.mark.parametrize(
    ("found", "published"),
    [
        (constants(5), [4.562, 3.226, 2.634, 2.281, 2.040]),
        (constants(5, "pocock"), [2.413] * 5),
        (constants(2, "pocock"), [2.178] * 2),
        (constants(10, "pocock")[:1], [2.555]),
        (constants(10)[-1:], [2.087]),
        (constants(5, "pocock", alpha=0.01)[:1], [2.986]),
        (boundaries(FIFTHS), [4.877, 3.357, 2.680, 2.290, 2.031]),
        (boundaries(FIFTHS, spending="pocock"), [2.438, 2.427, 2.410, 2.397, 2.386]),
        (constants(1), [1.960]),
        (boundaries([1.0]), [1.960]),
    ],
)
def test_boundaries_are_the_published_ones(found, published):
    assert found.round(3).tolist() == published


@pytest.mark.parametrize(
    ("looks", "shape", "power", "published"),
    [
        (5, "pocock", 0.9, 1.207),
        (5, "obrien_fleming", 0.9, 1.026),
        (5, "pocock", 0.8, 1.229),
        (2, "pocock", 0.8, 1.110),
    ],
)
def test_the_price_of_looking_is_the_published_one(looks, shape, power, published):
    """The inflation factors of Jennison and Turnbull's tables 2.2 and 2.4."""
    from scipy.optimize import brentq

    t, z = np.arange(1, looks + 1) / looks, constants(looks, shape)
    single = stats.norm.ppf(power) + stats.norm.ppf(0.975)
    drift = brentq(lambda d: crossing(t, z, d)[0].sum() - power, single, 2 * single)
    assert round((drift / single) ** 2, 3) == pytest.approx(published, abs=5e-4)


@pytest.mark.parametrize("spending", ["obrien_fleming", "pocock", "power"])
def test_what_is_spent_is_what_is_used(spending):
    t = [0.13, 0.2, 0.55, 0.8, 1.0]
    used = crossing(t, boundaries(t, spending=spending)).sum(axis=0).cumsum()
    assert used == pytest.approx(spent(t, spending=spending), abs=1e-10)
    assert used[-1] == pytest.approx(0.05)


def test_the_family_of_kim_and_demets_is_a_power_of_the_share():
    assert spent([0.5, 1], spending="power", rho=2).tolist() == [0.0125, 0.05]
    assert boundaries([0.5, 1], spending="power", rho=1)[0] == pytest.approx(stats.norm.isf(0.0125))


def test_sixty_looks_are_integrated_as_well_as_two():
    """Against paths of a Brownian motion, above and below apart, with and without drift."""
    t = np.arange(1, 61) / 60
    z = boundaries(t, spending="pocock")
    draws = np.random.default_rng(5)
    steps = draws.normal(0, np.sqrt(1 / 60), (20_000, 60)).cumsum(axis=1) / np.sqrt(t)
    for drift in (0.0, 2.5):
        seen = steps + drift * np.sqrt(t)
        out = np.abs(seen) > z
        first = np.take_along_axis(seen, out.argmax(axis=1)[:, None], axis=1)[:, 0]
        above = np.mean(out.any(axis=1) & (first > 0))
        assert above == pytest.approx(crossing(t, z, drift)[0].sum(), abs=4 * np.sqrt(0.25 / 20_000))
    assert (np.abs(steps) > 1.96).any(axis=1).mean() > 0.3  # the naive boundary on the same paths


def test_a_design_says_what_it_costs_and_saves():
    found = design(FIFTHS, spending="pocock", power=0.9)
    assert crossing(FIFTHS, found.boundaries, np.sqrt(found.inflation) * (1.959964 + 1.281552))[
        0
    ].sum() == pytest.approx(0.9, abs=1e-5)
    assert sum(found.stops[1]) == pytest.approx(1)
    assert found.inflation * found.expected[1] < 0.75 < 1 < found.inflation  # fewer on average, more at most
    assert "5 looks, 0.05 spent as by Pocock" in str(found)
    with pytest.raises(InputError, match="end with 1"):
        design([0.5, 0.9])


# the interval of a look


def seen(n=8_000, lift=0.0, seed=1):
    draws = np.random.default_rng(seed)
    arm = np.where(np.arange(n) % 2, "new", "old")
    spend = draws.lognormal(0, 0.5, n) + lift * (arm == "new")
    return effect(
        moments(pd.DataFrame({"arm": arm, "spend": spend}), Mean("spend"), "arm"), Mean("spend"), "new", "old"
    )


def test_each_look_is_as_wide_as_its_boundary():
    fixed = seen()
    looked = at_look(fixed, [4_000, 8_000], 20_000, looks=5)
    reach = boundary_at([4_000, 8_000], 20_000, 5)
    assert reach == pytest.approx(boundaries(FIFTHS)[1])
    assert (looked.high - looked.low) / (fixed.high - fixed.low) == pytest.approx(reach / 1.96, rel=2e-3)
    assert (looked.interval, looked.value, looked.se) == ("look", fixed.value, fixed.se)
    assert "repeated interval" in str(looked)


@pytest.mark.parametrize("counts", [[4_000, 8_000, 11_000, 15_000, 20_000], [500, 9_000, 10_000, 18_000, 18_500]])
def test_the_last_look_spends_what_is_left_whatever_was_reached(counts):
    z = [boundary_at(counts[: k + 1], 20_000, 5) for k in range(5)]
    used = crossing(np.array(counts) / counts[-1], z).sum()
    assert used == pytest.approx(0.05, abs=1e-9)


def test_looks_at_unplanned_shares_keep_their_alpha_on_simulated_paths():
    counts = np.array([3_000, 9_000, 10_000, 17_000])
    z = [boundary_at(counts[: k + 1], 20_000, 4, spending="pocock") for k in range(4)]
    draws = np.random.default_rng(8).normal(size=(40_000, 4)) * np.sqrt(np.diff(counts, prepend=0))
    paths = draws.cumsum(axis=1) / np.sqrt(counts)
    rate = (np.abs(paths) > z).any(axis=1).mean()
    assert 0.0456 < rate < 0.0544
    assert (np.abs(paths) > 1.96).any(axis=1).mean() > 0.1


@pytest.mark.parametrize("lift", [0.0, 0.02, 0.03, 0.05, 0.2])
def test_p_is_below_alpha_exactly_where_the_interval_leaves_out_zero(lift):
    for looks in ([4_000, 8_000], [8_000]):
        looked = at_look(seen(lift=lift), looks, 20_000, looks=5)
        assert (looked.p < 0.05) == (looked.low > 0 or looked.high < 0)
        assert seen(lift=lift).p <= looked.p + 1e-9


def test_p_is_the_alpha_at_which_the_look_would_just_stop():
    looked = at_look(seen(lift=0.04), [4_000, 8_000], 20_000, looks=5)
    again = at_look(seen(lift=0.04), [4_000, 8_000], 20_000, looks=5, alpha=looked.p)
    assert min(abs(again.low), abs(again.high)) < 0.02 * again.se


def test_a_look_beyond_the_plan_is_refused():
    with pytest.raises(Refusal, match="look 3 of 2 planned; a look beyond the plan has no alpha left"):
        at_look(seen(), [1_000, 2_000, 8_000], 20_000, looks=2)


def test_a_look_without_alpha_is_refused():
    with pytest.raises(Refusal, match=r"at 0\.50 % of the planned units this look has no alpha to spend"):
        at_look(seen(), [8_000], 1_600_000, looks=3)
    with pytest.raises(Refusal, match="no alpha"):  # everything was spent at the look before
        at_look(seen(), [7_000, 7_500, 8_000], 6_000, looks=4)


@pytest.mark.parametrize(("share", "metric", "needed"), [(0.02, Mean("y"), "200"), (0.001, Proportion("y"), "10")])
def test_a_look_at_a_handful_of_buyers_is_refused(share, metric, needed):
    draws = np.random.default_rng(3)
    units = pd.DataFrame({"arm": np.where(np.arange(8_000) % 2, "new", "old"), "y": draws.random(8_000) < share})
    few = effect(moments(units.astype({"y": float}), metric, "arm"), metric, "new", "old", min_nonzero=2) if isinstance(
        metric, Mean
    ) else effect(moments(units.astype({"y": float}), metric, "arm"), metric, "new", "old")  # fmt: skip
    with pytest.raises(Refusal, match=f"and {needed} are needed"):
        at_look(few, [8_000], 10_000, looks=2)


def test_a_ratio_has_a_look_too():
    draws = np.random.default_rng(4)
    units = pd.DataFrame({"arm": np.where(np.arange(4_000) % 2, "new", "old"), "orders": draws.poisson(1, 4_000)})
    units["revenue"] = units["orders"] * draws.lognormal(0, 1, 4_000)
    metric = Ratio("revenue", "orders")
    fixed = effect(moments(units, metric, "arm"), metric, "new", "old")
    assert fixed.fewest is None
    assert at_look(fixed, [4_000], 8_000, looks=2).low < fixed.low


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: boundaries([0.5, 0.4]), "they are at 0.5, 0.4"),
        (lambda: boundaries([]), "they are at nothing"),
        (lambda: boundaries([0.5], spending="pococ"), "did you mean `pocock`"),
        (lambda: constants(5, "power"), "`power` is not known"),
        (lambda: constants(0), "plan one look or more"),
        (lambda: crossing([0.5, 1], [2.0]), "1 boundaries for 2 looks"),
        (lambda: at_look(at_look(seen(), [8_000], 10_000, looks=2), [8_000], 10_000, looks=2), "already read as look"),
    ],
)
def test_what_makes_no_sense_is_refused(call, said):
    with pytest.raises(InputError, match=said):
        call()
