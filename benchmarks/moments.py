"""How fast and how lean the moment engine is, side by side with its peers in one run.

A table of 10 million users, from Parquet and from a DuckDB file, is analysed for revenue with CUPED, for orders, and for
orders per session, by: raw SQL in DuckDB (the sums alone), fairlift, tea-tasting (Ibis on DuckDB), and pandas with
statsmodels.  Then 40 million events become totals of 10 million users and moments, by plain SQL and by fairlift.

Every measurement runs in a process of its own; the systems take turns, so that other work on the machine hits all alike.
`ratio_to_raw` is the median over turns of the ratio within a turn; `cpu_ratio_to_raw` compares processor time over all
threads, which other work on the machine disturbs less.  `peak_mb` is the peak of resident memory less what was resident
once everything was imported.  Imports and Ibis's first expression are paid before the clock starts, and
stand in rows of their own.  The answers of all systems are compared before anything is written.

    python benchmarks/moments.py                     about ten minutes, 2 GB of temporary disk
    python benchmarks/moments.py --users 200000      a quick look; writes nothing
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

FULL = 10_000_000
SHIFTS = {"revenue": 20.0, "pre_revenue": 16.0, "orders": 1.0, "sessions": 6.0}
WELCH = [
    ("revenue",), ("pre_revenue",), ("orders",), ("sessions",),
    ("revenue", "revenue"), ("pre_revenue", "revenue"), ("pre_revenue", "pre_revenue"),
    ("orders", "orders"), ("orders", "sessions"), ("sessions", "sessions"),
]  # fmt: skip
HALL = [
    *WELCH, ("revenue",) * 3, ("pre_revenue", "revenue", "revenue"), ("pre_revenue", "pre_revenue", "revenue"),
    ("pre_revenue",) * 3, ("orders",) * 3,
]  # fmt: skip
SYSTEMS = (
    "raw DuckDB sums",
    "raw DuckDB sums, without third moments",
    "fairlift",
    "tea-tasting",
    "pandas + statsmodels",
)
EVENT_SYSTEMS = ("plain SQL", "fairlift")

Answer = dict[str, tuple[float, float]]  # metric -> difference and standard error


def make_data(folder: Path, users: int) -> None:
    import duckdb

    connection = duckdb.connect(str(folder / "users.duckdb"))
    connection.execute("SET threads = 1; SELECT setseed(0.5)")  # one thread, so that the seed fixes the rows
    connection.execute(f"""
        CREATE TABLE drawn AS SELECT i AS customer, random() < .25 AS buys, random() AS a, random() AS b, random() AS c,
            (random() * 2)::INT AS more, (random() * 9)::INT AS visits, random() AS pre
        FROM range({users}) t(i)""")
    connection.execute(f"""
        CREATE TABLE users AS SELECT
            customer,
            CASE WHEN customer % 20 = 0 THEN 'holdout' ELSE 'personalised' END AS variant,
            CASE WHEN pre < .3 THEN exp(3 + pre * 6) ELSE 0 END AS pre_revenue,
            CASE WHEN buys THEN exp(3 + sqrt(-2 * ln(1 - a)) * cos(6.2831853 * b)) + pre_revenue / 4 ELSE 0 END AS revenue,
            CASE WHEN buys THEN 1 + more ELSE 0 END AS orders,
            1 + orders + visits AS sessions
        FROM drawn;
        DROP TABLE drawn;
        COPY users TO '{folder}/users.parquet'""")
    connection.execute(f"""
        COPY (SELECT customer, day, CASE WHEN r < .1 THEN 5 + r * 900 ELSE 0 END AS revenue,
            (r < .1)::INT AS orders, 1 AS sessions
        FROM (SELECT (random() * {users - 1})::BIGINT AS customer, DATE '2026-01-01' + (random() * 89)::INT AS day,
            random() AS r FROM range({4 * users}))) TO '{folder}/events.parquet'""")
    connection.close()


def sums_sql(source: str, terms: list[tuple[str, ...]], nonzero: bool) -> str:
    moved = ", ".join(f"{name}::DOUBLE - {shift}::DOUBLE AS {name[0]}" for name, shift in SHIFTS.items())
    sums = ", ".join(f"sum({' * '.join(name[0] for name in term)})" for term in terms)
    counts = ", count(nullif(revenue, 0)), count(nullif(orders, 0))" if nonzero else ""
    kept = ", revenue, orders" if nonzero else ""
    return (
        f"SELECT variant, count(*), {sums}{counts} FROM (SELECT variant, {moved}{kept} FROM {source}) GROUP BY variant"
    )


def answer_of_sums(rows: list[tuple]) -> Answer:
    """The effects that raw sums lead to; outside the clock, only to show that the sums suffice."""
    import numpy as np

    arms = {}
    for variant, n, *sums in rows:
        by = dict(zip(HALL, sums, strict=False))
        covariance = {pair: (by[pair] - by[pair[:1]] * by[pair[1:]] / n) / (n - 1) for pair in by if len(pair) == 2}
        arms[variant] = n, {name: SHIFTS[name] + by[(name,)] / n for name in SHIFTS}, covariance
    (n1, m1, c1), (n0, m0, c0) = arms["personalised"], arms["holdout"]
    pair, own = ("pre_revenue", "revenue"), ("pre_revenue", "pre_revenue")
    gap = {name: m1[name] - m0[name] for name in SHIFTS}
    between = n1 * n0 / (n1 + n0)
    inside = {key: (n1 - 1) * c1[key] + (n0 - 1) * c0[key] + between * gap[key[0]] * gap[key[1]] for key in (pair, own)}
    theta = inside[pair] / inside[own]

    def adjusted(c: dict) -> float:
        return c["revenue", "revenue"] - 2 * theta * c[pair] + theta**2 * c[own]

    def ratio(m: dict, c: dict) -> tuple[float, float]:
        r = m["orders"] / m["sessions"]
        return r, (c["orders", "orders"] - 2 * r * c["orders", "sessions"] + r * r * c["sessions", "sessions"]) / m[
            "sessions"
        ] ** 2

    (r1, v1), (r0, v0) = ratio(m1, c1), ratio(m0, c0)
    o1, o0 = c1["orders", "orders"], c0["orders", "orders"]
    return {
        "revenue": (gap["revenue"] - theta * gap["pre_revenue"], float(np.sqrt(adjusted(c1) / n1 + adjusted(c0) / n0))),
        "orders": (gap["orders"], math.sqrt(o1 / n1 + o0 / n0)),
        "frequency": (r1 - r0, math.sqrt(v1 / n1 + v0 / n0)),
    }


# --- the systems: each returns a function to time, and a function that turns its outcome into an Answer ---------------


def raw(folder: Path, source: str, terms=HALL, nonzero: bool = True) -> tuple[Callable, Callable]:
    import duckdb

    connection = duckdb.connect(str(folder / "users.duckdb"), read_only=True)
    sql = sums_sql("users" if source == "table" else f"'{folder}/users.parquet'", terms, nonzero)
    return lambda: connection.execute(sql).fetchall(), answer_of_sums


def ibis_table(folder: Path, source: str):
    import ibis

    connection = ibis.duckdb.connect(str(folder / "users.duckdb"), read_only=True)
    return connection.table("users") if source == "table" else connection.read_parquet(folder / "users.parquet")


def fairlift_metrics():
    from fairlift.method import Mean, Ratio

    return {
        "revenue": Mean("revenue", "pre_revenue"),
        "orders": Mean("orders"),
        "frequency": Ratio("orders", "sessions"),
    }


def fairlift_effects(gathered) -> Answer:
    from fairlift.method import Mean, effect

    answer = {}
    for name, metric in fairlift_metrics().items():
        adjust = "pooled" if isinstance(metric, Mean) and metric.covariates else None
        got = effect(gathered, metric, "personalised", "holdout", adjust=adjust)
        answer[name] = (got.value, got.se)
    return answer


def fairlift(folder: Path, source: str) -> tuple[Callable, Callable]:
    from fairlift.method import moments

    table, metrics = ibis_table(folder, source), list(fairlift_metrics().values())
    fairlift_effects(moments(table.limit(20_000), metrics, "variant"))  # Ibis's and scipy's first calls
    return lambda: fairlift_effects(moments(table, metrics, "variant")), lambda answer: answer


def tea_tasting(folder: Path, source: str) -> tuple[Callable, Callable]:
    import tea_tasting as tt

    experiment = tt.Experiment(
        revenue=tt.Mean("revenue", "pre_revenue"),
        orders=tt.Mean("orders"),
        frequency=tt.RatioOfMeans("orders", "sessions"),
    )
    table = ibis_table(folder, source)
    experiment.analyze(table.limit(20_000), control="holdout")
    return (
        lambda: experiment.analyze(table, control="holdout"),
        lambda result: {name: (r.effect_size, r.effect_size / r.statistic) for name, r in result.items()},
    )


def pandas_statsmodels(folder: Path, source: str) -> tuple[Callable, Callable]:
    import duckdb
    import numpy as np
    import pandas as pd
    from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

    columns = ["variant", *SHIFTS]
    connection = duckdb.connect(str(folder / "users.duckdb"), read_only=True)

    def run() -> Answer:
        if source == "table":
            rows = connection.sql(f"SELECT {', '.join(columns)} FROM users").df()
        else:
            rows = pd.read_parquet(folder / "users.parquet", columns=columns)
        theta = rows["revenue"].cov(rows["pre_revenue"]) / rows["pre_revenue"].var()
        rows["adjusted"] = rows["revenue"] - theta * (rows["pre_revenue"] - rows["pre_revenue"].mean())
        one, two = (part for _, part in sorted(rows.groupby("variant"), reverse=True))
        answer = {}
        for name, column in (("revenue", "adjusted"), ("orders", "orders")):
            compared = CompareMeans(DescrStatsW(one[column]), DescrStatsW(two[column]))
            compared.tconfint_diff(usevar="unequal")
            d1, d2 = compared.d1, compared.d2
            answer[name] = (d1.mean - d2.mean, float(compared.std_meandiff_separatevar))
        ratios = []
        for part in (one, two):
            ratio = part["orders"].mean() / part["sessions"].mean()
            rest = DescrStatsW(part["orders"] - ratio * part["sessions"])
            ratios.append((ratio, rest.var * rest.nobs / (rest.nobs - 1) / rest.nobs / part["sessions"].mean() ** 2))
        answer["frequency"] = (ratios[0][0] - ratios[1][0], float(np.sqrt(ratios[0][1] + ratios[1][1])))
        return answer

    return run, lambda answer: answer


def plain_sql(folder: Path, _: str) -> tuple[Callable, Callable]:
    import duckdb

    connection = duckdb.connect()
    units = f"""(SELECT variant, pre_revenue, coalesce(t.revenue, 0) AS revenue, coalesce(t.orders, 0) AS orders,
            coalesce(t.sessions, 0) AS sessions
        FROM '{folder}/users.parquet' LEFT JOIN (
            SELECT customer, sum(revenue) AS revenue, sum(orders::DOUBLE) AS orders, sum(sessions::DOUBLE) AS sessions
            FROM '{folder}/events.parquet' WHERE day <= DATE '2026-03-01' GROUP BY customer) t USING (customer))"""
    sql = sums_sql(units, HALL, nonzero=True)
    return lambda: connection.execute(sql).fetchall(), answer_of_sums


def fairlift_events(folder: Path, _: str) -> tuple[Callable, Callable]:
    import datetime

    import ibis

    from fairlift.method import cumulate, moments

    connection = ibis.duckdb.connect()
    users = connection.read_parquet(folder / "users.parquet").select("customer", "variant", "pre_revenue")
    events = connection.read_parquet(folder / "events.parquet")
    totals = ["revenue", "orders", "sessions"]

    def run(until: datetime.date) -> Answer:
        seen = cumulate(events, "customer", "day", totals, until=until)
        units = users.left_join(seen, "customer")
        units = units.mutate(**{name: units[name].fill_null(0.0) for name in totals})
        return fairlift_effects(moments(units, list(fairlift_metrics().values()), "variant"))

    fairlift_effects(moments(ibis_table(folder, "parquet").limit(20_000), list(fairlift_metrics().values()), "variant"))
    return lambda: run(datetime.date(2026, 3, 1)), lambda answer: answer


def starts() -> dict[str, float]:
    """What is paid once a process: importing, and Ibis's first expression."""
    clock = [time.perf_counter()]
    import pandas as pd

    clock.append(time.perf_counter())
    import ibis

    clock.append(time.perf_counter())
    ibis.duckdb.connect().create_table("t", schema=ibis.schema({"x": "float64"})).x.sum().to_pyarrow()
    clock.append(time.perf_counter())
    import fairlift.method as method

    clock.append(time.perf_counter())
    few = pd.DataFrame({"arm": ["a", "b"] * 5, "y": range(10)})
    method.effect(method.moments(few, method.Mean("y"), "arm"), method.Mean("y"), "a", "b", interval="welch")
    clock.append(time.perf_counter())
    names = (
        "once: import pandas",
        "once: import Ibis after pandas",
        "once: Ibis's first expression",
        "once: import fairlift.method after Ibis",
        "once: fairlift's first effect",
    )
    return {name: b - a for name, (a, b) in zip(names, pairwise(clock), strict=True)}


