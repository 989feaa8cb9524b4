"""The tables of the contract, made from what happened: Arrow columns, a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairlift.simulate.calendar import DAY, Calendar
from fairlift.simulate.chunk import Chunk, met, stream
from fairlift.simulate.offers import slots
from fairlift.simulate.people import PERSONALISED
from fairlift.simulate.scenario import ARMS, VARIANTS, Scenario
from fairlift.study.settings import Cost

TIME = pa.timestamp("us", tz="UTC")
SPAN = 10_000_000  # rows of one table in one chunk stay below this, so that ids never meet
POINT = 0.01  # what one loyalty point is worth when redeemed
REQUESTS = ("access", "erasure", "objection", "rectification", "portability", "restriction")
TOPICS = ("service", "offer", "price", "privacy", "other")


def chunk_tables(s: Scenario, seed: int, chunk: Chunk) -> dict[str, pa.Table]:
    """Every table that grows with the customers, for one chunk."""
    rng = stream(seed, chunk.number, "records")
    orders = np.flatnonzero(chunk.sold.kept)
    return {
        "customers": _customers(s, chunk, rng),
        "assignments": _assignments(s, chunk),
        "exposures": _exposures(s, chunk, rng),
        "orders": _orders(s, chunk, orders),
        "order_lines": _order_lines(s, chunk),
        "sessions": _sessions(s, chunk),
        "loyalty_events": _loyalty_events(s, chunk, orders, rng),
        "surveys": _surveys(s, chunk, rng),
        "consents": _consents(s, chunk, rng),
        "privacy_requests": _privacy_requests(s, chunk, rng),
        "complaints": _complaints(s, chunk, rng),
        "model_scores": _model_scores(chunk, rng),
    }


def whole_tables(s: Scenario, seed: int, when: Calendar, costs: Iterable[Cost], customers: int) -> dict[str, pa.Table]:
    """The small tables that do not grow with the customers: stores, incidents, costs."""
    rng = stream(seed, 0xFFFF_FFFF, "records")
    regions = s.values("region")
    per_region = s.stores // len(regions) or 1
    count = per_region * len(regions)
    stores = {
        "store_id": ids("P", np.arange(count), 4),
        "region": labels(regions, np.repeat(np.arange(len(regions)), per_region)),
        "opened_at": times(when.begin - DAY * rng.integers(400, 6000, count)),
        "format": labels(["city", "suburb", "centre"], rng.integers(3, size=count)),
    }
    kinds = ["data", "model", "offer", "outage"]
    n = 6
    began = np.sort(rng.integers(when.begin, when.as_of - 20 * DAY, n))
    noticed = began + rng.integers(1800, 3 * DAY, n)
    kind = rng.integers(4, size=n)
    incidents = {
        "incident_id": ids("I", np.arange(n), 4),
        "kind": labels(kinds, kind),
        "detected_at": times(noticed),
        "started_at": times(began),
        "notified_at": times(noticed + rng.integers(3600, 3 * DAY, n), kind == 0),
        "resolved_at": times(noticed + rng.integers(3600, 10 * DAY, n), np.arange(n) < n - 1),
        "severity": rng.integers(1, 4, n),
        "people_affected": (rng.random(n) ** 3 * 0.01 * customers).astype(np.int64),
    }
    return {"stores": pa.table(stores), "incidents": pa.table(incidents), "costs": _costs(when, list(costs), customers)}


def ids(prefix: str, numbers: np.ndarray, width: int) -> pa.Array:
    """Ids of equal length, such as C00000042, built as one block of bytes."""
    n, head = len(numbers), prefix.encode()
    block = np.empty((n, len(head) + width), dtype=np.uint8)
    block[:, : len(head)] = np.frombuffer(head, dtype=np.uint8)
    left = np.asarray(numbers, dtype=np.int64)
    for place in range(width - 1, -1, -1):
        left, digit = np.divmod(left, 10)
        block[:, len(head) + place] = digit + ord("0")
    offsets = np.arange(0, (n + 1) * block.shape[1], block.shape[1], dtype=np.int32)
    return pa.StringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(block))


def times(seconds: np.ndarray, known: np.ndarray | None = None) -> pa.Array:
    """Seconds since 1970 as times in UTC; empty where not `known`."""
    return pa.array(np.asarray(seconds, dtype=np.int64) * 1_000_000, mask=None if known is None else ~known).cast(TIME)


def labels(values: Iterable[str], codes: np.ndarray) -> pa.Array:
    """Text from places in a list of values."""
    return pa.DictionaryArray.from_arrays(np.asarray(codes, dtype=np.int32), pa.array(list(values), pa.string()))


def money(cents: np.ndarray) -> np.ndarray:
    """Cents as money."""
    return cents / 100


def _rows(prefix: str, chunk: Chunk, n: int) -> pa.Array:
    return ids(prefix, chunk.number * SPAN + np.arange(n), 12)


def _who(chunk: Chunk, owner: np.ndarray) -> pa.Array:
    return ids("C", chunk.people.first + owner.astype(np.int64), 8)


def _customers(s: Scenario, chunk: Chunk, rng: np.random.Generator) -> pa.Table:
    people, n = chunk.people, chunk.people.n
    year = 1970 + people.assigned.astype("datetime64[s]").astype("datetime64[Y]").astype(np.int64)
    known = {
        name: labels(s.values(name), codes)
        for name, codes in people.codes.items()
        if name not in ("age_band", "loyalty_member")
    }
    return pa.table(
        {
            "customer_id": _who(chunk, np.arange(n)),
            "joined_at": times(chunk.calendar.begin - rng.integers(400 * DAY, 2400 * DAY, n)),
            "household_id": ids("H", people.household, 8),
            "birth_year": year - people.age,
            **known,
            "store_id": ids("P", people.store, 4),
            "loyalty_member": people.member(s),
            "pre_spend_year": money(people.pre_spend),
        }
    )


def _assignments(s: Scenario, chunk: Chunk) -> pa.Table:
    here = np.flatnonzero(chunk.people.recorded)
    return pa.table(
        {
            "experiment": labels([experiment(s)], np.zeros(len(here))),
            "customer_id": _who(chunk, here),
            "variant": labels([VARIANTS[arm] for arm in ARMS], chunk.people.arm[here]),
            "assigned_at": times(chunk.people.assigned[here]),
        }
    )


def experiment(s: Scenario) -> str:
    """The experiment's name."""
    return s.study.get("experiment", "personal-offers")


