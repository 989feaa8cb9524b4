"""Customers reduced to the stores, regions or households they came in: one pass, one entry a cluster."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fairlift.errors import InputError, Problem
from fairlift.method.moments import _absent, _held, _not_numeric, _refuse


@dataclass(frozen=True, eq=False)
class Clusters:
    """One entry a cluster, in the order of their names: all that any estimate below needs.

    `n` customers, `mean` of the outcome, `within` the sum of squares around that mean, `pre` the mean of the pre-period
    covariate, `arm` and `block` (a pair or a stratum) where they were given.
    """

    outcome: str
    name: np.ndarray
    n: np.ndarray
    mean: np.ndarray
    within: np.ndarray
    arm: np.ndarray | None = None
    pre: np.ndarray | None = None
    block: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.name)

    def of(self, *arms: str) -> Clusters:
        """The clusters of these arms."""
        chosen = np.isin(self.arm, arms)
        parts = {key: value[chosen] for key, value in vars(self).items() if isinstance(value, np.ndarray)}
        return replace(self, **parts)

    def before(self) -> Clusters:
        """The same clusters with the pre-period as the outcome: what an A/A check reads."""
        if self.pre is None:
            raise InputError(Problem("clusters", "no pre-period was gathered", "name it: `pre=`"))
        return replace(self, outcome=f"{self.outcome} before", mean=self.pre, within=np.zeros(len(self)), pre=None)


def by_cluster(
    table, outcome: str, cluster: str, arm: str | None = None, *, pre: str | None = None, block: str | None = None
) -> Clusters:
    """Reduce customers to one entry a cluster, in one pass where the table lives.

    `table` is a pandas frame or an Ibis table with one row a customer (or one row a store, which is then a cluster of
    one); the other arguments name its columns.  `pre` is a covariate from before the draw: a cluster's is the mean of
    those customers who have one.  `block` is the pair or stratum within which clusters were drawn.

    Raises InputError with all problems at once: absent or non-numeric columns, missing or infinite outcomes, customers
    without cluster or arm, a cluster in two arms or two blocks, a cluster without any pre-period.

    >>> import pandas as pd
    >>> rows = pd.DataFrame({"store": ["s", "s", "t"], "spend": [1.0, 3.0, 5.0]})
    >>> found = by_cluster(rows, "spend", "store")
    >>> found.n.tolist(), found.mean.tolist(), found.within.tolist()
    ([2.0, 1.0], [2.0, 5.0], [2.0, 0.0])
    """
    keys = {"name": cluster} | {key: name for key, name in (("arm", arm), ("block", block)) if name is not None}
    values = {"mean": outcome} | ({"pre": pre} if pre is not None else {})
    columns = (*keys.values(), *values.values())
    _refuse(_absent(columns, [str(name) for name in table.columns]))
    with _held(table, columns) as held:
        _refuse(_not_numeric(held, tuple(values.values())))
        found = _reduced(held, keys, values)
    _refuse(_wrong(found, keys, values))
    order = np.argsort(found["name"].astype(str), kind="stable")
    n = found["n"].astype(float)
    spread = np.nan_to_num(found["variance"].astype(float)) * (n - 1)
    parts = {"name": found["name"], "n": n, "mean": found["mean"].astype(float), "within": spread}
    parts |= {"pre": found["pre"].astype(float)} if pre is not None else {}
    parts |= {key: found[key].astype(str) for key in ("arm", "block") if key in keys}
    return Clusters(outcome, **{key: value[order] for key, value in parts.items()})


def _reduced(table, keys: Mapping[str, str], values: Mapping[str, str]) -> dict[str, np.ndarray]:
    def real(name: str):
        column = table[name].cast("float64")
        return column.isnan().ifelse(None, column)

    rows = table.select(**{key: table[name] for key, name in keys.items()}, **{k: real(v) for k, v in values.items()})
    sums = {"n": rows.count(), "present": rows["mean"].count(), "mean": rows["mean"].mean()}
    sums["variance"] = rows["mean"].var(how="sample")
    for key in ("arm", "block"):
        if key in keys:
            sums |= {key: rows[key].min(), f"{key} last": rows[key].max(), f"{key} present": rows[key].count()}
    sums |= {"pre": rows["pre"].mean()} if "pre" in values else {}
    # "_" keeps an aggregate from hiding the column it is made of
    got = rows.group_by("name").aggregate(**{f"_{key}": value for key, value in sums.items()}).to_pyarrow()
    found = {"name": np.array(got["name"].to_pylist(), dtype=object)}
    return found | {key: np.array(got[f"_{key}"].to_pylist(), dtype=object) for key in sums}


def _wrong(found: Mapping[str, np.ndarray], keys: Mapping[str, str], values: Mapping[str, str]) -> list[Problem]:
    problems = []

    def note(column: str, count: int, what: str, mend: str) -> None:
        if count:
            problems.append(Problem("units", f"{count:,} {what}", mend, column=column, count=int(count)))

    n = found["n"].astype(int)
    lost = np.array([name is None or name != name for name in found["name"]], dtype=bool)
    note(keys["name"], n[lost].sum(), "customers have no cluster", "every customer of a cluster test needs one")
    note(values["mean"], (n - found["present"].astype(int)).sum(), "customers have no value", "who did nothing has 0")
    for key, what in (("arm", "arms"), ("block", "blocks")):
        if key not in keys:
            continue
        here = found[f"{key} present"].astype(int)
        note(keys[key], (n - here).sum(), "customers have no value", "every customer needs one")
        split = int(((here > 0) & (found[key] != found[f"{key} last"]))[~lost].sum())
        mend = (
            "whole clusters are drawn; if customers were drawn, read them with `effect`" if key == "arm" else "give one"
        )
        note(keys[key], split, f"clusters stand in two {what}", mend)
    endless = [value is not None and not math.isfinite(value) for value in found["mean"]]
    note(values["mean"], sum(endless), "clusters have an infinite mean", "give finite values")
    if "pre" in values:
        empty = sum(value is None or not math.isfinite(value) for value in found["pre"])
        note(values["pre"], empty, "clusters have no pre-period value", "leave out `pre`, or leave out new clusters")
    return problems
