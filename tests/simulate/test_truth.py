"""The truth is true: closed forms against a large paired simulation, and every scenario's own formula."""

import numpy as np
import pytest
from scipy.stats import norm

from fairlift.simulate import costs_of, draw_units, effects, holds, population, read_scenario, scenarios
from fairlift.simulate.calendar import calendar
from fairlift.simulate.chunk import chunks, draw_chunk, stream
from fairlift.simulate.orders import _cents, sell
from fairlift.simulate.people import draw_people
from fairlift.simulate.scenario import ARMS, BENEFIT, TREATMENTS
from fairlift.simulate.truth import EFFECTS, Tally, _cells, _under, leaked_share, lost_share, outcomes

REVENUE = "sales.incremental.revenue@all:personalised-vs-holdout"


def truth_of(name: str) -> dict[str, float]:
    s = read_scenario(name)
    found = effects(population(s), costs_of(s, s.customers), s.window_days, s.customers, s.study["protected"])
    return found | lost_share(s) | leaked_share(s)


class Moments:
    """Means and their standard errors of many columns, a block at a time."""

    def __init__(self):
        self.n, self.sums, self.squares = 0, {}, {}

    def add(self, columns: dict[str, np.ndarray]) -> None:
        self.n += len(next(iter(columns.values())))
        for name, values in columns.items():
            self.sums[name] = self.sums.get(name, 0.0) + values.sum()
            self.squares[name] = self.squares.get(name, 0.0) + (values**2).sum()

    def mean(self, name: str) -> float:
        return self.sums[name] / self.n

    def se(self, name: str) -> float:
        return np.sqrt(max(self.squares[name] / self.n - self.mean(name) ** 2, 0) / self.n)


def rich():
    """A scenario in which everything that has an effect has a visible one."""
    s = read_scenario("unfair-targeting")
    changes = {
        "opt_outs": 150,
        "unsubscribes": 200,
        "complaints": 80,
        "requests": 60,
        "returns": 0.12,
        "depth": 0.25,
        "discounted": 0.4,
    }
    treatments = s.treatments | {"personalised": s.treatments["personalised"].model_copy(update=changes)}
    basket = s.basket.model_copy(update={"redeem": 0.6, "reward": 0.3})
    offers = s.offers.model_copy(update={"leak": 0.2})
    return s.model_copy(update={"treatments": treatments, "basket": basket, "offers": offers})


@pytest.fixture(scope="module")
def paired():
    """Means a customer in each arm, and paired differences from the holdout, over 100,000 customers."""
    s = rich()
    arms, gaps = {arm: Moments() for arm in ARMS}, {arm: Moments() for arm in ARMS[:2]}
    for chunk in chunks(s, 11, 100_000):
        eligible = chunk.people.eligible
        found = {
            arm: {name: values[eligible] for name, values in outcomes(s, chunk, chunk.people.received[place]).items()}
            for place, arm in enumerate(ARMS)
        }
        for arm, columns in found.items():
            arms[arm].add(columns)
        for arm, moments in gaps.items():
            moments.add({name: values - found["holdout"][name] for name, values in found[arm].items()})
    return s, arms, gaps


def test_population_means_are_those_of_a_large_simulation(paired):
    s, arms, _ = paired
    means = population(s)
    far = {}
    for arm, moments in arms.items():
        for name, expected in means.arms[arm].items():
            if name in moments.sums:
                far[arm, name] = (moments.mean(name) - expected) / (moments.se(name) or 1e-12)
    assert len(far) > 40
    assert max(map(abs, far.values())) < 4, {key: z for key, z in far.items() if abs(z) > 3}


def test_population_effects_are_those_of_a_large_paired_simulation(paired):
    """Paired differences have a fraction of the noise, so they see errors the means would hide."""
    s, _, gaps = paired
    means = population(s)
    far = {}
    for arm, moments in gaps.items():
        for name, expected in means.arms[arm].items():
            if name in moments.sums:
                gap = expected - means.arms["holdout"][name]
                far[arm, name] = (moments.mean(name) - gap) / (moments.se(name) or 1e-12)
    assert gaps["personalised"].se("revenue") < 0.25  # against 0.7 unpaired
    assert max(map(abs, far.values())) < 4, {key: z for key, z in far.items() if abs(z) > 3}