def _exposures(s: Scenario, chunk: Chunk, rng: np.random.Generator) -> pa.Table:
    people, shown, reactions, plan = chunk.people, chunk.shown, chunk.reactions, slots(s)
    n = len(shown.owner)
    kinds = list(s.basket.categories)
    at = people.assigned[shown.owner] + plan.after[shown.slot]
    # a personal offer is mostly of the customer's own category; the others follow what sells best
    mine = shown.personalised & (rng.random(n, dtype=np.float32) < 0.8)
    category = np.where(mine, people.favourite[shown.owner], rng.integers(len(kinds), size=n))
    depth = s.effect("depth")[people.treatment[shown.owner]]
    price = np.array([kind.price for kind in s.basket.categories.values()])[category]
    offers = [f"{'personal' if own else 'bestseller'} {kind}" for own in (False, True) for kind in kinds]
    reasons = [f"Because you bought {kind}" for kind in kinds] + ["Popular with our customers"]
    channels = sorted({slot.channel for slot in s.offers.slots})
    by_slot = np.array([channels.index(name) for name in plan.channel])
    return pa.table(
        {
            "exposure_id": _rows("E", chunk, n),
            "customer_id": _who(chunk, shown.owner),
            "offer": labels(offers, category + len(kinds) * shown.personalised),
            "channel": labels(channels, by_slot[shown.slot]),
            "shown_at": times(at),
            "personalised": shown.personalised,
            "position": rng.integers(1, 4, n),
            "price_offered": np.round(price * (1 - depth), 2),
            "opened_at": times(at + reactions.open_delay, reactions.opened),
            "clicked_at": times(at + reactions.open_delay + reactions.click_delay, reactions.clicked),
            "model_version": labels(["bestsellers-1", "recommender-1"], shown.personalised),
            "reason": labels(reasons, np.where(mine, category, len(kinds))),
        }
    )


