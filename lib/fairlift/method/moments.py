"""The moment engine: one pass over one row per randomised unit, into cells that add."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property, reduce
from itertools import combinations_with_replacement
from operator import mul

import numpy as np
import pandas as pd

from fairlift.errors import InputError, Problem, nearest
from fairlift.method.metric import Mean, Metric, Proportion

KEYS = ("arm", "stratum", "day")
SAMPLE = 1000  # rows read to choose the shifts
FAR = 1e4  # (mean − shift)² / variance above which sums around the shift would cancel

Term = tuple[str, ...]  # one, two or three column names, sorted
Sums = Mapping[str, np.ndarray]  # one value a cell


def indicator(covariate: str) -> str:
    """The name of the 0/1 column that marks the units which lack a covariate."""
    return f"{covariate} missing"


@cache
def _label(*columns: str) -> str:
    return ("mean " if len(columns) == 1 else "sum ") + " × ".join(sorted(columns))


@dataclass(frozen=True)
class Sample:
    """What is known of one sample of units; with arrays as values, of several cells side by side."""

    values: Mapping[str, float | np.ndarray]

    @property
    def n(self):
        """How many units."""
        return self.values["n"]

    def mean(self, column: str):
        """The mean of a column."""
        return self._get(_label(column))

    def products(self, *columns: str):
        """The sum over units of the product of two or three columns, each measured from its mean."""
        return self._get(_label(*columns))

    def cov(self, left: str, right: str):
        """The sample covariance (n − 1)."""
        return self.products(left, right) / (self.n - 1)

    def var(self, column: str):
        """The sample variance (n − 1); never below 0, as rounding could make it for a column that does not vary."""
        return np.maximum(self.cov(column, column), 0.0)

    def third(self, column: str):
        """The unbiased third central moment."""
        return self.products(column, column, column) * self.n / ((self.n - 1) * (self.n - 2))

    def nonzero(self, column: str):
        """How many units have a value other than 0."""
        return self._get(f"nonzero {column}")

    def _get(self, label: str):
        if label not in self.values:
            found = f"nothing was gathered for {label.partition(' ')[2]}"
            raise InputError(Problem("moments", found, "give `moments` the metric that needs it"))
        return self.values[label]


@dataclass(frozen=True, eq=False)
class Moments:
    """Counts, means and sums of centred products of one, two and three columns: a small frame, one row a cell.

    `cells` has `arm`, `stratum`, `day` (text, "" where not asked for), `n`, non-zero counts, and per term the mean or
    the sum of products of deviations from the cell's own means.  Such sums combine exactly (Pébay 2008), so cells of
    any split of the units add: moments of parts sum to the moments of all, up to rounding.  `missing` names the
    covariates that some units lacked; each has an indicator column.
    """

    cells: pd.DataFrame
    metrics: tuple[Metric, ...]
    missing: tuple[str, ...] = ()

    def __add__(self, other: Moments) -> Moments:
        if set(self.metrics) != set(other.metrics):
            raise InputError(Problem("moments", "moments of different metrics cannot be added", "gather both alike"))
        missing = tuple(sorted({*self.missing, *other.missing}))
        # an indicator that one part never needed is 0 for all its units
        both = [part.cells.reindex(columns=_columns(self.metrics, missing), fill_value=0.0) for part in (self, other)]
        together = Moments(pd.concat(both, ignore_index=True), self.metrics, missing)
        return Moments(pd.DataFrame(together.by(KEYS).values)[list(together.cells)], self.metrics, missing)

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that have units."""
        return tuple(sorted(set(self.cells["arm"])))

    @property
    def counts(self) -> dict[str, int]:
        """Units in each arm, as `srm` takes them."""
        return {arm: int(self._arrays["n"][self._arrays["arm"] == arm].sum()) for arm in self.arms}

    def arm(self, *names: str) -> Sample:
        """All units of one arm, or of several arms together.

        Raises InputError when an arm has no units.
        """
        absent = [name for name in names if name not in self.arms]
        if absent:
            found = [Problem("moments", f"arm `{name}` has no units", nearest(name, self.arms)) for name in absent]
            raise InputError(found)
        return Sample({name: values[0] for name, values in self.by((), *names).values.items()})

    def by(self, keys: Sequence[str], *arms: str) -> Sample:
        """Units of the arms (all if none is named) in one cell per combination of `keys`, sorted, as arrays."""
        values = self._arrays
        if arms:
            chosen = np.logical_or.reduce([values["arm"] == arm for arm in arms])
            values = {name: array[chosen] for name, array in values.items()}
        named, group = _grouped([values[key] for key in keys], len(values["n"]))
        pooled = _pool(values, group, _terms(self.metrics, self.missing))
        return Sample(dict(zip(keys, named, strict=True)) | pooled)

    def with_indicators(self, covariates: Sequence[str]) -> tuple[str, ...]:
        """The covariates, and an indicator for each that some units lacked."""
        return (*covariates, *(indicator(name) for name in covariates if name in self.missing))

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        """The frame's columns as arrays: thousands of effects are read from moments in a simulation."""
        return {name: self.cells[name].to_numpy(dtype=object if name in KEYS else float) for name in self.cells.columns}


