"""How fast customers are drawn: by the library in DuckDB, by SQL written by hand, one by one in Python, and at random.

Ten million text ids are drawn into three arms and counted.  "At random" is the naive draw: nobody can ever draw it again.
The systems take turns within one process; every ratio is the median over turns of the ratio within a turn.
`ids_per_cpu_second` counts processor time over all threads, which other work on the machine disturbs less.  The hashed draws
are compared before anything is written.

    python benchmarks/assignment.py                  about three minutes
    python benchmarks/assignment.py --ids 200000     a quick look; writes nothing
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable

import ibis
import numpy as np
import pandas as pd

from fairlift.method.assignment import _edge, allocate, arm_of, draw

FULL = 10_000_000
ALONE = 1_000_000  # drawn one by one
ARMS = {"personalised": 0.6, "control": 0.2, "holdout": 0.2}
HOW = {"salt": "2026", "namespace": "offers"}


def by_hand(connection, table: str) -> dict[str, int]:
    steps = " ".join(f"WHEN h < '{_edge(high)}' THEN '{arm}'" for _, high, arm in allocate(ARMS).segments)
    sql = f"SELECT CASE {steps} END AS v, count(*) FROM (SELECT md5('2026/offers/' || id) AS h FROM {table}) GROUP BY v"
    return dict(connection.raw_sql(sql).fetchall())


def in_duckdb(table, **more) -> dict[str, int]:
    drawn = draw(table, "id", ARMS, **HOW, **more)
    rows = drawn.group_by("variant").aggregate(n=drawn.count()).to_pyarrow().to_pylist()
    return {row["variant"]: row["n"] for row in rows}


def in_a_frame(frame: pd.DataFrame) -> dict[str, int]:
    return draw(frame, "id", ARMS, **HOW)["variant"].value_counts().to_dict()


def one_by_one(ids: list[str]) -> dict[str, int]:
    arms, found = allocate(ARMS), dict.fromkeys(ARMS, 0)
    for one in ids:
        found[arm_of(one, arms, **HOW)] += 1
    return found


def at_random(n: int) -> dict[str, int]:
    place = np.searchsorted(np.cumsum(list(ARMS.values()))[:-1], np.random.default_rng(1).random(n), side="right")
    return dict(zip(ARMS, np.bincount(place, minlength=len(ARMS)).tolist(), strict=True))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--ids", type=int, default=FULL)
    options.add_argument("--turns", type=int, default=5)
    chosen = options.parse_args()
    n, few = chosen.ids, min(chosen.ids, ALONE)
    con = ibis.duckdb.connect()
    for name, size in (("people", n), ("few", few)):
        con.raw_sql(f"CREATE TABLE {name} AS SELECT 'C' || lpad(range::VARCHAR, 8, '0') AS id, range % 7 AS region FROM range({size})")  # fmt: skip
    people, frame = con.table("people"), con.table("few").to_pyarrow().to_pandas()
    ids = frame["id"].tolist()
    alike = [arm_of(one, ARMS, **HOW) for one in ids[:100_000]]
    if alike != draw(frame.head(100_000), "id", ARMS, **HOW)["variant"].tolist():
        sys.exit("Python and DuckDB draw different arms")
    if by_hand(con, "few") != one_by_one(ids):
        sys.exit("SQL written by hand draws different arms")
    systems: dict[str, tuple[int, Callable]] = {
        "naive: at random, without a hash": (n, lambda: at_random(n)),
        "SQL written by hand in DuckDB": (n, lambda: by_hand(con, "people")),
        "fairlift in DuckDB": (n, lambda: in_duckdb(people)),
        "fairlift in DuckDB, exact within seven strata": (n, lambda: in_duckdb(people, strata=["region"])),
        "fairlift on a pandas frame": (few, lambda: in_a_frame(frame)),
        "one by one in Python": (few, lambda: one_by_one(ids)),
    }
    load, seconds, cpu = os.getloadavg()[0], {name: [] for name in systems}, {name: [] for name in systems}
    for _ in range(chosen.turns):
        for name, (_, run) in systems.items():
            start, work = time.perf_counter(), time.process_time()
            run()
            seconds[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - work)
    first = "SQL written by hand in DuckDB"
    rows = []
    for name, (size, _) in systems.items():
        each = [(a / size) / (b / n) for a, b in zip(seconds[name], seconds[first], strict=True)]
        median = statistics.median(seconds[name])
        rows.append(
            {
                "system": name,
                "ids": size,
                "seconds_median": round(median, 4),
                "ids_per_second": round(size / median),
                "ids_per_cpu_second": round(size / statistics.median(cpu[name])),
                "time_per_id_to_sql": round(statistics.median(each), 3),
                "ratio_range": [round(min(each), 3), round(max(each), 3)],
            }
        )
        print(rows[-1], flush=True)
    if n == FULL:
        from record import write_results

        more = {"turns": chosen.turns, "load_before": round(load, 1), "load_after": round(os.getloadavg()[0], 1)}
        print(write_results("assignment", rows, **more))


if __name__ == "__main__":
    main()