RUN = {
    "raw DuckDB sums": raw,
    "raw DuckDB sums, without third moments": lambda folder, source: raw(folder, source, WELCH, nonzero=False),
    "fairlift": fairlift,
    "tea-tasting": tea_tasting,
    "pandas + statsmodels": pandas_statsmodels,
}
IMPORTS = {
    "raw DuckDB sums": ["duckdb"],
    "plain SQL": ["duckdb"],
    "fairlift": ["ibis.backends.duckdb", "fairlift.method"],
    "tea-tasting": ["ibis.backends.duckdb", "tea_tasting"],
    "pandas + statsmodels": ["duckdb", "pandas", "pyarrow.parquet", "statsmodels.stats.weightstats"],
}
RUN_EVENTS = {"plain SQL": plain_sql, "fairlift": fairlift_events}


def measure(system: str, source: str, folder: Path, runs: int) -> dict:
    """In a fresh process: time the runs, then tell the peak of memory over what the imports took."""
    for name in IMPORTS[system.partition(",")[0]]:
        importlib.import_module(name)
    imported = memory("VmRSS")
    run, answer_of = (RUN_EVENTS if source == "events" else RUN)[system](folder, source)
    seconds, cpu = [], []
    for _ in range(runs):
        start, work = time.perf_counter(), time.process_time()
        outcome = run()
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - work)
    return {"seconds": seconds, "cpu": cpu, "peak_mb": memory("VmHWM") - imported, "answer": answer_of(outcome)}