def moments(
    table, metrics: Metric | Iterable[Metric], arm: str, stratum: str | None = None, day: str | None = None
) -> Moments:
    """Gather, in one pass, the sums that `metrics` need, by arm × stratum × day of entry.

    `table` is a pandas frame or an Ibis table with one row per randomised unit; `arm`, `stratum` and `day` are columns
    of it (`day` may be any period of entry; times without a zone become dates).  The work is done where the table lives,
    a frame's in DuckDB.  Sums are of deviations from a shift near the mean: a raw sum of squares loses every digit of the variance
    when the mean is large (Chan, Golub and LeVeque 1983).  The shifts are the rounded means of the first 1,000 rows, or
    0 where reading those would run a join or an aggregation twice; a column whose mean turns out to be far from its
    shift is summed again from its mean, so an unlucky sample costs time and never digits.

    An outcome must exist for every unit: 0 is a value, missing is not.  A missing covariate is read as 0 and marked by
    an indicator covariate.

    Raises InputError with all problems at once: absent or non-numeric columns, missing or infinite outcomes, units
    without arm, stratum or day, a proportion that is neither 0 nor 1.

    >>> units = pd.DataFrame({"arm": ["a", "a", "b", "b"], "revenue": [0.0, 4.0, 1.0, 9.0]})
    >>> b = moments(units, Mean("revenue"), arm="arm").arm("b")
    >>> float(b.n), float(b.mean("revenue")), float(b.var("revenue"))
    (2.0, 5.0, 32.0)
    """
    metrics = tuple(dict.fromkeys(metrics)) if isinstance(metrics, Iterable) else (metrics,)
    keys = {name: column for name, column in zip(KEYS, (arm, stratum, day), strict=True) if column is not None}
    columns = tuple(dict.fromkeys(column for metric in metrics for column in metric.columns))
    outcomes = {column for metric in metrics for column in metric.outcomes}
    _refuse(_absent((*keys.values(), *columns), [str(name) for name in table.columns]))
    with _held(table, (*keys.values(), *columns)) as held:
        return _gathered(held, metrics, keys, columns, outcomes)


def _gathered(table, metrics: tuple[Metric, ...], keys: Mapping[str, str], columns, outcomes) -> Moments:
    _refuse(_not_numeric(table, columns) + _zoned(table, keys))
    shifts = _sampled_shifts(table, columns) | {m.column: 0.0 for m in metrics if isinstance(m, Proportion)}
    missing: tuple[str, ...] = ()
    sums = _sums(table, keys, metrics, missing, shifts)
    incomplete = _incomplete(sums, columns)
    if incomplete and not outcomes.intersection(incomplete):
        missing = tuple(sorted(incomplete))
        table = _marked(table, missing)
        shifts |= {indicator(name): 0.0 for name in missing}
        sums = _sums(table, keys, metrics, missing, shifts)
        incomplete = _incomplete(sums, columns)
    _refuse(_holes(table, keys, incomplete) + _keyless(sums, keys) + _not_zero_one(sums, metrics))
    far = _far(sums, shifts)
    if far:
        shifts |= far
        sums = _sums(table, keys, metrics, missing, shifts)
    return Moments(_centred(sums, metrics, missing, shifts), metrics, missing)


