"""What one customer's offers do to others: two-stage saturation experiments, and households in which persons were drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import special

from fairlift.errors import InputError, Problem, Refusal
from fairlift.evidence import Evidence
from fairlift.format import estimate as shown
from fairlift.format import interval as between
from fairlift.format import number
from fairlift.method.hall import studentised, transformed

if TYPE_CHECKING:
    import ibis

MIN_CLUSTERS = 5  # per saturation; below this the spread of cluster means is a guess
LEAST_DF = 4  # below this a few large clusters hold nearly all the weight
FLOOR = 0.15  # exposures less likely than this put too much weight on single customers
MIN_EFFECTIVE = 400  # outcomes other than 0, after weighting: benchmarks/calibration/spillover.py


# --- two-stage saturation --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Level:
    """The clusters of one saturation: how many, their customers, and mean outcomes with 95 % limits; None where nobody is."""

    saturation: float
    clusters: int
    treated: int
    untreated: int
    mean_treated: float | None
    limits_treated: tuple[float, float] | None
    mean_untreated: float | None
    limits_untreated: tuple[float, float] | None


@dataclass(frozen=True)
class SaturationEffect:
    """One effect of a saturation experiment; `saturation` is None for a slope, whose unit is per whole saturation.

    "direct" is treated − untreated in the same clusters; "spillover" untreated, "total" treated, "overall" everybody, each
    minus the clusters without any offers.
    `clusters` is how many clusters it rests on; the interval is a t interval with `df` degrees of freedom over them.
    """

    name: str
    saturation: float | None
    value: float
    se: float
    df: float
    low: float
    high: float
    level: float
    p: float
    clusters: int


@dataclass(frozen=True)
class Saturation:
    """A saturation experiment read: its levels and every effect that they allow."""

    outcome: str
    average: str
    levels: tuple[Level, ...]
    effects: tuple[SaturationEffect, ...]

    def effect(self, name: str, saturation: float | None = None) -> SaturationEffect:
        """One effect by name and saturation; raises InputError where the design does not have it."""
        for found in self.effects:
            if found.name == name and (saturation is None or found.saturation == saturation):
                return found
        there = ", ".join(_label(e) for e in self.effects)
        wanted = name if saturation is None else f"{name} at {_share(saturation)}"
        raise InputError(Problem("saturation", f"there is no effect `{wanted}`", f"there are: {there}"))

    def means(self) -> pd.DataFrame:
        """One row a level and group: level, group, value, low, high; for a figure."""
        rows = []
        for at in self.levels:
            for group, value, limits in (
                ("untreated", at.mean_untreated, at.limits_untreated),
                ("treated", at.mean_treated, at.limits_treated),
            ):
                if value is not None:
                    rows.append((at.saturation, group, value, *limits))
        return pd.DataFrame(rows, columns=["level", "group", "value", "low", "high"])

    def __str__(self) -> str:
        width = max(len(_label(e)) for e in self.effects)
        lines = [f"saturation, mean of {self.outcome} over {self.average}"]
        for e in self.effects:
            value = f"{number(e.value, signed=True)} ({between(e.low, e.high, signed=True)})"
            lines.append(f"  {_label(e):<{width}}  {value}  {e.clusters} clusters")
        return "\n".join(lines)


def _share(level: float) -> str:
    return f"{100 * level:.4g} %"


def _label(e: SaturationEffect) -> str:
    return e.name if e.saturation is None else f"{e.name} at {_share(e.saturation)}"


def draw_saturation(
    units: pd.DataFrame,
    cluster: str,
    levels: Sequence[float],
    shares: Sequence[float] | None = None,
    *,
    seed: int,
) -> pd.DataFrame:
    """Draw clusters to saturations, then customers within each cluster at that saturation (Baird et al. 2018).

    `shares` are the levels' shares of the clusters (equal by default); both stages draw exact numbers, and a fraction
    left over goes up or down by chance, so that every customer's probability is the saturation itself.  Returns `units`'
    index with the columns `saturation` and `treated`; the order of the rows does not matter, only the cluster's name and
    the order within a cluster do.

    >>> shops = pd.DataFrame({"shop": np.repeat(range(6), 50)})
    >>> drawn = draw_saturation(shops, "shop", (0, 0.5, 1), seed=1)
    >>> drawn.groupby("saturation")["treated"].agg(["size", "sum"]).to_numpy().tolist()
    [[100, 0], [100, 50], [100, 100]]
    """
    shares = [1 / len(levels)] * len(levels) if shares is None else list(shares)
    problems = _wrong_levels(levels)
    if len(shares) != len(levels) or min(shares, default=0) <= 0:
        problems.append(Problem("shares", "they do not fit the levels", "give one share above 0 for each level"))
    if units[cluster].isna().any():
        problems.append(Problem("units", "some have no cluster", "every customer needs one", column=cluster))
    if problems:
        raise InputError(problems)
    rng = np.random.default_rng(seed)
    names, places = np.unique(units[cluster].to_numpy(), return_inverse=True)
    if len(names) < len(levels):
        raise Refusal(f"saturation: {len(names)} clusters are too few for {len(levels)} levels; take smaller clusters.")
    sizes = _whole(np.array(shares) / sum(shares) * len(names), rng)
    of_cluster = rng.permutation(np.repeat(np.array(levels, dtype=float), sizes))
    count = np.bincount(places)
    floor = np.floor(count * of_cluster + 1e-9)
    treated = floor + (rng.random(len(names)) < count * of_cluster - floor)
    together = np.argsort(places, kind="stable")  # cluster by cluster, so that other clusters' rows change nothing
    order = together[np.lexsort((rng.random(len(places)), places[together]))]
    rank = np.empty(len(places), dtype=np.int64)
    rank[order] = np.arange(len(places)) - np.repeat(np.cumsum(count) - count, count)
    return pd.DataFrame(
        {"saturation": of_cluster[places], "treated": (rank < treated[places]).astype(int)}, index=units.index
    )


def saturation(
    units: pd.DataFrame | ibis.Table,
    outcome: str,
    cluster: str,
    treated: str,
    saturation: str,
    *,
    average: str = "clusters",
    alpha: float = 0.05,
    min_clusters: int = MIN_CLUSTERS,
) -> Saturation:
    """Direct, spillover, total and overall effect at every saturation, and how they move with it (Hudgens and Halloran 2008).

    `units` is a pandas DataFrame or Ibis table with one row a customer: `treated` is 0 or 1, `saturation` the share that
    the customer's cluster was drawn to.  The cluster is the unit: every effect is a difference of means over clusters of
    cluster means, with a t interval over the clusters (Welch 1947).  `average="clusters"` counts every cluster alike,
    "customers" by its size; the two differ where large clusters react otherwise.

    "slope, untreated" and "slope, treated" say how much the mean outcome moves from nobody to everybody around a customer
    being treated, if it moves along a straight line (Baird et al. 2018).

    Raises InputError for columns that contradict the design, and Refusal without clusters at saturation 0 (nobody is left
    who could not have been touched) or with fewer than `min_clusters` clusters at a saturation.

    >>> people = pd.DataFrame({"shop": np.repeat(range(18), 20), "share": np.repeat([0, 0.5, 1] * 6, 20)})
    >>> people["offer"] = (people.index % 20 < 20 * people["share"]).astype(int)
    >>> people["spend"] = people.index % 7 + people["offer"] + 0.6 * people["share"]
    >>> print(saturation(people, "spend", "shop", "offer", "share"))
    saturation, mean of spend over clusters
      direct at 50 %     +1.033 (+0.1437 to +1.923)  6 clusters
      spillover at 50 %  +0.2750 (−0.1773 to +0.7273)  12 clusters
      total at 50 %      +1.308 (+0.8449 to +1.772)  12 clusters
      overall at 50 %    +0.7917 (+0.6475 to +0.9358)  12 clusters
      total at 100 %     +1.583 (+1.447 to +1.720)  12 clusters
      overall at 100 %   +1.583 (+1.447 to +1.720)  12 clusters
      slope, untreated   +0.5500 (−0.3546 to +1.455)  12 clusters
      slope, treated     +0.5500 (−0.3768 to +1.477)  12 clusters
    """
    found = _cluster_sums(units, outcome, cluster, treated, saturation)
    return saturation_of_clusters(found, outcome, average=average, alpha=alpha, min_clusters=min_clusters)


def saturation_of_clusters(
    clusters: pd.DataFrame,
    outcome: str = "outcome",
    *,
    average: str = "clusters",
    alpha: float = 0.05,
    min_clusters: int = MIN_CLUSTERS,
) -> Saturation:
    """The same from one row a cluster: `saturation`, `n`, `n_treated`, `sum` of the outcome, and `sum_treated`."""
    if average not in ("clusters", "customers"):
        raise InputError(Problem("average", f"`{average}` is not known", "use clusters or customers"))
    found = clusters
    levels = np.unique(found["saturation"])
    if levels[0] != 0:
        raise Refusal(
            "saturation: no cluster was left without offers, so nobody is untouched; draw some clusters to saturation 0."
        )
    if len(levels) < 2:
        raise Refusal("saturation: every cluster has saturation 0, so there is nothing to compare; draw some higher.")
    groups = {float(level): _Group.of(float(level), found[found["saturation"] == level], average) for level in levels}
    few = min(groups, key=lambda level: groups[level].clusters)
    if groups[few].clusters < min_clusters:
        raise Refusal(
            f"saturation: {groups[few].clusters} clusters at {_share(few)} and {min_clusters} are needed, because "
            "the spread between clusters is known from them alone; draw more clusters to it, or merge saturations."
        )
    effects = [e for level in groups if level > 0 for e in _effects(groups, level, alpha)]
    for name, part in (("slope, untreated", "untreated"), ("slope, treated", "treated")):
        weights = _line({level: g.clusters for level, g in groups.items() if g.has(part)})
        if weights:
            terms = [(groups[level], {part: c}) for level, c in weights.items()]
            effects.append(_combined(name, None, terms, alpha))
    return Saturation(outcome, average, tuple(_level(level, g, alpha) for level, g in groups.items()), tuple(effects))


@dataclass(frozen=True)
class _Group:
    """The clusters of one saturation: means of treated, untreated and everybody, and the weight of each cluster."""

    clusters: int
    counts: tuple[int, int]
    weight: np.ndarray
    means: dict[str, np.ndarray]

    @classmethod
    def of(cls, level: float, rows: pd.DataFrame, average: str) -> _Group:
        n, k = rows["n"].to_numpy(), rows["n_treated"].to_numpy()
        total, of_treated = rows["sum"].to_numpy(), rows["sum_treated"].to_numpy()
        one_sided = int(((k == 0) | (k == n)).sum())
        if 0 < level < 1 and one_sided:
            raise Refusal(
                f"saturation: {one_sided:,} clusters at {_share(level)} have only treated or only untreated customers, "
                "so they show no difference; take larger clusters, or leave out the small ones at every saturation."
            )
        means = {"everybody": total / n}
        if level > 0:
            means["treated"] = of_treated / k
        if level < 1:
            means["untreated"] = (total - of_treated) / (n - k)
        weight = np.ones(len(rows)) if average == "clusters" else n.astype(float)
        return cls(len(rows), (int(k.sum()), int((n - k).sum())), weight, means)

    def has(self, part: str) -> bool:
        return part in self.means

    def mean(self, parts: Mapping[str, float]) -> tuple[float, float, float]:
        """A combination of the group's means, its variance from cluster to cluster, and the degrees of freedom of that.

        The variance is without bias, and the degrees of freedom are Satterthwaite's, where clusters are equally spread (Bell
        and McCaffrey 2002); with equal weights they are the usual K / (K − 1) and K − 1.
        """
        values = sum(c * self.means[part] for part, c in parts.items())
        w = self.weight / self.weight.sum()
        s1, s2, s3 = (float((w**power).sum()) for power in (2, 3, 4))
        kept = s1 - 2 * s2 + s1**2
        square = float((w**4 * (1 - 4 * w + 2 * s1)).sum()) + s1**4 + 2 * s1 * s3 + 2 * s2**2 - 4 * s1**2 * s2
        if kept**2 / square < LEAST_DF - 1e-9:
            raise Refusal(
                f"saturation: counted by customers, {self.clusters} clusters are worth {1 / s1:.1f} equal ones, because a few "
                'hold most customers; use average="clusters", or draw more clusters.'
            )
        value = float((w * values).sum())
        spread = s1 * float((w**2 * (values - value) ** 2).sum()) / kept
        return value, spread, kept**2 / square


def _effects(groups: Mapping[float, _Group], level: float, alpha: float) -> list[SaturationEffect]:
    here, nobody = groups[level], groups[0.0]
    wanted = {
        "direct": [(here, {"treated": 1.0, "untreated": -1.0})],
        "spillover": [(here, {"untreated": 1.0}), (nobody, {"untreated": -1.0})],
        "total": [(here, {"treated": 1.0}), (nobody, {"untreated": -1.0})],
        "overall": [(here, {"everybody": 1.0}), (nobody, {"everybody": -1.0})],
    }
    return [
        _combined(name, level, terms, alpha)
        for name, terms in wanted.items()
        if all(group.has(part) for group, parts in terms for part in parts)
    ]


def _combined(name: str, level: float | None, terms, alpha: float) -> SaturationEffect:
    """A sum over independent groups of clusters, with Welch's degrees of freedom."""
    means = [group.mean(parts) for group, parts in terms]
    value, variance = sum(mean for mean, *_ in means), sum(spread for _, spread, _ in means)
    if variance <= (1e-12 * max(abs(mean) for mean, *_ in means)) ** 2:
        raise Refusal(f"saturation: {name} does not vary from cluster to cluster, so its error cannot be computed.")
    dof = sum(spread**2 / df for _, spread, df in means)
    se, df = math.sqrt(variance), variance**2 / dof
    half = -float(special.stdtrit(df, alpha / 2)) * se
    p = float(2 * special.stdtr(df, -abs(value) / se))
    clusters = sum(group.clusters for group, _ in terms)
    return SaturationEffect(name, level, value, se, df, value - half, value + half, 1 - alpha, p, clusters)


