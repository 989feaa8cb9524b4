"""Who gets what: salted hashes that give every unit the same arm forever, the holdout drawn first, layers apart."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from itertools import pairwise

import pandas as pd
from scipy import special

from fairlift.errors import Problem
from fairlift.evidence import Evidence
from fairlift.format import estimate, number
from fairlift.method.factorial import OFF, cell_shares
from fairlift.method.moments import Moments, _absent, _held, _refuse

BUCKETS = 1_000_000
DIGITS = 15  # hexadecimal digits of the hash that are read as a number
RANGE = 16**DIGITS
HELD = "holdout"
HOLDOUT = "universal-holdout"  # the holdout's own namespace
MISSING = "missing"
SEPARATOR = " × "
_OWN = ("fl_row", "fl_who", "fl_held", "fl_stratum", "fl_start", "fl_bucket")  # columns of ours while a draw is made


def digest(unit: str | int, salt: str, namespace: str) -> str:
    """The hash of one unit: MD5 of "salt/namespace/unit" in UTF-8, as 32 hexadecimal digits.

    MD5 because DuckDB, PostgreSQL, Spark, Snowflake and MySQL have it built in under this name; nothing secret rests on it.

    >>> digest("C1", salt="s", namespace="n") == hashlib.md5(b"s/n/C1").hexdigest()
    True
    """
    _refuse(_names(salt, namespace) + _unit(unit))
    return hashlib.md5(f"{salt}/{namespace}/{unit}".encode(), usedforsecurity=False).hexdigest()


def bucket(unit: str | int, salt: str, namespace: str) -> int:
    """The unit's bucket, 0 to 999,999: its hash read as a fraction of the whole range.

    >>> bucket("C1", salt="s", namespace="n"), bucket("C1", salt="s", namespace="other")
    (587366, 990054)
    """
    return int(digest(unit, salt, namespace)[:DIGITS], 16) * BUCKETS // RANGE


@dataclass(frozen=True)
class Allocation:
    """Which buckets belong to which arm: (first bucket, one past the last, arm); other buckets are not in the experiment."""

    segments: tuple[tuple[int, int, str], ...]

    def arm(self, bucket: int) -> str | None:
        """The arm of a bucket; None outside of the experiment."""
        return next((arm for low, high, arm in self.segments if low <= bucket < high), None)

    @property
    def shares(self) -> dict[str, float]:
        """Each arm's share of all units."""
        found: dict[str, float] = {}
        for low, high, arm in self.segments:
            found[arm] = found.get(arm, 0) + (high - low)
        return {arm: size / BUCKETS for arm, size in found.items()}

    def moved(self, after: Allocation) -> float:
        """The share of all units that were in an arm and are in another, or in none, under the allocation `after`."""
        edges = sorted({edge for low, high, _ in (*self.segments, *after.segments) for edge in (low, high)})
        left = [(a, b) for a, b in pairwise(edges) if self.arm(a) is not None and self.arm(a) != after.arm(a)]
        return sum(b - a for a, b in left) / BUCKETS

    def __str__(self) -> str:
        width = max(len(arm) for *_, arm in self.segments)
        rows = [f"  {arm:<{width}}  buckets {low:>7,} to {high - 1:>7,}" for low, high, arm in self.segments]
        shares = ", ".join(f"{arm} {number(share, 'share')}" for arm, share in self.shares.items())
        return "\n".join([f"allocation: {shares}", *rows])