def cumulate(user_days, unit: str, day: str, columns: Sequence[str], until=None):
    """Total per unit of its user-day rows up to and including `until`: what a later look at the data starts from.

    User-days are never observations: days of one customer are alike, so a later look adds them up per customer and then
    takes moments over customers.  Units without any row are the caller's to add as 0 (join to the assigned units).

    `user_days` is a pandas frame or an Ibis table; the answer is an Ibis expression with `unit` and `columns`.

    >>> days = pd.DataFrame({"id": ["x", "x", "y"], "day": [1, 2, 3], "revenue": [1.0, 2.0, 5.0]})
    >>> cumulate(days, "id", "day", ["revenue"], until=2).to_pyarrow().to_pylist()
    [{'id': 'x', 'revenue': 3.0}]
    """
    _refuse(_absent((unit, day, *columns), [str(name) for name in user_days.columns]))
    user_days = _as_table(user_days, (unit, day, *columns))
    _refuse(_not_numeric(user_days, columns))
    seen = user_days if until is None else user_days.filter(user_days[day] <= until)
    return seen.group_by(unit).aggregate(**{name: seen[name].cast("float64").sum() for name in columns})


@contextmanager
def _held(table, columns: Iterable[str]) -> Iterator:
    """The table as an Ibis table, and a frame let go afterwards: Ibis's DuckDB would keep every frame it has seen."""
    held = _as_table(table, columns)
    try:
        yield held
    finally:
        if held is not table:
            held.get_backend().con.unregister(held.get_name())


def _as_table(table, columns: Iterable[str]):
    """An Ibis table as it is; a frame's columns as one in DuckDB, through Arrow so that NaN reads as missing."""
    if not isinstance(table, pd.DataFrame):
        return table
    import ibis  # late: its import alone takes longer than summing a million rows
    import pyarrow as pa

    arrays, problems = {}, []
    for name in dict.fromkeys(columns):
        try:
            arrays[name] = pa.Array.from_pandas(table[name])
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            problems.append(Problem("units", "mixes numbers with text", "convert it to one type", column=name))
    _refuse(problems)
    return ibis.memtable(pa.table(arrays))


# --- what is summed -------------------------------------------------------------------------------------------------


@cache
def _terms(metrics: tuple[Metric, ...], missing: tuple[str, ...]) -> tuple[Term, ...]:
    """Every product of columns that some metric needs, once."""
    found: dict[Term, None] = {}
    for metric in metrics:
        marked = (indicator(name) for name in metric.covariates if name in missing)
        names = sorted({*metric.columns, *marked})
        for order in range(1, metric.order + 1):
            found |= dict.fromkeys(combinations_with_replacement(names, order))
    return tuple(sorted(found, key=lambda term: (len(term), term)))


def _counted(metrics: Sequence[Metric]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(m.column for m in metrics if isinstance(m, Mean | Proportion)))


def _columns(metrics: Sequence[Metric], missing: Sequence[str]) -> list[str]:
    nonzero = [f"nonzero {name}" for name in _counted(metrics)]
    return [*KEYS, "n", *nonzero, *(_label(*term) for term in _terms(metrics, missing))]


def _sums(table, keys: Mapping[str, str], metrics, missing, shifts: Mapping[str, float]) -> Sums:
    """Run the pass: for each cell its keys, n, counts of present and of non-zero values, and shifted sums.

    Written as a projection of shifted columns under the aggregation, so that the database forms each product once.
    """
    terms = _terms(metrics, missing)
    names = [term[0] for term in terms if len(term) == 1]
    place = {name: f"x{i}" for i, name in enumerate(names)}
    counted = _counted(metrics)
    by = {key: _period(table[column]) for key, column in keys.items()}
    moved = {place[name]: table[name].cast("float64") - shifts[name] for name in names}
    asis = {f"y{i}": table[name].cast("float64") for i, name in enumerate(counted)}
    rows = table.select(**by, **moved, **asis)
    sums = {f"s{i}": reduce(mul, (rows[place[name]] for name in term)).sum() for i, term in enumerate(terms)}
    counts = {f"c{i}": rows[place[name]].count() for i, name in enumerate(names)}
    nonzeros = {f"z{i}": rows[f"y{i}"].nullif(0).count() for i, _ in enumerate(counted)}
    cells = rows.group_by(list(by)).aggregate(n=rows.count(), **sums, **counts, **nonzeros)
    answer = cells.to_pyarrow()
    place = {"n": "n"} | {f"count {name}": f"c{i}" for i, name in enumerate(names)}
    place |= {f"nonzero {name}": f"z{i}" for i, name in enumerate(counted)}
    place |= {_label(*term): f"s{i}" for i, term in enumerate(terms)}
    numbers = {label: answer[name].to_numpy().astype(float) for label, name in place.items()}
    return {key: np.array(answer[key].to_pylist(), dtype=object) for key in by} | numbers