def _line(clusters: Mapping[float, int]) -> dict[float, float]:
    """Weights that make level means into the slope of the least-squares line through the clusters."""
    if len(clusters) < 2:
        return {}
    levels, n = np.array(list(clusters)), np.array(list(clusters.values()), dtype=float)
    apart = n * (levels - (n * levels).sum() / n.sum())
    return dict(zip(clusters, (apart / (apart * levels).sum()).tolist(), strict=True))


def _level(level: float, group: _Group, alpha: float) -> Level:
    def read(part: str):
        if not group.has(part):
            return None, None
        value, spread, df = group.mean({part: 1.0})
        half = -float(special.stdtrit(df, alpha / 2)) * math.sqrt(spread)
        return value, (value - half, value + half)

    return Level(level, group.clusters, *group.counts, *read("treated"), *read("untreated"))


def _cluster_sums(units, outcome: str, cluster: str, treated: str, saturation: str) -> pd.DataFrame:
    """One row a cluster: its saturation, customers and sums, of all and of the treated; refuses what contradicts the design."""
    columns = (outcome, cluster, treated, saturation)
    absent = [name for name in columns if name not in units.columns]
    if absent:
        raise InputError([Problem("units", "there is no such column", "name a column of it", column=c) for c in absent])
    sums = _sums(units, *columns)
    problems = []
    for name, count in ((c, int(sums[f"lacking {c}"].sum())) for c in columns):
        if count:
            problems.append(Problem("units", f"{count:,} have no value", "every customer needs one", column=name))
    if endless := int(np.isinf(sums["sum"].to_numpy(dtype=float)).sum()):
        found = f"{endless:,} clusters have an infinite sum"
        problems.append(Problem("units", found, "give finite values", column=outcome))
    if problems:
        raise InputError(problems)
    if sums["odd"].sum():
        problems.append(Problem("units", "holds values other than 0 and 1", "mark the treated by 1", column=treated))
    if (sums["least"] != sums["most"]).any():
        found = f"{int((sums['least'] != sums['most']).sum()):,} clusters have more than one saturation"
        problems.append(Problem("units", found, "state what the cluster was drawn to", column=saturation))
    if not sums["least"].between(0, 1).all():
        problems.append(Problem("units", "is not between 0 and 1", "state it as a share", column=saturation))
    if not problems:
        wrong = (sums["least"] == 0) & (sums["n_treated"] > 0) | (sums["least"] == 1) & (sums["n_treated"] < sums["n"])
        if wrong.any():
            found = f"{int(wrong.sum()):,} clusters do not have what saturation 0 or 1 means"
            problems.append(Problem("units", found, "state what the cluster was drawn to", column=saturation))
    if problems:
        raise InputError(problems)
    return sums.rename(columns={"least": "saturation"})