def _orders(s: Scenario, chunk: Chunk, orders: np.ndarray) -> pa.Table:
    possible, sold = chunk.possible, chunk.sold
    in_store = list(s.basket.channels).index("store") if "store" in s.basket.channels else -1
    owner, channel = possible.owner[orders], possible.channel[orders]
    names = (
        "revenue",
        "discount",
        "reward",
        "cost_of_goods",
        "refund",
        "cost_recovered",
        "fulfilment_cost",
        "supplier_funding",
    )
    store = ids("P", chunk.people.store[owner], 4)
    return pa.table(
        {
            "order_id": ids("O", chunk.number * SPAN + orders, 12),
            "customer_id": _who(chunk, owner),
            "ordered_at": times(possible.at[orders]),
            **{name: money(getattr(sold, name)[orders]) for name in names},
            "channel": labels(s.basket.channels, channel),
            "store_id": pc.if_else(pa.array(channel == in_store), store, pa.scalar(None, pa.string())),
        }
    )


def _order_lines(s: Scenario, chunk: Chunk) -> pa.Table:
    possible, sold = chunk.possible, chunk.sold
    kept = np.flatnonzero(sold.kept_line)
    order, category = possible.order[kept].astype(np.int64), possible.category[kept]
    kinds = list(s.basket.categories)
    product = np.minimum(possible.price[kept] // 300, 99)  # one product a price band, so that a product has a price
    return pa.table(
        {
            "order_id": ids("O", chunk.number * SPAN + order, 12),
            "line": kept - possible.starts[order] + 1,
            "category": labels(kinds, category),
            "product_id": labels(
                [f"{kind}-{band:02d}" for kind in kinds for band in range(100)],
                category.astype(np.int32) * 100 + product,
            ),
            "quantity": possible.quantity[kept].astype(np.int64),
            "price": money(possible.price[kept]),
            "discount": money(sold.line_discount[kept]),
            "cost": money(sold.line_cost[kept]),
            "returned_quantity": sold.line_returned[kept].astype(np.int64),
        }
    )


def _sessions(s: Scenario, chunk: Chunk) -> pa.Table:
    visits = chunk.visits
    kept = np.flatnonzero(chunk.visited)
    return pa.table(
        {
            "session_id": ids("S", chunk.number * SPAN + kept, 12),
            "customer_id": _who(chunk, visits.owner[kept]),
            "started_at": times(visits.at[kept]),
            "channel": labels(s.basket.channels, visits.channel[kept]),
            "seconds": visits.seconds[kept],
            "pages": visits.pages[kept],
        }
    )


def _loyalty_events(s: Scenario, chunk: Chunk, orders: np.ndarray, rng: np.random.Generator) -> pa.Table:
    people, possible, sold, when = chunk.people, chunk.possible, chunk.sold, chunk.calendar
    members = np.flatnonzero(people.member(s))
    earning = orders[people.member(s)[possible.owner[orders]]]
    paying = orders[sold.reward[orders] > 0]
    last = np.full(people.n, when.begin)
    np.maximum.at(last, possible.owner[orders], possible.at[orders])
    leaving = members[(rng.random(len(members)) < 0.01) & (last[members] < when.as_of - DAY)]
    blocks = (  # event, who, when, points
        (0, members, when.begin - rng.integers(DAY, 390 * DAY, len(members)), np.full(len(members), 100)),
        (1, possible.owner[earning], possible.at[earning], sold.revenue[earning] // 100),
        (2, possible.owner[paying], possible.at[paying], sold.reward[paying]),
        (4, leaving, last[leaving] + DAY, np.zeros(len(leaving), dtype=np.int64)),
    )
    points = np.concatenate([block[3] for block in blocks])
    return pa.table(
        {
            "event_id": _rows("L", chunk, len(points)),
            "customer_id": _who(chunk, np.concatenate([block[1] for block in blocks])),
            "happened_at": times(np.concatenate([block[2] for block in blocks])),
            "event": labels(
                ["join", "earn", "redeem", "expire", "leave"],
                np.repeat([b[0] for b in blocks], [len(b[1]) for b in blocks]),
            ),
            "points": points,
            "value": np.round(points * POINT, 2),
        }
    )


def _surveys(s: Scenario, chunk: Chunk, rng: np.random.Generator) -> pa.Table:
    people, when = chunk.people, chunk.calendar
    asked = np.flatnonzero(people.recorded & (rng.random(people.n) < s.surveyed))
    k = len(asked)
    content = rng.standard_normal(k)
    received = people.treatment[asked]
    waves = []
    for after in (False, True):
        treatment = received if after else np.zeros(k, dtype=np.int8)
        feeling = content + 0.5 * rng.standard_normal(k) + s.effect("satisfaction")[treatment]
        # contented customers answer more readily, and so may those who are shown offers
        chance = s.effect("answers")[treatment]
        odds = chance / (1 - chance) * np.exp(0.4 * feeling)
        answered = rng.random(k) < odds / (1 + odds)
        sent = people.assigned[asked] + (
            when.window + rng.integers(DAY, 3 * DAY, k) if after else -rng.integers(DAY, 7 * DAY, k)
        )
        nps = np.clip(np.rint(7.3 + 2.0 * feeling), 0, 10).astype(np.int64)
        csat = np.clip(np.rint(3.8 + 0.8 * feeling), 1, 5).astype(np.int64)
        waves.append((asked, np.full(k, int(after)), sent, sent + rng.integers(600, 5 * DAY, k), answered, nps, csat))
    who, wave, sent, at, answered, nps, csat = (np.concatenate(column) for column in zip(*waves, strict=True))
    return pa.table(
        {
            "survey_id": _rows("V", chunk, len(who)),
            "customer_id": _who(chunk, who),
            "wave": labels(["before", "after"], wave),
            "sent_at": times(sent),
            "answered_at": times(at, answered),
            "nps": pa.array(nps, mask=~answered),
            "csat": pa.array(csat, mask=~answered),
        }
    )


def _consents(s: Scenario, chunk: Chunk, rng: np.random.Generator) -> pa.Table:
    people, when, n = chunk.people, chunk.calendar, chunk.people.n
    everyone = np.arange(n)
    first = when.begin - rng.integers(DAY, 300 * DAY, n)
    opted_out, unsubscribed = chunk.withdrawals.under(s, people.treatment)
    blocks = [  # purpose, who, when, given
        (0, everyone, first, people.eligible),
        (1, everyone, first, np.ones(n, dtype=bool)),
        (2, everyone, first, rng.random(n) < 0.6),
    ]
    for purpose, wait in ((0, opted_out), (1, unsubscribed)):
        leaving = np.flatnonzero(people.eligible & (wait < when.window))
        blocks.append(
            (
                purpose,
                leaving,
                people.assigned[leaving] + wait[leaving].astype(np.int64),
                np.zeros(len(leaving), dtype=bool),
            )
        )
    sizes = [len(block[1]) for block in blocks]
    total = sum(sizes)
    return pa.table(
        {
            "consent_id": _rows("A", chunk, total),
            "customer_id": _who(chunk, np.concatenate([block[1] for block in blocks])),
            "purpose": labels(["personalisation", "email", "push"], np.repeat([block[0] for block in blocks], sizes)),
            "given": np.concatenate([block[3] for block in blocks]),
            "recorded_at": times(np.concatenate([block[2] for block in blocks])),
            "text_version": labels(["2026-01"], np.zeros(total)),
            "channel": labels(["site", "app"], rng.integers(2, size=total)),
        }
    )


def _privacy_requests(s: Scenario, chunk: Chunk, rng: np.random.Generator) -> pa.Table:
    letters, when = chunk.requests, chunk.calendar
    kept = np.flatnonzero(letters.kept(s, met(chunk.people.treatment, letters)))
    n, received = len(kept), letters.at[kept]
    extended = rng.random(n) < 0.05
    closed = received + rng.integers(DAY, 29 * DAY, n) + np.where(extended, 30 * DAY, 0)
    return pa.table(
        {
            "request_id": _rows("R", chunk, n),
            "customer_id": _who(chunk, letters.owner[kept]),
            "type": labels(REQUESTS, rng.choice(len(REQUESTS), n, p=[0.45, 0.25, 0.15, 0.07, 0.05, 0.03])),
            "received_at": times(received),
            "closed_at": times(closed, closed <= when.as_of),
            "extended_at": times(received + 20 * DAY, extended & (received + 20 * DAY <= when.as_of)),
            "market": labels(s.study.get("markets", ["EU"])[:1], np.zeros(n)),
        }
    )


def _complaints(s: Scenario, chunk: Chunk, rng: np.random.Generator) -> pa.Table:
    letters, when = chunk.complaints, chunk.calendar
    received_by = met(chunk.people.treatment, letters)
    kept = np.flatnonzero(letters.kept(s, received_by))
    n, received = len(kept), letters.at[kept]
    # whoever gets personal offers complains of privacy more often than the rest
    plain = rng.choice(len(TOPICS), n, p=[0.45, 0.15, 0.20, 0.05, 0.15])
    about = np.where((received_by[kept] == PERSONALISED) & (rng.random(n) < 0.1), TOPICS.index("privacy"), plain)
    settled = received + rng.integers(DAY // 4, 20 * DAY, n)
    return pa.table(
        {
            "complaint_id": _rows("B", chunk, n),
            "customer_id": _who(chunk, letters.owner[kept]),
            "received_at": times(received),
            "topic": labels(TOPICS, about),
            "resolved_at": times(settled, settled <= when.as_of),
        }
    )


def _model_scores(chunk: Chunk, rng: np.random.Generator) -> pa.Table:
    people, n = chunk.people, chunk.people.n
    leaning = np.log(people.rate) + 0.5 * rng.standard_normal(n)
    return pa.table(
        {
            "score_id": _rows("M", chunk, n),
            "customer_id": _who(chunk, np.arange(n)),
            "scored_at": times(people.assigned - rng.integers(600, 6 * 3600, n)),
            "model_version": labels(["recommender-1"], np.zeros(n)),
            "score": np.round(1 / (1 + np.exp(-leaning)), 6),
            "eligible": people.eligible,
        }
    )


def _costs(when: Calendar, costs: list[Cost], customers: int) -> pa.Table:
    """What the lines of study.yml would have been booked at, month by month, over the experiment."""
    start, end = int(when.batches[0]), int(when.batches[-1]) + when.window
    edges = np.append(np.arange(start, end, 30 * DAY), end)
    years = np.diff(edges) / DAY / 365
    named = [cost for cost in costs if cost.per != "exposure"]
    first = np.eye(1, len(years))[0]  # what is paid once is booked in the first month
    booked = [
        cost.amount * (first if cost.per == "once" else years * (customers if cost.per == "customer_year" else 1))
        for cost in named
    ]
    n = len(named) * len(years)
    return pa.table(
        {
            "cost_id": ids("K", np.arange(n), 4),
            "line": labels([cost.line for cost in named], np.repeat(np.arange(len(named)), len(years))),
            "kind": labels([cost.kind for cost in named], np.repeat(np.arange(len(named)), len(years))),
            "amount": np.round(np.concatenate(booked), 2),
            "from_at": times(np.tile(edges[:-1], len(named))),
            "until_at": times(np.tile(edges[1:], len(named))),
        }
    )