def allocate(weights: Mapping[str, float], share: float = 1.0, before: Allocation | None = None) -> Allocation:
    """Give each arm its buckets: `weights` on any common scale, `share` of all units in the experiment at all.

    With `before`, the allocation so far, only units that must move do: an arm that shrinks gives up its last buckets, an
    arm that grows takes those, and then units that were in no arm.  So a ramp of `share` under the same weights moves
    nobody from one arm to another.  Arms are taken in the order of their names, so the order in which they are written
    changes nothing.

    >>> pilot = allocate({"new": 1, "old": 1}, share=0.1)
    >>> full = allocate({"new": 1, "old": 1}, before=pilot)
    >>> pilot.moved(full), full.shares
    (0.0, {'new': 0.5, 'old': 0.5})
    >>> round(pilot.moved(allocate({"new": 1, "old": 1})), 6)
    0.05
    """
    _refuse(_weights(weights, share))
    wanted = _sizes(dict(sorted(weights.items())), share)
    if before is None:
        kept, free = [], [(0, BUCKETS)]
    else:
        kept, released = _keep(before, wanted)
        free = [*released, *_gaps(before)]
    for _, _, arm in kept:
        wanted.setdefault(arm, 0)
    have = {arm: sum(high - low for low, high, name in kept if name == arm) for arm in wanted}
    for arm, size in wanted.items():
        need = size - have[arm]
        while need:
            low, high = free.pop(0)
            taken = min(need, high - low)
            kept.append((low, low + taken, arm))
            need -= taken
            if low + taken < high:
                free.insert(0, (low + taken, high))
    return Allocation(_joined(kept))


@dataclass(frozen=True)
class Holdout:
    """The universal holdout: a share of all units that no experiment and no channel may treat, under a salt of its own.

    The salt and the share stay for as long as the holdout lasts.  With `cluster`, whole households (or stores) are held
    out; a unit without a cluster is one of its own.
    """

    share: float
    salt: str
    cluster: str | None = None

    def __post_init__(self) -> None:
        _refuse(_share("holdout", self.share) + _names(self.salt, HOLDOUT))

    @property
    def allocation(self) -> Allocation:
        return allocate({HELD: 1}, self.share)


def arm_of(
    unit: str | int,
    arms: Allocation | Mapping[str, float],
    *,
    salt: str,
    namespace: str,
    holdout: Holdout | None = None,
    household: str | int | None = None,
) -> str | None:
    """The arm of one unit, computed without any table: what a service asks while the customer waits.

    Equal to what `draw` gives without strata.  `household` is the unit's value of the holdout's `cluster`.

    >>> arm_of("C1", {"new": 1, "old": 1}, salt="2026", namespace="offers", holdout=Holdout(0.05, "held"))
    'new'
    """
    arms = arms if isinstance(arms, Allocation) else allocate(arms)
    who = unit if holdout is None or holdout.cluster is None or household is None else household
    if holdout and holdout.allocation.arm(bucket(who, holdout.salt, HOLDOUT)):
        return HELD
    return arms.arm(bucket(unit, salt, namespace))


def draw(
    table,
    unit: str,
    arms: Allocation | Mapping[str, float],
    *,
    salt: str,
    namespace: str,
    holdout: Holdout | None = None,
    strata: Sequence[str] = (),
    cluster: str | None = None,
    exact: bool = False,
    into: str = "variant",
):
    """Draw the arm of every row into a column: a salted hash of the unit (Bakshy, Eckles and Bernstein 2014).

    `table` is a pandas frame (a copy with the column comes back, rows in their order) or an Ibis table (an expression
    comes back, computed where the table lives).  `unit` is a text or whole number; a null arm means not in the experiment.

    Experiments with namespaces of their own are independent layers (Tang et al. 2010).  Two experiments that must not
    share customers are the arms of one draw, and each then draws its own.  `holdout` is drawn before, from its own
    namespace, and its units get "holdout" whatever the experiment.

    Without strata a unit's arm depends on nothing but its id, salt, namespace and allocation: it is the same in any order,
    with any other customers, in any process.  Shares then vary by chance.

    exact: shares are exact but for rounding, by permuting units in the order of their hash (`strata` implies it, within
    each stratum: Bugni, Canay and Shaikh 2018).  A random start per stratum, itself a hash, makes every unit's chance
    exactly its arm's share where sizes do not divide.  The arm then depends on who else is in the table: draw each batch
    of customers once, keep the result, and put the batch among the strata when customers are added.

    cluster: all members get the arm of their cluster; a unit without one is a cluster of its own.

    Raises InputError with every problem: absent columns, units that are missing or neither text nor whole number, a unit
    that stands twice or a cluster in two strata where the draw is exact.

    >>> people = pd.DataFrame({"id": ["C1", "C2", "C3", "C4"], "region": ["north", "south", "north", "south"]})
    >>> draw(people, "id", {"new": 1, "old": 1}, salt="2026", namespace="offers")["variant"].tolist()
    ['new', 'old', 'old', 'new']
    >>> drawn = draw(people, "id", {"new": 1, "old": 1}, salt="2026", namespace="offers", strata=["region"])
    >>> drawn.groupby("region")["variant"].nunique().tolist()
    [2, 2]
    """
    strata = (strata,) if isinstance(strata, str) else tuple(strata)
    arms = arms if isinstance(arms, Allocation) else allocate(arms)
    _refuse(_names(salt, namespace))
    used = [unit, *strata, *([cluster] if cluster else []), *([holdout.cluster] if holdout and holdout.cluster else [])]
    _refuse(_absent(used, [str(name) for name in table.columns]))

    def choose(rows):
        return _chosen(rows, unit, arms, salt, namespace, holdout, strata, cluster, exact or bool(strata), into)

    return _with(table, used, choose, [into])