def _sums(units, outcome: str, cluster: str, treated: str, saturation: str) -> pd.DataFrame:
    columns = {"outcome": outcome, "cluster": cluster, "treated": treated, "saturation": saturation}
    if isinstance(units, pd.DataFrame):
        rows = pd.DataFrame({name: units[column] for name, column in columns.items()})
        lacking = {f"lacking {column}": rows[name].isna() for name, column in columns.items()}
        rows = rows.assign(**lacking)
        rows["odd"] = ~rows["treated"].isin([0, 1]) & rows["treated"].notna()
        rows["sum_treated"] = rows["outcome"] * rows["treated"]
        grouped = rows.groupby("cluster", dropna=False)
        found = {f"lacking {column}": grouped[f"lacking {column}"].sum() for column in columns.values()}
        return pd.DataFrame(
            {
                "n": grouped.size(),
                "n_treated": grouped["treated"].sum(),
                "sum": grouped["outcome"].sum(),
                "sum_treated": grouped["sum_treated"].sum(),
                "least": grouped["saturation"].min(),
                "most": grouped["saturation"].max(),
                "odd": grouped["odd"].sum(),
                **found,
            }
        ).reset_index(drop=True)
    import ibis  # late: a slow import

    def lacking(column):
        return column.isnull() | column.isnan() if column.type().is_floating() else column.isnull()

    y, t, s = (units[name].cast("float64") for name in (outcome, treated, saturation))
    found = {f"lacking {name}": lacking(units[name]).cast("int64").sum() for name in columns.values()}
    summed = units.group_by(units[cluster].name("key")).aggregate(
        n=ibis._.count(),
        n_treated=t.sum(),
        sum=y.sum(),
        sum_treated=(y * t).sum(),
        least=s.min(),
        most=s.max(),
        odd=(~t.isin([0.0, 1.0])).cast("int64").sum(),
        **found,
    )
    return summed.to_pyarrow().to_pandas().sort_values("key").drop(columns="key").reset_index(drop=True)