def test_money_per_order_is_as_expected_of_each_kind_of_customer():
    """Given who buys, only the basket is left to chance: a much sharper eye on every price, cost and return."""
    s = rich()
    s = s.model_copy(update={"activity": s.activity.model_copy(update={"price_sigma": 0.0})})
    when, cells = calendar(s), _cells(s)
    sizes = [len(s.values(name)) for name in s.attributes]
    names = ("revenue", "discount", "cost_of_goods", "refund", "cost_recovered", "fulfilment_cost", "supplier_funding")
    for treatment, name in enumerate(TREATMENTS):
        expected = _under(s, cells, treatment)
        found = {column: [0.0, 0.0] for column in (*names, "items", "contribution")}
        for number in range(4):
            chunk = draw_chunk(s, 21, number, 0, 20_000)
            cell = np.ravel_multi_index([chunk.people.codes[attribute] for attribute in s.attributes], sizes)
            sold = sell(s, when, chunk.possible, np.full(len(chunk.possible.owner), treatment))
            known = sold.kept & (chunk.possible.at < when.as_of - 30 * 86_400)  # whose returns are in
            for column, sums in found.items():
                scale = 1 if column == "items" else 100
                per_order = (expected[column] / expected["orders"])[cell][chunk.possible.owner[known]]
                gap = getattr(sold, column)[known] / scale - per_order
                sums[0] += gap.sum()
                sums[1] += (gap**2).sum()
        far = {column: total / np.sqrt(squares or 1) for column, (total, squares) in found.items()}
        assert max(map(abs, far.values())) < 4, (name, far)


def test_conversion_is_the_average_chance_of_buying_at_all():
    """The chance given each customer's own rate, averaged: no noise from whether she bought."""
    s = read_scenario("demo")
    when, chances = calendar(s), []
    for number in range(10):
        people = draw_people(s, when, stream(31, number, "people"), 0, 20_000)
        rate = people.rate * s.effect("orders")[people.received[0]]
        chances.append(-np.expm1(-rate * when.demand(people.assigned, people.assigned + when.window))[people.eligible])
    chance = np.concatenate(chances)
    expected = population(s).arms["personalised"]["converted"]
    assert abs(chance.mean() - expected) < 4 * chance.std() / np.sqrt(len(chance)) < 0.003


def test_rounding_to_cents_is_without_bias():
    s = read_scenario("demo")
    possible = draw_chunk(s, 41, 0, 0, 20_000).possible
    for share in (0.1, 0.5, 0.62):
        error = _cents(possible.price * share) - possible.price * share
        assert abs(error).max() <= 0.5 + 1e-9
        assert abs(error.mean()) < 4 * error.std() / np.sqrt(len(error)) < 0.003


def test_shares_reached_by_group_are_those_of_a_large_simulation(paired):
    s, _, _ = paired
    tally = Tally(s)
    for chunk in chunks(s, 12, 40_000):
        tally.add(chunk)
    expected = population(s).reached
    for key, (share, hits) in tally.means().reached.items():
        n = share * tally.n
        assert abs(share - expected[key][0]) < 4 * np.sqrt(share * (1 - share) / tally.n), key
        assert abs(hits - expected[key][1]) < 4 * np.sqrt(expected[key][1] * (1 - expected[key][1]) / n), key


def test_sample_effects_are_paired_averages_over_the_customers_drawn(paired):
    s, arms, gaps = paired
    tally = Tally(s)
    for chunk in chunks(s, 11, 100_000):
        tally.add(chunk)
    found = effects(tally.means(), [], s.window_days, 100_000)
    for name, metric in EFFECTS.items():
        if isinstance(metric, str):
            assert found[f"{name}@all:personalised-vs-holdout"] == pytest.approx(gaps["personalised"].mean(metric))
    one, two = arms["personalised"], arms["holdout"]
    order_value = one.mean("revenue") / one.mean("orders") - two.mean("revenue") / two.mean("orders")
    assert found["sales.value.order@all:personalised-vs-holdout"] == pytest.approx(order_value)


