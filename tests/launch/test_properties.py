"""Nothing that makes the evidence worse, thinner or older improves the decision."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from fairlift.launch.decision import NO_GO, ORDER
from fairlift.study.plan import Standing

MEASURED = (
    "sales.incremental.revenue",
    "sales.incremental.profit",
    "risk.complaints.rate",
    "risk.optout.rate",
    "sales.returns.rate",
    "sales.value.order",
    "ethics.fairness.exposure",
)
# by the plan's or the checklist's margin, so that a draw of 1 lies on it
MARGIN = dict(zip(MEASURED, (0.0, 0.0, 0.002, 0.02, 0.01, -1.0, -0.05), strict=True))
SCALE = dict(zip(MEASURED, (1.0, 0.5, 0.002, 0.02, 0.01, 1.0, 0.05), strict=True))
WAIVED = ("ethics.fairness.exposure", "method.balance.omnibus", "governance.roles.raci", "study.data.set_aside")


LOOKS = [date(2026, 3, 8), date(2026, 3, 22), "end"]
# when the data end, and which intervals the plan and the rows have: the end, any day, a look, and a day that is none
EARLY = datetime(2026, 3, 22, 22, 59, 59, tzinfo=UTC)
TIMINGS = {
    "always": (["always"], "always", None),
    "always, early": (["always"], "always", EARLY),
    "looks": (LOOKS, "look", None),
    "looks, at a look": (LOOKS, "look", EARLY),
    "looks, between them": (LOOKS, "look", EARLY - timedelta(days=3)),
    "end, early": (["end"], "end", EARLY),
}


def timed(world, timing):
    """The world with a plan that looks before the end, its rows read as that plan says."""
    looks, validity, measured = TIMINGS[timing]
    rows = tuple(replace(row, validity=validity) if row.kind == "interval" else row for row in world.rows)
    return world.planned(looks=looks).but(rows=rows, measured=measured or world.measured)


def rank(decision) -> int:
    return ORDER.index(decision.decision)


@st.composite
def worlds(draw, world, answers):
    """A clean win with up to two rows made worse, or better, or small, and perhaps some waivers: near every line."""
    timing = draw(st.sampled_from([None, None, None, *TIMINGS]))
    world = timed(world, timing) if timing else world
    found = world
    for row in draw(st.lists(st.sampled_from(world.rows), max_size=2, unique_by=lambda row: row.key)):
        numbers = {"n": draw(st.sampled_from([21_000, 21_000, 20_000, 19_999, 150]))}
        if row.kind == "interval":
            scale = SCALE.get(row.id, 0.02)
            away = draw(st.sampled_from([1.5, 0.9, 0.3, 0.1, -0.1, -0.3, -0.7, -2.5]))
            half = draw(st.sampled_from([0.05, 0.2, 0.5, 0.8, 1.3])) * scale
            value = MARGIN.get(row.id, 0.02) + (away if row.better == "up" else -away) * scale
            se = half / 1.959964 if row.se is not None else None
            numbers |= {"value": value, "low": value - half, "high": value + half, "se": se}
        elif row.kind == "test":
            numbers |= {"p": draw(st.sampled_from([0.5, 0.01, 1e-5]))}
        found = change(found, row, **numbers)
    for item in draw(st.lists(st.sampled_from(WAIVED), max_size=2, unique=True)):
        segments = ["sex=female"] if item.startswith("ethics") else []
        found = found.answer(item, answers["waived"](segments=segments))
    return found


def check(world, answers, worsen):
    """`worsen` draws a change for the worse; the decision must not improve, with or without an earlier record."""
    check_from(world, answers, lambda found: found, worsen)


def check_from(world, answers, begin, worsen):

    @settings(max_examples=80, deadline=None)
    @given(st.data())
    def holds(data):
        before = begin(data.draw(worlds(world, answers)))
        after = worsen(before, data.draw)
        first = before.decide()
        assert rank(after.decide()) <= rank(first)
        assert rank(after.decide(previous=first)) <= rank(first)

    holds()


def interval_row(world, draw):
    return draw(st.sampled_from([row for row in world.rows if row.kind == "interval"]))


def change(world, row, **numbers):
    return world.but(rows=tuple(replace(r, **numbers) if r.key == row.key else r for r in world.rows))


def test_worlds_reach_every_decision(world, answers):
    """The draws are worth something only if they reach all three decisions."""
    seen = set()

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(worlds(world, answers))
    def collect(found):
        seen.add(found.decide().decision)

    collect()
    assert seen == set(ORDER)


def test_moving_value_and_limits_the_bad_way(world, answers):
    def worsen(before, draw):
        row = interval_row(before, draw)
        by = draw(st.floats(0, 5)) * abs(row.high - row.low) * (-1 if row.better == "up" else 1)
        return change(before, row, value=row.value + by, low=row.low + by, high=row.high + by)

    check(world, answers, worsen)


def test_widening_an_interval(world, answers):
    def worsen(before, draw):
        row = interval_row(before, draw)
        down, up = draw(st.floats(0, 3)), draw(st.floats(0, 3))
        width = row.high - row.low
        se = row.se * (1 + (down + up) / 2) if row.se is not None else None
        return change(before, row, low=row.low - down * width, high=row.high + up * width, se=se)

    check(world, answers, worsen)


def test_lowering_n(world, answers):
    def worsen(before, draw):
        row = draw(st.sampled_from(before.rows))
        return change(before, row, n=draw(st.integers(0, row.n)))

    check(world, answers, worsen)


def test_reading_an_interval_as_if_it_were_a_fixed_one(world, answers):
    def worsen(before, draw):
        row = interval_row(before, draw)
        return change(before, row, validity="end")

    check(world, answers, worsen)


def test_registering_no_look_where_there_were_some(world, answers):
    def worsen(before, draw):
        early = before.but(measured=min(before.measured, EARLY))
        return early.planned(looks=["end"])

    check_from(world, answers, lambda found: found.but(measured=min(found.measured, EARLY)), worsen)


def test_running_on_after_the_end(world, answers):
    """More customers than at the end, and any better numbers: the decision that was taken does not improve by them."""

    @settings(max_examples=80, deadline=None)
    @given(st.data())
    def holds(data):
        before = data.draw(worlds(world, answers)).but(measured=world.measured).planned(looks=["end"])
        first = before.decide()
        open_ = [r for r in before.rows if r.versus and r.kind == "interval" and r.n >= 20_000]
        after = before
        for row in (
            data.draw(st.lists(st.sampled_from(open_), min_size=1, unique_by=lambda row: row.key)) if open_ else ()
        ):
            shift = data.draw(st.floats(0, 5)) * (row.high - row.low) * (1 if row.better == "up" else -1)
            numbers = {name: getattr(row, name) + shift for name in ("value", "low", "high")}
            after = change(after, row, n=row.n + data.draw(st.integers(1, 9_000)), **numbers)
        if first.decision == NO_GO:
            assert after.decide(previous=first).decision == NO_GO

    holds()


def test_deleting_a_row_or_a_group(world, answers):
    def worsen(before, draw):
        gone = draw(st.sampled_from(before.rows))
        kept = tuple(row for row in before.rows if row.key != gone.key)
        return before.but(rows=kept, listed=before.rows)

    check(world, answers, worsen)


def test_deleting_a_file_with_its_entry_in_the_manifest(world, answers):
    def worsen(before, draw):
        gone = draw(st.sampled_from(sorted({row.id for row in before.rows})))
        kept = tuple(row for row in before.rows if row.id != gone)
        return before.but(rows=kept, listed=kept)

    check(world, answers, worsen)


def test_deleting_an_answer(world, answers):
    def worsen(before, draw):
        return before.answer(draw(st.sampled_from([item for item, _ in before.answers])), None)

    check(world, answers, worsen)


def test_a_row_growing_stale(world, answers):
    def worsen(before, draw):
        return before.but(stale=(draw(st.sampled_from(sorted({row.id for row in before.rows}))),))

    check(world, answers, worsen)


def test_letting_time_pass(world, answers):
    def worsen(before, draw):
        return before.but(clock=before.clock + timedelta(days=draw(st.integers(0, 400))))

    def ageing(before, draw):
        row = draw(st.sampled_from(before.rows))
        return worsen(change(before, row, expires_at="2026-06-01"), draw)

    check(world, answers, worsen)
    check(world, answers, ageing)


def test_time_passing_does_not_end_a_test_whose_data_stop_short(world, answers):
    early = world.but(measured=world.measured - timedelta(days=7))
    assert early.decide().decision == NO_GO
    assert early.but(clock=early.clock + timedelta(days=60)).decide().decision == NO_GO


def test_a_worse_test_of_the_randomisation(world, answers):
    def worsen(before, draw):
        row = draw(st.sampled_from([row for row in before.rows if row.kind == "test"]))
        return change(before, row, p=row.p * draw(st.floats(0, 1)), high=row.high * draw(st.floats(1, 5)))

    check(world, answers, worsen)


def test_exploratory_or_quasi_evidence_never_goes(world, answers):
    @settings(max_examples=80, deadline=None)
    @given(worlds(world, answers), st.sampled_from(["status", "design", "standing"]), st.booleans())
    def holds(found, what, profit):
        metric = "sales.incremental.profit" if profit else "sales.incremental.revenue"
        if what == "standing":
            found = found.but(standing=Standing("exploratory", "too late"))
        else:
            value = {"status": "exploratory", "design": "quasi"}[what]
            found = found.but(rows=tuple(replace(r, **{what: value}) if r.id == metric else r for r in found.rows))
        assert found.decide().decision == NO_GO

    holds()