def _wrong_levels(levels: Sequence[float]) -> list[Problem]:
    problems = []
    if len(set(levels)) < 2 or len(set(levels)) < len(levels):
        problems.append(
            Problem("levels", "there are not two or more different ones", "name 0 and one or more above it")
        )
    if not all(0 <= level <= 1 for level in levels):
        problems.append(Problem("levels", "some are not between 0 and 1", "state saturations as shares"))
    elif 0 not in levels:
        problems.append(Problem("levels", "0 is not among them", "leave some clusters without any offers"))
    return problems


def _whole(parts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Whole numbers near `parts` with the same sum; what is left over falls by chance."""
    floor = np.floor(parts + 1e-9).astype(int)
    left = round(parts.sum()) - floor.sum()
    if left:
        rest = np.maximum(parts - floor, 0)
        floor[rng.choice(len(parts), left, replace=False, p=rest / rest.sum())] += 1
    return floor


# --- households in which persons were drawn --------------------------------------------------------------------------


@dataclass(frozen=True)
class Exposure:
    """Customers of one arm by whether a mate of their household is in the personalised arm.

    `effective` is what their outcomes other than 0 are worth after weighting (Kish 1965), `mean` the weighted mean.
    """

    arm: str
    mate: bool
    n: int
    effective: float
    mean: float

    @classmethod
    def of(cls, arm: str, mate: bool, y: np.ndarray, weight: np.ndarray) -> Exposure:
        buys = weight[y != 0]
        effective = float(buys.sum() ** 2 / (buys**2).sum()) if len(buys) else 0.0
        return cls(arm, mate, len(y), effective, float((weight * y).sum() / weight.sum()) if len(y) else 0.0)


@dataclass(frozen=True)
class HouseholdEffect:
    """A difference of two exposures, weighted to the same customers, with an interval over households."""

    name: str
    value: float
    se: float
    low: float
    high: float
    level: float
    p: float
    n: int
    households: int


@dataclass(frozen=True)
class Households:
    """What customers of one household do to each other, read from an experiment that drew persons.

    `read` customers have mates and a fair chance of either exposure; `alone` have no mate in the experiment, `crowded` so
    many that one exposure is all but impossible, `unknown` no household.  `refused` says why an effect is not there.
    """

    outcome: str
    exposures: tuple[Exposure, ...]
    effects: tuple[HouseholdEffect, ...]
    refused: tuple[str, ...]
    read: int
    alone: int
    crowded: int
    unknown: int

    def effect(self, name: str) -> HouseholdEffect:
        """One effect by its name; raises Refusal with the reason where it was refused."""
        for found in self.effects:
            if found.name == name:
                return found
        raise Refusal(next((why for why in self.refused if why.startswith(name)), f"{name}: there is no such effect."))

    def __str__(self) -> str:
        head = f"households, mean of {self.outcome}: {number(self.read, 'count')} customers with mates"
        left = {"alone": self.alone, "in crowded households": self.crowded, "of no known household": self.unknown}
        out = ", ".join(f"{number(n, 'count')} {name}" for name, n in left.items() if n)
        lines = [head + (f"; left out: {out}" if out else "")]
        width = max((len(e.name) for e in self.effects), default=0)
        for e in self.effects:
            value = f"{number(e.value, signed=True)} ({between(e.low, e.high, signed=True)})"
            lines.append(f"  {e.name:<{width}}  {value}  {number(e.households, 'count')} households")
        return "\n".join([*lines, *(f"  {why}" for why in self.refused)])


def household_spillover(
    units: pd.DataFrame | ibis.Table,
    outcome: str,
    household: str,
    share: float,
    *,
    arm: str = "personalised",
    versus: str = "holdout",
    by: str = "arm",
    complete: str | None = None,
    alpha: float = 0.05,
    floor: float = FLOOR,
    min_effective: float = MIN_EFFECTIVE,
) -> Households:
    """What the offers of one person do to the others of the household, where persons and not households were drawn.

    `units` has one row for everybody assigned; `share` is the probability with which a person was drawn into `arm`.  A
    customer's exposure is her own arm and whether any mate is in `arm`; with m mates in the experiment that has the known
    probability 1 − (1 − share)^m, and each customer counts with the inverse of the probability of the exposure she had
    (Aronow and Samii 2017).  So the means compared are of the same customers, though those with many mates are exposed more
    often.  Customers without mates, or with so many that an exposure has a probability below `floor`, are left out: the
    effect is of the others.  Errors are added up within households, and the interval takes the skew out (Hall 1992).

    `complete` names a column of truths: who is not complete counts as a mate, and has no outcome yet.  An effect is
    refused where the outcomes other than 0 of an exposure are worth fewer than `min_effective` equal ones (Kish 1965);
    raises Refusal where no effect is left.

    >>> rng = np.random.default_rng(1)
    >>> units = pd.DataFrame({"home": np.repeat(range(3000), 2), "arm": rng.choice(["personalised", "holdout"], 6000)})
    >>> mates = (units["arm"] == "personalised").groupby(units["home"]).transform("sum") - (units["arm"] == "personalised")
    >>> units["spend"] = rng.exponential(20, 6000) + 3 * (units["arm"] == "personalised") + 2 * (mates > 0)
    >>> print(household_spillover(units, "spend", "home", 0.5))
    households, mean of spend: 6,000 customers with mates
      spillover on holdout       +1.441 (−0.001563 to +2.876)  2,227 households
      spillover on personalised  +1.727 (+0.2654 to +3.189)  2,246 households
      own offers, no mate's      +3.048 (+1.556 to +4.540)  2,227 households
      own offers and a mate's    +4.775 (+3.308 to +6.243)  1,527 households
    """
    frame = _person_rows(units, outcome, household, by, complete, share)
    known = frame["home"].notna().to_numpy()
    here = frame[known]
    home = np.unique(here["home"].to_numpy(), return_inverse=True)[1]
    own = (here["arm"] == arm).to_numpy()
    mates = np.bincount(home)[home] - 1
    mate = np.bincount(home, own)[home] - own > 0
    none = (1 - share) ** mates
    chance = np.where(mate, 1 - none, none)
    ready = here["complete"].to_numpy(dtype=bool) & here["arm"].isin([arm, versus]).to_numpy()
    fair = (mates > 0) & (np.minimum(none, 1 - none) >= floor)
    use = ready & fair
    y, weight, home, own, mate = (
        values[use] for values in (here["outcome"].to_numpy(dtype=float), 1 / chance, home, own, mate)
    )
    if np.isnan(y).any():
        count = int(np.isnan(y).sum())
        raise InputError(Problem("units", f"{count:,} have no value", "who did nothing has 0", outcome, count=count))
    places = {(name, seen): (own == (name == arm)) & (mate == seen) for name in (versus, arm) for seen in (False, True)}
    exposures = {(name, seen): Exposure.of(name, seen, y[at], weight[at]) for (name, seen), at in places.items()}
    contrasts = {
        f"spillover on {versus}": ((versus, True), (versus, False)),
        f"spillover on {arm}": ((arm, True), (arm, False)),
        "own offers, no mate's": ((arm, False), (versus, False)),
        "own offers and a mate's": ((arm, True), (versus, False)),
    }
    effects, refused = [], []
    for name, pair in contrasts.items():
        few = min((exposures[key] for key in pair), key=lambda seen: seen.effective)
        if few.effective < min_effective:
            whose = f"{few.arm} with {'a' if few.mate else 'no'} mate in {arm}"
            refused.append(
                f"{name}: the {few.n:,} customers of {whose} are worth {few.effective:,.0f} buyers after weighting and "
                f"{min_effective:g} are needed; collect more customers, or draw whole households."
            )
            continue
        found = weighted_difference(y, weight, places[pair[0]], places[pair[1]], home, alpha)
        either = places[pair[0]] | places[pair[1]]
        effects.append(HouseholdEffect(name, *found, int(either.sum()), _present(home[either])))
    if not effects:
        raise Refusal(f"households, {refused[0]}")
    return Households(
        outcome=outcome,
        exposures=tuple(exposures.values()),
        effects=tuple(effects),
        refused=tuple(refused),
        read=int(use.sum()),
        alone=int((ready & (mates == 0)).sum()),
        crowded=int((ready & (mates > 0) & ~fair).sum()),
        unknown=int((~known).sum()),
    )


def weighted_difference(
    y: np.ndarray, weight: np.ndarray, one: np.ndarray, two: np.ndarray, cluster: np.ndarray, alpha: float = 0.05
) -> tuple[float, float, float, float, float, float]:
    """Difference of two weighted means with its error added up within clusters: (value, se, low, high, level, p).

    `one` and `two` are truths, one entry a row; `cluster` holds whole numbers from 0.  Means are divided by the sum of their
    weights (Hájek 1971), errors are linearised and summed within a cluster; the interval takes out the skew of their sum
    (Hall 1992), and the degrees of freedom of t follow from how evenly the variance is spread over the clusters
    (Satterthwaite 1946).

    >>> y, place = np.array([1.0, 2, 3, 4, 5, 7]), np.arange(6)
    >>> found = weighted_difference(y, np.ones(6), place > 2, place < 3, place)
    >>> round(found[0], 4), round(found[1], 4)
    (3.3333, 1.0541)
    """
    value, parts = 0.0, np.zeros(int(cluster.max()) + 1)
    for rows, sign in ((one, 1.0), (two, -1.0)):
        w, values, own = weight[rows], y[rows], cluster[rows]
        mean = float((w * values).sum() / w.sum())
        summed = np.bincount(own, w * (values - mean) / w.sum(), minlength=len(parts))
        size = _present(own)
        value += sign * mean
        parts += sign * math.sqrt(size / (size - 1)) * summed
    spread = float((parts**2).sum())
    if spread <= (1e-12 * np.abs(y).max()) ** 2:
        raise Refusal("households: no customer differs from another, so there is nothing to compare.")
    se = math.sqrt(spread)
    skew = float((parts**3).sum()) / se**3
    df = 2 * spread**2 / float((parts**4).sum())  # a variance carried by few clusters is known from few
    quantile, t = -float(special.stdtrit(df, alpha / 2)), value / se
    low, high = (value - se * studentised(end, skew) for end in (quantile, -quantile))
    return value, se, float(low), float(high), 1 - alpha, float(2 * special.stdtr(df, -abs(transformed(t, skew))))


def _present(codes: np.ndarray) -> int:
    return int(np.count_nonzero(np.bincount(codes)))


def _person_rows(units, outcome: str, household: str, by: str, complete: str | None, share: float) -> pd.DataFrame:
    columns = {"outcome": outcome, "home": household, "arm": by} | ({"complete": complete} if complete else {})
    absent = [name for name in columns.values() if name not in units.columns]
    problems = [Problem("units", "there is no such column", "name a column of it", column=name) for name in absent]
    if not 0 < share < 1:
        problems.append(Problem("share", f"is {share}", "give the probability of being drawn into the arm"))
    if problems:
        raise InputError(problems)
    if not isinstance(units, pd.DataFrame):
        units = units.select(*dict.fromkeys(columns.values())).to_pyarrow().to_pandas()
    frame = pd.DataFrame({name: units[column] for name, column in columns.items()})
    return frame if complete else frame.assign(complete=True)


def household_evidence(
    units: pd.DataFrame, outcome: str, share: float, window_days: int, currency: str, versus: str = "holdout", **more
) -> list[Evidence]:
    """What a mate's personalised offers did to customers of `versus`: a row that is reported, without a threshold."""
    row = {
        "id": "method.spillover.household",
        "requirement": "design.spillover",
        "kind": "interval",
        "design": "randomised",
        "arm": versus,
        "unit": "money",
        "better": "up",
        "family": "exploratory",
        "tables": ("assignments", "customers", "orders"),
        "window_start": "day 0",
        "window_end": f"day {window_days}",
    }
    try:
        seen = household_spillover(units, outcome, "household", share, versus=versus, **more).effect(
            f"spillover on {versus}"
        )
    except Refusal as refusal:
        return [Evidence(statement=f"Not read: {refusal}", **row)]
    text = shown(seen.value, seen.low, seen.high, "money", currency)
    statement = f"A mate's personalised offers changed what customers of {versus} spent by {text}."
    numbers = {"value": seen.value, "se": seen.se, "low": seen.low, "high": seen.high, "level": seen.level, "p": seen.p}
    return [Evidence(statement=statement, n=seen.n, **numbers, **row)]
