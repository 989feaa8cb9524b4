"""The confidence sequence: its formula, its false alarms under sixty peeks, its burn-in, and what it refuses."""

from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest
from benchmarks.calibration.peeking import BURN_IN, LOOKS, SHARES, Paths, Z, accruing, everywhere, growing, paths, sizes
from scipy import stats
from scipy.optimize import minimize_scalar

from fairlift.errors import InputError, Refusal
from fairlift.method.effect import effect
from fairlift.method.looks import at_look
from fairlift.method.metric import Mean, Proportion, Ratio
from fairlift.method.moments import moments
from fairlift.method.sequence import crossed, multiple, running, sequence

SPEND = Mean("spend")


def units(n=6_000, lift=0.0, seed=1, holdout=0.5):
    draws = np.random.default_rng(seed)
    arm = np.where(draws.random(n) < holdout, "old", "new")
    spend = draws.lognormal(0, 1, n) * (draws.random(n) < 0.4) + lift * (arm == "new")
    entered = np.sort(np.resize(pd.date_range("2026-03-01", periods=30).date, n))
    return pd.DataFrame({"arm": arm, "spend": spend, "history": spend + draws.normal(size=n), "entered": entered})


def read(frame, metric=SPEND, **more):
    return effect(moments(frame, metric, "arm"), metric, "new", "old", **more)


# the formula


def test_the_multiple_is_the_published_one():
    """Waudby-Smith et al. (2024), theorem 2.2, with the mixture's variance found by search instead of Lambert's W."""

    def half(n, rho2, alpha):
        return np.sqrt(2 * (n * rho2 + 1) / (n**2 * rho2) * np.log(np.sqrt(n * rho2 + 1) / alpha)) * np.sqrt(n)

    for alpha in (0.05, 0.01):
        best = minimize_scalar(lambda log, a=alpha: half(8_000, np.exp(log), a), bounds=(-16, 0), method="bounded")
        for n in (300, 8_000, 90_000):
            assert multiple(n, 8_000, alpha) == pytest.approx(half(n, np.exp(best.x), alpha), rel=1e-4)