def hold_out(table, unit: str, holdout: Holdout, into: str = HELD):
    """Mark in a column who is held out of everything: what other teams' experiments and channels filter by.

    >>> people = pd.DataFrame({"id": range(1000)})
    >>> held = hold_out(people, "id", Holdout(0.05, "held 2026"))["holdout"]
    >>> more = hold_out(people, "id", Holdout(0.10, "held 2026"))["holdout"]
    >>> int(held.sum()), bool(more[held].all())
    (45, True)
    """
    used = [unit, *([holdout.cluster] if holdout.cluster else [])]
    _refuse(_absent(used, [str(name) for name in table.columns]))

    def choose(rows):
        _refuse(_not_units(rows, used, unit))
        return rows.mutate(**{into: _is_held(rows, unit, holdout)})

    return _with(table, used, choose, [into])


def draw_factors(
    table,
    unit: str,
    factors: Mapping[str, float],
    *,
    salt: str,
    namespace: str,
    strata: Sequence[str] = (),
    cluster: str | None = None,
    exact: bool = False,
):
    """Switch several channels on and off at random at once: a 0/1 column each, as `factorial` reads them.

    `factors` are the shares for whom each is on.  Each channel is a layer of its own, so they are independent; `exact` or
    `strata` draw the combinations of all channels in one exact draw instead.  Leave the universal holdout out beforehand:
    its customers get no channel.

    >>> people = pd.DataFrame({"id": range(100)})
    >>> drawn = draw_factors(people, "id", {"email": 0.5, "push": 0.5}, salt="2026", namespace="channels", exact=True)
    >>> drawn.groupby(["email", "push"]).size().tolist()
    [25, 25, 25, 25]
    """
    strata = (strata,) if isinstance(strata, str) else tuple(strata)
    _refuse(_names(salt, namespace) + [p for name in factors for p in _names(salt, f"{namespace}.{name}")])
    _refuse([p for name, share in factors.items() for p in _share(f"factor `{name}`", share)])
    used = [unit, *strata, *([cluster] if cluster else [])]
    _refuse(_absent(used, [str(name) for name in table.columns]))

    def choose(rows):
        if not (exact or strata):
            for name, share in factors.items():
                on = allocate({"on": share, "off": 1 - share})
                rows = _chosen(rows, unit, on, salt, f"{namespace}.{name}", None, (), cluster, False, name)
                rows = rows.mutate(**{name: (rows[name] == "on").cast("int64")})
            return rows
        shares = cell_shares(factors)
        rows = _chosen(rows, unit, allocate(shares), salt, namespace, None, strata, cluster, True, "fl_cell")
        parts = {name: [one for one in shares if one != OFF and name in one.split(" + ")] for name in factors}
        on = {name: rows.fl_cell.isin(cells).cast("int64") for name, cells in parts.items()}
        return rows.mutate(**on).drop("fl_cell")

    return _with(table, used, choose, list(factors))


