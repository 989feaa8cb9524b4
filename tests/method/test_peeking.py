"""What is left as evidence of a running experiment, and how it is drawn."""

from datetime import date

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fairlift.errors import Refusal
from fairlift.evidence import Look, from_json, to_json
from fairlift.method.effect import effect
from fairlift.method.kpi import as_planned, measured, stricter
from fairlift.method.looks import at_look
from fairlift.method.metric import Mean
from fairlift.method.moments import moments
from fairlift.method.peeking import gained, peeking_evidence, stopped
from fairlift.method.sequence import running, sequence
from fairlift.method.sequential_srm import sequential_srm
from fairlift.plot import watched
from fairlift.sales.kpis import REVENUE

ASKED = {"window_days": 28, "currency": "EUR"}


def units(lift, n=3_000):
    draws = np.random.default_rng(2)
    arm = np.where(draws.random(n) < 0.5, "new", "old")
    entered = np.sort(np.resize(pd.date_range("2026-03-01", periods=15).date, n))
    return pd.DataFrame(
        {"arm": arm, "revenue": draws.lognormal(0, 0.5, n) + lift * (arm == "new"), "enrolled": entered}
    )


def by_day(lift, n=3_000):
    when = {"entered": "enrolled", "window_days": 28, "as_of": date(2026, 4, 12)}
    return running(units(lift, n), Mean("revenue"), "new", "old", planned_n=3_000, **when)


@pytest.mark.parametrize(("lift", "said"), [(0.5, "left out zero first on 2026-04-03"), (0.0, "never left out zero")])
def test_the_running_comparison_is_reported_and_never_judged(lift, said):
    day = by_day(lift)
    rows = peeking_evidence(day, REVENUE, "new", "old", None, **ASKED)
    (row,) = from_json(to_json(rows))
    assert (row.id, row.validity, row.verdict) == ("method.peeking.sequence", "always", "reported")
    assert (row.value, row.low, row.high, row.n) == tuple(day.iloc[-1][["value", "low", "high", "n"]])
    assert said in row.statement


def test_before_the_burn_in_it_says_so():
    (row,) = peeking_evidence(by_day(0.0, n=600), REVENUE, "new", "old", None, **ASKED)
    assert row.value is None and "no confidence sequence yet" in row.statement
    empty = by_day(0.0).iloc[:0]
    assert peeking_evidence(empty, REVENUE, "new", "old", None, **ASKED)[0].value is None


@pytest.mark.parametrize(
    ("weights", "said"), [({"new": 1, "old": 1}, "at no look"), ({"new": 3, "old": 1}, "first at look ")]
)
def test_the_arms_sizes_are_reported_with_their_look(weights, said):
    daily = gained(units(0.0), list(weights))
    sizes = sequential_srm({arm: daily[arm].tolist() for arm in weights}, weights)
    row = peeking_evidence(by_day(0.0), REVENUE, "new", "old", sizes, **ASKED)[1]
    assert said in row.statement
    assert (row.p, row.n) == (sizes.p, 3_000)


def seen():
    return effect(moments(units(0.1), Mean("revenue"), "arm"), Mean("revenue"), "new", "old")


def test_an_effect_is_read_as_the_plan_allows():
    fixed = seen()
    assert as_planned(fixed, None) is fixed
    always = as_planned(fixed, Look("always", 4_000, (3_000,)))
    assert always == sequence(fixed, 4_000)
    looked = as_planned(fixed, Look("look", 4_000, (1_000, 3_000), looks=3, spending="pocock"))
    assert looked == at_look(fixed, [1_000, 3_000], 4_000, looks=3, spending="pocock")
    assert [measured(read)["validity"] for read in (fixed, always, looked)] == ["end", "always", "look"]


def test_a_plan_may_ask_for_a_later_start_and_never_for_an_earlier_one():
    with pytest.raises(Refusal, match="the burn-in is 2,000"):
        as_planned(seen(), Look("always", 4_000, (3_000,), burn_in=2_000))
    few = units(0.1, 800)
    small = effect(moments(few, Mean("revenue"), "arm"), Mean("revenue"), "new", "old")
    with pytest.raises(Refusal, match="the burn-in is 500"):
        as_planned(small, Look("always", 4_000, (800,), burn_in=2))


@pytest.mark.parametrize("look", [Look("always", 4_000, (3_000,)), Look("look", 4_000, (1_000, 3_000), looks=3)])
def test_what_is_no_difference_of_arms_is_read_as_strictly(look):
    """A fixed interval at the stricter level is as wide as the one the plan allows."""
    fixed = effect(moments(units(0.1), Mean("revenue"), "arm"), Mean("revenue"), "new", "old", interval="welch")
    planned, reach = as_planned(fixed, look), stats.norm.isf(stricter(look) / 2)
    assert (planned.high - planned.low) / 2 / fixed.se == pytest.approx(reach, rel=2e-3)
    assert stricter(None) == 0.05
    assert stricter(Look("look", 4_000_000, (3_000,), looks=2)) > 0  # no alpha at all: an interval all the same


def test_gained_counts_everybody_once_and_an_empty_arm_as_nobody():
    daily = gained(units(0.0), ["new", "old", "gone"])
    assert daily.to_numpy().sum() == 3_000 and daily["gone"].sum() == 0 and len(daily) == 15


def test_stopped_counts_an_experiment_once():
    value = np.array([[3.0, 3.0, 0.0], [0.0, -3.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    assert stopped(value, np.ones((4, 3)), 1.96) == 0.5
    assert stopped(value, np.ones((4, 3)), np.array([9.0, 2.0, 9.0])) == 0.5


def test_the_figure_says_what_it_shows():
    day = by_day(0.5)
    _, alt, finding = watched(day, "Difference", truth=0.5)
    usual = int(((day["fixed_low"] > 0) | (day["fixed_high"] < 0)).sum())
    always = int((day["low"] > 0).sum())
    assert always < usual
    assert (
        f"Of {len(day)} looks, the usual interval leaves out zero at {usual}, the confidence sequence at {always}"
        in finding
    )
    assert "holds the truth at every look" in finding
    assert "does not hold the truth" in watched(day, "Difference", truth=5.0)[2]
    assert f"over {len(day)} daily looks" in alt
    assert "not there yet" in watched(by_day(0.0, n=600), "Difference")[1]