def memory(what: str) -> float:
    """Resident memory of this process in MB: now (VmRSS) or at its peak (VmHWM).

    Not getrusage, whose peak a process inherits from the one that started it.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) * 1024 / 1e6


def in_a_process(*arguments: str) -> dict:
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def take_turns(folder: Path, source: str, systems: tuple[str, ...], turns: int, runs: int) -> list[dict]:
    """Measure the systems in turn; refuse to report unless all came to the same effects."""
    found: dict[str, list[dict]] = {system: [] for system in systems}
    for _ in range(turns):
        for system in systems:
            found[system].append(in_a_process("--measure", system, source, str(folder), str(runs)))
    base = found[systems[0]]
    truth = base[0]["answer"]
    for system, results in found.items():
        for metric, pair in results[0]["answer"].items():
            if not all(math.isclose(a, b, rel_tol=1e-7) for a, b in zip(pair, truth[metric], strict=True)):
                sys.exit(f"{system} finds {pair} for {metric}, {systems[0]} {truth[metric]}")
    rows = []
    for system, results in found.items():
        ratios = {
            key: [statistics.median(a[key]) / statistics.median(b[key]) for a, b in zip(results, base, strict=True)]
            for key in ("seconds", "cpu")
        }
        rows.append(
            {
                "system": f"{system}, {'events → users' if source == 'events' else f'from {source}'}",
                "seconds_median": round(statistics.median(s for one in results for s in one["seconds"]), 4),
                "ratio_to_raw": round(statistics.median(ratios["seconds"]), 3),
                "ratio_range": [round(min(ratios["seconds"]), 3), round(max(ratios["seconds"]), 3)],
                "cpu_seconds_median": round(statistics.median(s for one in results for s in one["cpu"]), 4),
                "cpu_ratio_to_raw": round(statistics.median(ratios["cpu"]), 3),
                "peak_mb": round(statistics.median(one["peak_mb"] for one in results)),
            }
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=FULL)
    parser.add_argument("--turns", type=int, default=7, help="how often the systems take turns")
    parser.add_argument("--runs", type=int, default=3, help="runs within each process")
    parser.add_argument("--measure", nargs=4, metavar=("SYSTEM", "SOURCE", "FOLDER", "RUNS"), help=argparse.SUPPRESS)
    parser.add_argument("--make", metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--starts", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.starts:
        print(json.dumps(starts()))
        return
    if options.measure:
        system, source, folder, runs = options.measure
        print(json.dumps(measure(system, source, Path(folder), int(runs))))
        return

    if options.make:
        make_data(Path(options.make), options.users)
        return
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, __file__, "--make", name, "--users", str(options.users)], check=True)
        rows = []
        for source in ("parquet", "table"):
            rows += take_turns(folder, source, SYSTEMS, options.turns, options.runs)
        rows += take_turns(folder, "events", EVENT_SYSTEMS, options.turns, max(1, options.runs - 2))
    once = [in_a_process("--starts") for _ in range(options.turns)]
    rows += [
        {"system": name, "seconds_median": round(statistics.median(one[name] for one in once), 4),
         "ratio_to_raw": None, "peak_mb": None}
        for name in once[0]
    ]  # fmt: skip
    if options.users == FULL:
        from record import write_results

        more = {"users": options.users, "events": 4 * options.users, "turns": options.turns}
        print(
            write_results(
                "moments", rows, **more, load_before=round(load[0], 1), load_after=round(os.getloadavg()[0], 1)
            )
        )


if __name__ == "__main__":
    main()