def imbalance(moments: Moments, covariates: Sequence[str], arm: str, versus: str, level: float = 0.95) -> pd.DataFrame:
    """What two arms differed in beforehand, as `plot.love` draws it: value, low and high of each standardised difference.

    The difference of the means over the root mean of the variances (Austin 2009), with its large-sample standard error
    (Hedges and Olkin 1985).  For looking; `balance` is the test.

    >>> from fairlift.method import Covariates, moments
    >>> units = pd.DataFrame({"arm": ["a", "b"] * 50, "age": [30.0, 31.0, 40.0, 39.0] * 25})
    >>> imbalance(moments(units, Covariates("age"), "arm"), ["age"], "a", "b").round(3).iloc[0].tolist()
    [0.0, -0.392, 0.392]
    """
    one, two = moments.arm(arm), moments.arm(versus)
    rows = {}
    for name in moments.with_indicators(covariates):
        spread = math.sqrt((one.var(name) + two.var(name)) / 2)
        value = float(one.mean(name) - two.mean(name)) / spread if spread > 0 else 0.0
        error = math.sqrt(1 / one.n + 1 / two.n + value**2 / (2 * (one.n + two.n)))
        half = -float(special.ndtri((1 - level) / 2)) * error
        rows[name] = {"value": value, "low": value - half, "high": value + half}
    return pd.DataFrame.from_dict(rows, orient="index")


def association(table: pd.DataFrame, left: str, right: str, level: float = 0.95) -> tuple[float, float, float]:
    """The correlation of two draws of 0 or 1 with its interval (Fisher 1921): 0 between layers, 1 where a salt is shared.

    >>> both = pd.DataFrame({"one": [0, 1] * 200, "two": [0, 0, 1, 1] * 100})
    >>> [round(part, 3) for part in association(both, "one", "two")]
    [0.0, -0.098, 0.098]
    """
    r = float(table[left].astype(float).corr(table[right].astype(float)))
    if abs(r) == 1:
        return r, r, r
    half = -float(special.ndtri((1 - level) / 2)) / math.sqrt(len(table) - 3)
    return r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


def assignment_evidence(
    layers: tuple[float, float, float], n: int, differences: Mapping[tuple[str, str], pd.DataFrame]
) -> list[Evidence]:
    """What is reported of a draw: the correlation of two layers over `n` units, and per pair of arms its largest difference.

    `layers` is what `association` gives, `differences` what `imbalance` gives, by (arm, versus).  Nothing hangs on these rows.
    """
    r, low, high = layers
    common = {"requirement": "method.complex", "unit": "z", "level": 0.95, "tables": ("assignments", "customers")}
    rows = [
        Evidence(
            id="method.assignment.layers",
            statement=f"Two layers of these customers have a correlation of {estimate(r, low, high, 'z')}.",
            kind="interval",
            design="descriptive",
            value=r,
            low=low,
            high=high,
            n=n,
            **common,
        )
    ]
    for (arm, versus), found in differences.items():
        name = found["value"].abs().idxmax()
        one = found.loc[name]
        said = estimate(one["value"], one["low"], one["high"], "z")
        rows.append(
            Evidence(
                id="method.assignment.imbalance",
                arm=arm,
                versus=versus,
                statement=f"Of {len(found)} standardised differences before assignment the largest is that of {name}: {said}.",
                kind="interval",
                design="descriptive",
                value=one["value"],
                low=one["low"],
                high=one["high"],
                **common,
            )
        )
    return rows


# --- the draw, as an Ibis expression ---------------------------------------------------------------------------------


def _with(table, used: Sequence[str], choose: Callable, into: Sequence[str]):
    """The table with the columns that `choose` adds; a frame goes through DuckDB and keeps its rows and index."""
    taken = [name for name in (*into, *_OWN) if name in table.columns]
    _refuse([Problem("units", "the column is there already", "draw into another", column=name) for name in taken])
    if not isinstance(table, pd.DataFrame):
        return choose(table)
    numbered = table[list(dict.fromkeys(used))].assign(fl_row=range(len(table)))
    with _held(numbered, numbered.columns) as rows:
        drawn = choose(rows).select("fl_row", *into).to_pyarrow().sort_by("fl_row")
    return table.assign(**{name: drawn[name].to_pandas().array for name in into})