def test_the_arm_drawn_shows_its_own_potential_outcome():
    """What a customer does equals what she would do in the arm she is in."""
    s = read_scenario("demo")
    chunk = next(chunks(s, 3, 4_000))
    real = outcomes(s, chunk, chunk.people.treatment)
    for place, _ in enumerate(ARMS):
        would = outcomes(s, chunk, chunk.people.received[place])
        here = chunk.people.arm == place
        for name, values in real.items():
            assert np.array_equal(values[here], would[name][here]), name


def test_no_effect_changes_nothing_anybody_buys():
    s = read_scenario("no-effect")
    chunk = next(chunks(s, 5, 5_000))
    one, two = (outcomes(s, chunk, chunk.people.received[place]) for place in (0, 2))
    for name in ("orders", "revenue", "contribution", "refund", "sessions", "items"):
        assert np.array_equal(one[name], two[name]), name
    assert one["exposures"].sum() > 0


@pytest.mark.parametrize("name", ["novelty", "ramp-simpson"])
def test_expected_orders_hold_where_the_effect_fades_or_the_entering_customers_change(name):
    """Paired over 80,000 customers: a truth that took the multiplier of the first day, or one entry week for all, fails."""
    s, sums = read_scenario(name), np.zeros((2, 2))
    means, n = population(s), 0
    for chunk in chunks(s, 17, 80_000):
        eligible = chunk.people.eligible
        one, two = (outcomes(s, chunk, chunk.people.received[place]) for place in (0, 2))
        n += eligible.sum()
        for row, metric in enumerate(("orders", "revenue")):
            for column, values in enumerate((one[metric], one[metric] - two[metric])):
                expected = means.arms["personalised"][metric] - column * means.arms["holdout"][metric]
                values = values[eligible]
                sums[row, column] += values.sum() - expected * len(values)
    spread = [one["orders"].std(), (one["orders"] - two["orders"])[eligible].std()]
    assert abs(sums[0] / n / (np.array(spread) / np.sqrt(n))).max() < 4
    assert abs(sums[1, 1] / n) < 4 * (one["revenue"] - two["revenue"])[eligible].std() / np.sqrt(n)
    gap = means.arms["personalised"]["orders"] - means.arms["holdout"]["orders"]
    if name == "novelty":  # the full extra over all eight weeks would be seen at once
        wrong = s.treatments["personalised"].novelty.extra * s.offers.reach * means.arms["holdout"]["orders"]
        assert abs(sums[0, 1] / n + gap - wrong) > 20 * spread[1] / np.sqrt(n)


def test_a_novelty_fades_by_half_each_half_life():
    """Extra orders by week after assignment against the integral of the fading factor, over flat demand."""
    s, extra = read_scenario("novelty"), np.zeros(8)
    base = np.zeros(8)
    for chunk in chunks(s, 18, 60_000):
        week = chunk.possible.since // (7 * 86_400)
        for treatment, total in ((np.full(chunk.people.n, 2), extra), (np.zeros(chunk.people.n, dtype=int), base)):
            kept = chunk.possible.kept(s, treatment[chunk.possible.owner]) & (week >= 0) & (week < 8)
            total += np.bincount(week[kept], minlength=8)
    decay = np.log(2) / s.treatments["personalised"].novelty.half_life_weeks
    edges = np.exp(-decay * np.arange(9))
    expected = 0.6 * -np.diff(edges) / decay
    se = np.sqrt(extra - base) / base
    assert (abs((extra - base) / base - expected) < 4 * np.maximum(se, 0.005)).all()