def _period(column):
    return column.date() if column.type().is_timestamp() else column


def _centred(sums: Sums, metrics, missing, shifts: Mapping[str, float]) -> pd.DataFrame:
    """Turn sums of shifted values into means and sums of products around each cell's own means."""
    n = sums["n"]

    def s(*term: str) -> np.ndarray:
        return sums[_label(*term)]

    cells = {key: np.array([str(value) for value in sums[key]]) if key in sums else np.full(len(n), "") for key in KEYS}
    order = np.lexsort([cells[key] for key in reversed(KEYS)])
    cells |= {"n": n} | {f"nonzero {name}": sums[f"nonzero {name}"] for name in _counted(metrics)}
    for term in _terms(metrics, missing):
        if len(term) == 1:
            value = shifts[term[0]] + s(*term) / n
        elif len(term) == 2:
            a, b = term
            value = s(a, b) - s(a) * s(b) / n
        else:
            a, b, c = term
            value = s(a, b, c) - (s(a) * s(b, c) + s(b) * s(a, c) + s(c) * s(a, b)) / n + 2 * s(a) * s(b) * s(c) / n**2
        cells[_label(*term)] = value
    return pd.DataFrame({name: values[order] for name, values in cells.items()})


def _grouped(keys: Sequence[np.ndarray], size: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The distinct combinations of the keys, sorted, and which of them each cell belongs to."""
    if not keys:
        return [], np.zeros(size, dtype=int)
    rows = list(zip(*keys, strict=True))
    places = {row: i for i, row in enumerate(sorted(set(rows)))}
    named = [np.array(column, dtype=object) for column in zip(*places, strict=True)]
    return named or [np.array([], dtype=object) for _ in keys], np.array([places[row] for row in rows], dtype=int)


def _pool(cells: Mapping[str, np.ndarray], group: np.ndarray, terms: Sequence[Term]) -> dict[str, np.ndarray]:
    """Combine the cells of a group: means by weight, products by Pébay's formulas."""
    size = int(group.max()) + 1 if len(group) else 0
    n = cells["n"]

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(group, weights=values, minlength=size)

    pooled = {name: total(array) for name, array in cells.items() if name == "n" or name.startswith("nonzero ")}
    away = {}  # each cell's mean from its group's
    for term in terms:
        name = _label(*term)
        if len(term) == 1:
            base = np.zeros(size)
            base[group] = cells[name]  # measured from one of the group's own means, so that large means keep digits
            pooled[name] = base + total(n * (cells[name] - base[group])) / pooled["n"]
            away[term[0]] = cells[name] - pooled[name][group]
        elif len(term) == 2:
            a, b = term
            pooled[name] = total(cells[name] + n * away[a] * away[b])
        else:
            a, b, c = term
            mixed = sum(away[x] * cells[_label(y, z)] for x, y, z in ((a, b, c), (b, a, c), (c, a, b)))
            pooled[name] = total(cells[name] + mixed + n * away[a] * away[b] * away[c])
    return pooled


# --- shifts ---------------------------------------------------------------------------------------------------------


def _sampled_shifts(table, columns: Sequence[str]) -> dict[str, float]:
    """Means of the first rows, rounded to the size of their spread so that the query stays readable."""
    import ibis.expr.operations as ops

    costly = (ops.Aggregate, ops.JoinChain, ops.Distinct, ops.Set, ops.Sort, ops.WindowFunction)
    if not columns or table.op().find(costly):
        return dict.fromkeys(columns, 0.0)
    head = table.limit(SAMPLE).select(**{f"x{i}": table[name].cast("float64") for i, name in enumerate(columns)})
    return {
        name: _rounded_mean(array.to_numpy()) for name, array in zip(columns, head.to_pyarrow().columns, strict=True)
    }


def _rounded_mean(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0  # nothing usable in the sample; the check afterwards decides
    mean, spread = float(values.mean()), float(values.std())
    return round(mean, -math.floor(math.log10(spread))) if spread > 0 else mean


def _far(sums: Sums, shifts: Mapping[str, float]) -> dict[str, float]:
    """Better shifts for the columns whose mean lies too many standard deviations away from the one used."""
    n, better = sums["n"].sum(), {}
    for name, shift in shifts.items():
        if n == 0 or _label(name, name) not in sums:
            continue
        off = sums[_label(name)].sum() / n
        variance = sums[_label(name, name)].sum() / n - off**2
        if off**2 > FAR * max(variance, 0.0) and abs(off) > 1e-12 * abs(shift):
            better[name] = shift + off
    return better


# --- what is refused ------------------------------------------------------------------------------------------------


def _refuse(problems: Sequence[Problem]) -> None:
    if problems:
        raise InputError(problems)


def _absent(wanted: Iterable[str], present: Sequence[str]) -> list[Problem]:
    return [
        Problem("units", "there is no such column", nearest(name, present), column=name)
        for name in dict.fromkeys(wanted)
        if name not in present
    ]


def _not_numeric(table, columns: Iterable[str]) -> list[Problem]:
    kinds = {name: table[name].type() for name in columns}
    return [
        Problem("units", f"holds {kind}, not numbers", "convert it to a number column", column=name)
        for name, kind in kinds.items()
        if not (kind.is_numeric() or kind.is_boolean())
    ]


def _zoned(table, keys: Mapping[str, str]) -> list[Problem]:
    """The day of a zoned time depends on where it is asked, so the caller has to say which day it was."""
    return [
        Problem("units", "holds times with a zone", "convert them to the local date", column=column)
        for column in keys.values()
        if table[column].type().is_timestamp() and table[column].type().timezone
    ]


def _incomplete(sums: Sums, columns: Iterable[str]) -> list[str]:
    """Columns with a value missing, or with a sum that is no number because a value is not one."""

    def whole(name: str) -> bool:
        powers = sums[_label(name)] + sums[_label(name, name)]
        return bool((sums[f"count {name}"] == sums["n"]).all() and np.isfinite(powers).all())

    return [name for name in columns if not whole(name)]


def _marked(table, missing: Sequence[str]):
    """Covariates with 0 where they are missing, and beside each its indicator."""
    import ibis

    def hole(name: str):
        column = table[name]
        return column.isnull() | column.isnan() if column.type().is_floating() else column.isnull()

    filled = {name: ibis.ifelse(hole(name), 0, table[name].cast("float64")) for name in missing}
    return table.mutate(**filled, **{indicator(name): hole(name).cast("float64") for name in missing})


def _holes(table, keys: Mapping[str, str], columns: Sequence[str]) -> list[Problem]:
    """Count, only once something is known to be wrong, how many units lack a value."""
    problems = []
    for name in columns:
        number = table[name].cast("float64")
        lacking = (number.isnull() | number.isnan()).cast("int64").sum()
        endless = number.isinf().cast("int64").sum()
        got = table.aggregate(n=table.count(), lacking=lacking, endless=endless).to_pyarrow().to_pylist()[0]
        for count, found in ((got["lacking"], "have no value"), (got["endless"], "have an infinite value")):
            if count:
                mend = "give every unit a finite value; who did nothing has 0, and missing is not 0"
                problems.append(Problem("units", f"{count:,} of {got['n']:,} {found}", mend, column=name, count=count))
        if not got["lacking"] and not got["endless"]:
            problems.append(Problem("units", "values are too large to square", "use a larger unit", column=name))
    return problems


def _keyless(sums: Sums, keys: Mapping[str, str]) -> list[Problem]:
    empty = {column: int(sums["n"][pd.isna(sums[key])].sum()) for key, column in keys.items()}
    return [
        Problem("units", f"{count:,} units have no value", "every unit needs one", column=column, count=count)
        for column, count in empty.items()
        if count
    ]


def _not_zero_one(sums: Sums, metrics: Sequence[Metric]) -> list[Problem]:
    """Proportions are summed unshifted, so Σ(x − 1)² over the non-zero units is exactly 0 if all of them are 1."""
    problems = []
    for name in dict.fromkeys(m.column for m in metrics if isinstance(m, Proportion)):
        square = sums[_label(name, name)].sum() - 2 * sums[_label(name)].sum() + sums[f"nonzero {name}"].sum()
        if square != 0:
            problems.append(Problem("units", "a proportion holds values other than 0 and 1", "use `Mean`", column=name))
    return problems