def _chosen(rows, unit, arms: Allocation, salt, namespace, holdout, strata, cluster, exact: bool, into: str):
    import ibis

    _refuse(_not_units(rows, [unit, *([cluster] if cluster else [])], unit))
    who = cluster_label(rows, unit, cluster)
    held = _is_held(rows, unit, holdout) if holdout else ibis.literal(False)
    if not exact:
        drawn = _lookup(arms, _md5(f"{salt}/{namespace}/" + who), _edge)
        return rows.mutate(**{into: ibis.ifelse(held, HELD, drawn) if holdout else drawn})
    keyed = rows.mutate(fl_who=who, fl_held=held, fl_stratum=stratum_label(rows, strata))
    units = keyed.filter(~keyed.fl_held).select("fl_who", "fl_stratum")
    if cluster is None:
        _refuse(_standing_twice(units))
        placed = _placed(keyed, salt, namespace)
    else:
        units = units.distinct()
        _refuse(_in_two_strata(units))
        ranked = _placed(units.mutate(fl_held=False), salt, namespace).select("fl_who", "fl_bucket")
        placed = keyed.left_join(ranked, "fl_who")
    drawn = _lookup(arms, placed.fl_bucket, lambda edge: edge)
    return placed.mutate(**{into: ibis.ifelse(placed.fl_held, HELD, drawn)}).select(*rows.columns, into)