def test_a_ramp_draws_each_day_with_its_own_weights_and_moves_nothing_else():
    s = read_scenario("ramp-simpson")
    still = s.model_copy(update={"ramp": []})
    one, two = (next(chunks(which, 9, 20_000)).people for which in (s, still))
    assert np.array_equal(one.rate, two.rate)
    assert np.array_equal(one.assigned, two.assigned)
    assert np.array_equal(one.arm == 2, two.arm == 2)  # the holdout is the same people
    day = np.searchsorted(calendar(s).batches, one.assigned)
    for stage, place in zip(s.stages, range(3), strict=True):
        here = s.stage_of_day[day] == place
        share = (one.arm[here] == 0).mean()
        assert abs(share - stage.weights["personalised"]) < 4 * np.sqrt(0.25 / here.sum())
    assert population(s).arms == population(still).arms


@pytest.mark.parametrize("name", scenarios())
def test_every_scenario_is_true_to_its_formula(name):
    judged = holds(read_scenario(name).truth.formula, truth_of(name))
    assert all(judged.values()), judged


def test_a_formula_can_fail():
    assert holds({BENEFIT: "= 0"}, truth_of("clean-win")) == {BENEFIT: False}


@pytest.mark.parametrize("customers", [1_000, 20_000, 123_457])
def test_break_even_is_exact_for_any_number_of_customers(customers):
    s = read_scenario("break-even")
    found = effects(population(s), costs_of(s, customers), s.window_days, customers)
    assert abs(found[BENEFIT]) < 1e-12
    assert found[REVENUE] > 10


def test_the_demo_has_ninety_percent_power_with_its_holdout():
    s, units = read_scenario("demo"), draw_units("demo", seed=77)
    by_arm = units.groupby("arm")["revenue"].agg(["var", "size"]).loc[["personalised", "holdout"]]
    se = np.sqrt((by_arm["var"] / by_arm["size"]).sum())
    assert norm.cdf(truth_of("demo")[REVENUE] / se - norm.isf(0.025)) > 0.9
    assert s.weights["holdout"] <= 0.2


def test_costs_fall_on_the_personalised_arm_only():
    s = read_scenario("demo")
    found = truth_of("demo")
    pairs = {
        pair: found[f"sales.incremental.contribution@all:{pair}"] - found[f"sales.incremental.profit@all:{pair}"]
        for pair in ("personalised-vs-holdout", "personalised-vs-control", "control-vs-holdout")
    }
    assert pairs["control-vs-holdout"] == 0
    assert pairs["personalised-vs-holdout"] == pytest.approx(pairs["personalised-vs-control"])
    exposures = population(s).arms["personalised"]["personalised_exposures"]
    yearly = (90_000 + 30_000 + 110_000 + 60_000 / 3) / s.customers
    assert pairs["personalised-vs-holdout"] == pytest.approx(yearly * 56 / 365 + 0.002 * exposures)


def test_the_share_that_leaked_is_that_of_a_large_simulation():
    s = read_scenario("contaminated")
    units = draw_units(s, seed=5)
    for arm in ("control", "holdout"):
        shown = units.loc[units["arm"] == arm, "personalised_exposures"] > 0
        expected = leaked_share(s)[f"method.contamination.share@all:{arm}"]
        assert abs(shown.mean() - expected) <= 4 * np.sqrt(expected * (1 - expected) / len(shown)), arm


def test_a_leak_dilutes_the_effect_in_the_population():
    """The holdout is a mixture, so the effect shrinks by the leaked share of what full exposure does."""
    clean, leaky = (population(read_scenario(name)).arms for name in ("clean-win", "contaminated"))
    for metric in ("revenue", "contribution", "complained"):
        full = (clean["personalised"][metric] - clean["holdout"][metric]) / read_scenario("clean-win").offers.reach
        assert leaky["holdout"][metric] - clean["holdout"][metric] == pytest.approx(0.08 * full)
        assert leaky["personalised"][metric] == clean["personalised"][metric]


def test_treatments_are_ordered_as_the_arms_mean_them():
    assert TREATMENTS[0] == "none"
    s = read_scenario("demo")
    people = next(chunks(s, 1, 2_000)).people
    assert set(people.received[ARMS.index("holdout")]) == {0}
    assert set(people.received[ARMS.index("control")]) == {0, 1}
    assert set(people.received[ARMS.index("personalised")]) == {0, 2}