def test_it_is_narrowest_at_the_planned_number_and_wider_than_the_fixed_one_everywhere():
    for sides in (1, 2):
        for n in (2_000, 20_000):
            here = multiple(n, n, sides=sides)
            assert all(multiple(n, other, sides=sides) >= here - 1e-3 for other in (n // 4, n // 2, 2 * n, 4 * n))
    assert (multiple(np.geomspace(10, 1e6, 50), 10_000) > 2.9).all()
    assert multiple(10_000, 10_000, sides=1) < multiple(10_000, 10_000)


def test_the_sequence_keeps_the_estimate_and_hall_s_shape():
    fixed = read(units(holdout=0.1))
    always = sequence(fixed, 6_000)
    assert (always.value, always.se, always.mean_arm, always.by) == (fixed.value, fixed.se, fixed.mean_arm, fixed.by)
    assert always.low < fixed.low < fixed.high < always.high
    assert (always.interval, always.level) == ("sequence", 0.95)
    lopsided = [(e.high - e.value) / (e.value - e.low) for e in (always, fixed)]
    assert lopsided[0] < lopsided[1] < 1  # few buyers in the holdout: more room below
    welch = sequence(read(units(holdout=0.1), interval="welch"), 6_000)
    assert welch.high - welch.value == pytest.approx(multiple(6_000, 6_000) * welch.se)
    assert welch.value - welch.low == pytest.approx(multiple(6_000, 6_000) * welch.se)


@pytest.mark.parametrize("more", [{"adjust": "lin", "interval": "welch"}, {"by": ("day",)}])
def test_it_composes_with_adjustment_and_strata(more):
    frame = units()
    metric = Mean("spend", ("history",))
    gathered = moments(frame.assign(week=frame["entered"].map(lambda d: str(d)[:9])), metric, "arm", day="week")
    fixed = effect(gathered, metric, "new", "old", **more)
    always = sequence(fixed, 6_000)
    assert (always.adjust, always.by) == (fixed.adjust, fixed.by)
    assert 1.4 < (always.high - always.low) / (fixed.high - fixed.low) < 1.7


@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("lift", [0.0, 0.08, 0.11, 0.13, 0.5])
def test_p_is_below_alpha_exactly_where_the_interval_leaves_out_zero(sides, lift):
    for seed in range(4):
        always = sequence(read(units(lift=lift, seed=seed)), 6_000, sides=sides)
        assert (always.p < 0.05) == (always.low > 0 or always.high < 0)


# false alarms, and what peeking does without it


@pytest.fixture(scope="module")
def rows():
    small = growing(12_000, 0.5, 0.1, 0.0, 1.2, "share")(1_000, 7)
    skewed = growing(20_000, 0.2, 0.3, 1.0, 1.2, "spend")(600, 7)
    return {f"{row.case}, {row.method}": row for row in (*small, *skewed, *accruing(60, 7), *sizes(2_000, 7))}


@pytest.mark.parametrize("case", ["share", "spend"])
def test_sixty_peeks_keep_their_false_alarms_and_naive_ones_do_not(rows, case):
    reps = rows[f"{case}, confidence sequence"].reps
    slack = 4 * np.sqrt(0.05 * 0.95 / reps)
    assert rows[f"{case}, confidence sequence"].false_positive < 0.05
    assert rows[f"{case}, the usual interval at every look"].false_positive > 0.25
    for spending in ("O'Brien and Fleming", "Pocock"):
        row = rows[f"{case}, five looks agreed beforehand, spent as by {spending}"]
        assert abs(row.false_positive - 0.05) < slack
        assert row.power > rows[f"{case}, confidence sequence"].power > 0.5


def test_a_small_holdout_needs_hall_s_shape():
    """On a holdout of a twentieth with heavy tails, benefits that are not there: with the shape, and without it."""
    seen = paths([7, 0], 600, 60_000, 0.05, 0.3, 1.3)
    ready, reach = seen.fewest >= 200, multiple(seen.n, 60_000)
    shaped, plain = ((ready & (z > reach)).any(axis=1).mean() for z in (seen.corrected, seen.value / seen.se))
    assert shaped < 0.05 < plain + 0.02
    assert plain > 1.7 * shaped


def test_one_sided_limits_keep_one_side():
    seen = paths([8, 0], 1_500, 12_000, 0.5, 0.1, 0.0)
    ready = (seen.smaller >= BURN_IN) & (seen.fewest >= 10)
    above = (ready & (seen.value / seen.se > multiple(seen.n, 12_000, sides=1))).any(axis=1).mean()
    assert above < 0.05
    assert above > (ready & (seen.value / seen.se > multiple(seen.n, 12_000))).any(axis=1).mean()
    assert (seen.value / seen.se > stats.norm.isf(0.05)).any(axis=1).mean() > 0.2


def test_spend_that_accrues_is_no_sequence(rows):
    """The same people measured again and again: not what the sequence is for, and it misses the effect it is asked for."""
    assert rows["60 looks, missing the effect of the whole window, sequence over spend so far"].coverage < 0.5
    assert rows["60 looks, missing the effect of the whole window, sequence over complete windows"].false_positive < 0.1
    assert rows["60 looks, fixed group, spend accrues, sequence over customer-days"].false_positive > 0.06
    assert rows["60 looks, fixed group, spend accrues, sequence over complete windows"].false_positive < 0.1
    assert rows["60 looks, fixed group, spend accrues, the usual interval every day"].false_positive > 0.1


def test_the_arms_sizes_may_be_watched(rows):
    assert rows["arms' sizes, 28 days, sequential sample ratio at 0.001"].false_positive < 0.003
    assert rows["arms' sizes, 28 days, sequential sample ratio at 0.001"].power == 1
    assert rows["arms' sizes, 28 days, chi-squared every day at 0.05"].false_positive > 0.2


def test_the_simulated_paths_are_the_engine_s():
    """The shortcut that makes the simulation fast says what `effect` and `sequence` say of the rows themselves."""
    draws = np.random.default_rng(9)
    counts = {arm: draws.poisson(40, LOOKS) for arm in ("new", "old")}
    spent = {arm: draws.lognormal(0, 1, n.sum()) for arm, n in counts.items()}
    size, parts = 100, []
    for arm, n in counts.items():
        rows_ = pd.DataFrame({"arm": arm, "look": np.repeat(np.arange(LOOKS), size), "spend": 0.0})
        place = np.concatenate([k * size + np.arange(m) for k, m in enumerate(n)])
        rows_.loc[place, "spend"] = spent[arm]
        parts.append(rows_)
    frame = pd.concat(parts)

    class Fixed:
        def __init__(self, arm):
            self.arm = arm

        def binomial(self, n, p, shape):
            return counts[self.arm][None, :]

        def lognormal(self, mean, sigma, size):
            return spent[self.arm]

    from benchmarks.calibration import peeking

    one, two = (peeking.arm(Fixed(arm), 1, size * LOOKS, 0.4, 1.0) for arm in ("new", "old"))
    se = np.sqrt(one[1] + two[1])
    steps = size * np.arange(1, LOOKS + 1)
    made = Paths(2 * steps, steps, one[0] - two[0], se, (one[2] - two[2]) / se**3, np.minimum(one[3], two[3]))
    for look in (14, 59):
        fixed = read(frame[frame["look"] <= look])
        assert fixed.fewest == made.fewest[0, look]
        for name in ("value", "se", "skew"):
            assert getattr(fixed, name) == pytest.approx(getattr(made, name)[0, look], rel=1e-9)
        low, high = made.limits([look], multiple(made.n[[look]], 12_000))
        always = sequence(fixed, 12_000)
        assert (always.low, always.high) == pytest.approx((low.item(), high.item()), rel=1e-9)


def test_looks_that_contradict_each_other_miss_once():
    low, high = everywhere(np.array([[-3.0, 0.5]]), np.array([[-1.0, 2.0]]), 0.0)
    assert high < 0 and not low > 0


# the burn-in, and what is no sequence


@pytest.mark.parametrize(
    ("frame", "metric", "said"),
    [
        (units(600), SPEND, "the smaller arm has 2.. complete units and the burn-in is 500"),
        (units(6_000, holdout=0.05), SPEND, "the smaller arm has .* complete units and the burn-in is 500"),
        (units(6_000).assign(spend=lambda f: f["spend"] * (np.arange(6_000) < 800)), SPEND, "and 200 are needed"),
        (units(6_000).assign(spend=(np.arange(6_000) < 12).astype(float)), Proportion("spend"), "and 10 are needed"),
    ],
)
def test_before_the_burn_in_there_is_no_sequence(frame, metric, said):
    with pytest.raises(Refusal, match=said):
        sequence(read(frame, metric), 6_000)


def test_a_stated_burn_in_replaces_the_default():
    frame = units(2_000, holdout=0.4)
    assert sequence(read(frame), 6_000, burn_in=400).low < 0
    with pytest.raises(Refusal, match="the burn-in is 1,000"):
        sequence(read(frame), 6_000, burn_in=1_000)


def test_a_ratio_has_a_sequence_too():
    frame = units().assign(visits=1.0)
    assert sequence(read(frame, Ratio("spend", "visits")), 6_000).fewest is None


def test_running_reads_each_day_the_units_complete_by_then():
    frame = units()
    found = running(
        frame, SPEND, "new", "old", entered="entered", window_days=28, as_of=date(2026, 4, 27), planned_n=6_000
    )
    assert found["day"].iloc[-1] == "2026-04-27"
    assert found["n"].tolist() == list(range(int(found["n"].iloc[0]), 6_001, 200))
    arms = frame.groupby("entered")["arm"].value_counts().unstack().cumsum().min(axis=1).to_numpy()[-len(found) :]
    assert found["low"].isna().tolist() == (arms < BURN_IN).tolist()
    assert found["low"].isna().sum() > 0
    last = sequence(read(frame), 6_000)
    assert found.iloc[-1][["value", "se", "low", "high"]].tolist() == pytest.approx(
        [last.value, last.se, last.low, last.high]
    )
    tenth = sequence(read(frame[frame["entered"] <= date(2026, 3, 10)]), 6_000)
    assert found.set_index("day").loc["2026-04-07", ["low", "high"]].tolist() == pytest.approx([tenth.low, tenth.high])


def test_units_whose_outcome_still_accrues_are_refused():
    with pytest.raises(Refusal, match="200 of 6,000 units are still in their outcome window of 28 days on 2026-04-26"):
        running(
            units(), SPEND, "new", "old", entered="entered", window_days=28, as_of=date(2026, 4, 26), planned_n=6_000
        )


def test_crossed_says_when():
    assert crossed([np.nan, -1, 0.1, -0.1], [np.nan, 1, 2, 1]) == 2
    assert crossed([np.nan, -1], [np.nan, 1]) is None
    assert crossed([1.0], [2.0], at=1.5) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"planned_n": 0}, "say how many units were planned"),
        ({"planned_n": 6_000, "alpha": 0.7}, "alpha: is 0.7"),
        ({"planned_n": 6_000, "sides": 3}, "say 1 or 2"),
        ({"planned_n": 6_000, "burn_in": 0}, "burn_in: is 0"),
    ],
)
def test_what_makes_no_sense_is_refused(given, said):
    with pytest.raises(InputError, match=said):
        sequence(read(units()), **given)


def test_an_interval_is_widened_once():
    always = sequence(read(units()), 6_000)
    with pytest.raises(InputError, match="already read as sequence"):
        sequence(always, 6_000)
    with pytest.raises(InputError, match="already read as sequence"):
        at_look(replace(always), [6_000], 6_000, looks=1)


def test_the_constants_of_the_benchmark_are_those_it_says():
    assert pytest.approx(1.959964, abs=1e-6) == Z
    assert SHARES.sum() == pytest.approx(1)