def _placed(units, salt: str, namespace: str):
    """The bucket of each unit by its place in its stratum, in the order of the hashes, counted from a random start."""
    import ibis

    strata = units.select("fl_stratum").distinct()
    strata = strata.select("fl_stratum", fl_start=_fraction(_md5(f"{salt}/{namespace}/start/" + strata.fl_stratum)))
    units = units.inner_join(strata, "fl_stratum")
    apart = [units.fl_held, units.fl_stratum]
    by_hash = [_md5(f"{salt}/{namespace}/" + units.fl_who), units.fl_who]
    place = ibis.row_number().over(group_by=apart, order_by=by_hash)
    size = units.count().over(group_by=apart)
    return units.mutate(fl_bucket=((place * BUCKETS + units.fl_start) // size).cast("int64"))


def stratum_label(table, strata: Sequence[str]):
    """The name of a row's stratum in an Ibis table: the values of its columns; a missing value is one of its own."""
    import ibis

    texts = [table[name].cast("string").fill_null(MISSING) for name in strata]
    return reduce(lambda left, right: left + SEPARATOR + right, texts) if texts else ibis.literal("")


def cluster_label(table, unit: str, cluster: str | None):
    """What a row is drawn as in an Ibis table: its cluster, or the unit itself where it has none."""
    own = table[unit].cast("string")
    return own if cluster is None else table[cluster].cast("string").fill_null(own)


def _is_held(rows, unit: str, holdout: Holdout):
    who = cluster_label(rows, unit, holdout.cluster)
    return _lookup(holdout.allocation, _md5(f"{holdout.salt}/{HOLDOUT}/" + who), _edge).notnull()


def _lookup(arms: Allocation, value, edge: Callable):
    """The arm of a value that is compared with the segments' edges, ascending."""
    import ibis

    steps, last = [], 0
    for low, high, arm in arms.segments:
        steps += [(value < edge(low), ibis.null("string"))] if low > last else []
        steps.append((value < edge(high), arm))
        last = high
    return ibis.cases(*steps, else_=ibis.null("string"))


def _edge(place: int) -> str:
    """Where a bucket begins, as hexadecimal digits.

    A hash lies below the edge as a text exactly if its number does, so no database needs to turn one into the other.
    """
    return "g" if place == BUCKETS else f"{-(-place * RANGE // BUCKETS):0{DIGITS}x}"


def _fraction(text):
    """The bucket that the first four digits of a hash stand for, as a number; in whole numbers that fit 32 bits."""
    import ibis

    digits = [ibis.literal("0123456789abcdef").find(text.substr(i, 1)) for i in range(4)]
    whole = reduce(lambda total, digit: total * 16 + digit, digits)
    return (whole * 15_625) // 1_024  # BUCKETS / 16**4


def _md5(text):
    return _builtin()(text)


@cache
def _builtin():
    """The database's own md5, which every one named at `digest` calls so."""
    import ibis

    @ibis.udf.scalar.builtin
    def md5(text: str) -> str: ...

    return md5


# --- buckets ---------------------------------------------------------------------------------------------------------


def _sizes(weights: Mapping[str, float], share: float) -> dict[str, int]:
    """Buckets per arm: rounded down, the rest to the largest remainders, the first listed first."""
    whole, total = round(share * BUCKETS), math.fsum(weights.values())
    quota = {arm: round(weight / total * whole, 6) for arm, weight in weights.items()}
    sizes = {arm: math.floor(part) for arm, part in quota.items()}
    by_rest = sorted(quota, key=lambda arm: sizes[arm] - quota[arm])
    for arm in by_rest[: whole - sum(sizes.values())]:
        sizes[arm] += 1
    return sizes


def _keep(before: Allocation, wanted: Mapping[str, int]) -> tuple[list, list]:
    """What each arm keeps of its buckets, the first ones, and what it gives up."""
    kept, released, left = [], [], dict(wanted)
    for low, high, arm in before.segments:
        stay = min(high - low, left.get(arm, 0))
        left[arm] = left.get(arm, 0) - stay
        kept += [(low, low + stay, arm)] if stay else []
        released += [(low + stay, high)] if low + stay < high else []
    return kept, released


def _gaps(allocation: Allocation) -> list[tuple[int, int]]:
    edges = [0, *(edge for low, high, _ in allocation.segments for edge in (low, high)), BUCKETS]
    return [(low, high) for low, high in zip(edges[::2], edges[1::2], strict=True) if low < high]


def _joined(segments: Sequence[tuple[int, int, str]]) -> tuple[tuple[int, int, str], ...]:
    """Sorted, with neighbours of one arm made one."""
    found: list[tuple[int, int, str]] = []
    for low, high, arm in sorted(segments):
        if found and found[-1][1] == low and found[-1][2] == arm:
            found[-1] = (found[-1][0], high, arm)
        else:
            found.append((low, high, arm))
    return tuple(found)


# --- what is refused -------------------------------------------------------------------------------------------------


def _names(salt: str, namespace: str) -> list[Problem]:
    """A slash would let two draws meet: salt `a/b` in `c` is salt `a` in `b/c`."""
    return [
        Problem(
            "assignment", f"the {what} is {'empty' if not text else 'not a text without `/`'}", "write another word"
        )
        for what, text in (("salt", salt), ("namespace", namespace))
        if not isinstance(text, str) or not text or "/" in text
    ]


def _unit(unit: object) -> list[Problem]:
    if isinstance(unit, bool) or not isinstance(unit, str | int):
        return [Problem("assignment", "the unit is neither text nor a whole number", "give its id as text")]
    return []


def _share(where: str, share: float) -> list[Problem]:
    return [] if 0 < share < 1 else [Problem(where, f"the share is {share}", "give a fraction between 0 and 1")]


def _weights(weights: Mapping[str, float], share: float) -> list[Problem]:
    problems = [] if weights else [Problem("weights", "there is no arm", "name the arms with their weights")]
    problems += [
        Problem("weights", f"arm `{arm}` has the weight {weight}", "give a number above 0, or leave the arm out")
        for arm, weight in weights.items()
        if not 0 < weight < math.inf
    ]
    if not 0 < share <= 1:
        problems.append(Problem("share", f"is {share}", "give a fraction above 0 and at most 1"))
    return problems


def _not_units(rows, columns: Sequence[str], unit: str) -> list[Problem]:
    problems = []
    for name in dict.fromkeys(columns):
        kind = rows[name].type()
        if not (kind.is_string() or kind.is_integer() or kind.is_null()):
            found = "holds neither text nor whole numbers, so its text differs from system to system"
            problems.append(Problem("units", found, "give ids as text", column=name))
    missing = rows[unit].isnull().sum().to_pyarrow().as_py() or 0
    if missing:
        problems.append(Problem("units", "some rows have no id", "leave them out", column=unit, count=missing))
    return problems


def _standing_twice(units) -> list[Problem]:
    counted = units.aggregate(n=units.count(), each=units.fl_who.nunique()).to_pyarrow().to_pylist()[0]
    twice = counted["n"] - counted["each"]
    found = f"{twice:,} rows repeat a unit, and an exact draw counts each once"
    return [Problem("units", found, "leave each unit once, or name the cluster")] if twice else []


def _in_two_strata(units) -> list[Problem]:
    split = _standing_twice(units)
    found = "a cluster has members in more than one stratum"
    return [Problem("strata", found, "use strata that whole clusters share")] if split else []
