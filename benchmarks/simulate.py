"""How fast a synthetic retailer is made, and what bounds it.

Simulates a million customers over 26 weeks, and the demo, each in a process and a folder of its own, and writes
benchmarks/results/simulate.json: seconds, rows and customers a second, peak memory, and the share of the time that goes
into random numbers, arrays, Arrow columns, Parquet and the truth.  Takes a few minutes and about 1.5 GB of disk.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from record import write_results

from fairlift.simulate import chunk, read_scenario, simulate, tables, truth, write

# from the first day of the pre-period to the end of `as_of`: 77 + 105 days = 26 weeks
MILLION = "name: million\nlike: demo\nsentence: A million customers over 26 weeks.\npre_weeks: 11\n"
PARTS = ("random numbers", "arrays", "Arrow columns", "Parquet", "truth of the sample")


class Clock:
    """Seconds by part; what runs inside another part is counted once, in the inner one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.inner = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        start, outside, self.inner = time.perf_counter(), self.inner, 0.0
        yield
        whole = time.perf_counter() - start
        self.seconds[name] += whole - self.inner
        self.inner = outside + whole

    def watch(self, name: str, function: Callable) -> Callable:
        def timed(*args, **kwargs):
            with self.part(name):
                return function(*args, **kwargs)

        return timed


class Timed:
    """A random generator whose calls are timed."""

    def __init__(self, clock: Clock, rng: np.random.Generator) -> None:
        self.clock, self.rng = clock, rng

    def __getattr__(self, name: str) -> Callable:
        return self.clock.watch("random numbers", getattr(self.rng, name))


def measure(scenario: str, customers: int, parts: bool) -> dict:
    """One simulation from an empty folder: its time, its rows, its memory, and where the time went."""
    clock = Clock()
    if parts:
        stream = chunk.stream
        chunk.stream = tables.stream = lambda *key: Timed(clock, stream(*key))
        chunk.draw_chunk = clock.watch("arrays", chunk.draw_chunk)
        write.chunk_tables = clock.watch("Arrow columns", write.chunk_tables)
        truth.Tally.add = clock.watch("truth of the sample", truth.Tally.add)
        pq.ParquetWriter.write_table = clock.watch("Parquet", pq.ParquetWriter.write_table)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        if scenario == "million":
            (path / "million.yml").write_text(MILLION, encoding="utf-8")
        source = path / "million.yml" if scenario == "million" else scenario
        s = read_scenario(source)
        begin, busy = time.perf_counter(), time.process_time()
        simulate(path / "study", source, seed=1, customers=customers)
        seconds, busy = time.perf_counter() - begin, time.process_time() - busy
        files = list((path / "study" / "tables").glob("*.parquet"))
        rows = sum(pq.ParquetFile(file).metadata.num_rows for file in files)
        size = sum(file.stat().st_size for file in files)
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "what": s.sentence if scenario == "million" else f"the study `{scenario}`",
        "customers": customers,
        "weeks": round((7 * s.pre_weeks + (s.as_of - s.start).days + 1) / 7, 1),
        "rows": rows,
        "seconds": round(seconds, 2),
        "processor_seconds": round(busy, 2),
        "rows_per_second": round(rows / seconds),
        "customers_per_second": round(customers / seconds),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20),
        "parquet_mb": round(size / 2**20),
        "share_of_time": {name: round(clock.seconds[name] / seconds, 3) for name in PARTS} if parts else None,
    }


def apart(*task: object) -> dict:
    """The measurement in a fresh process, so that memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, task)


def bound(row: dict) -> str:
    """What bounds the rate, in two sentences."""
    ranked = sorted(row["share_of_time"].items(), key=lambda item: -item[1])
    listed = ", ".join(f"{name} {share:.0%}" for name, share in ranked)
    text = (
        f"One core does the work and memory holds one chunk of {chunk.CHUNK:,} customers; the time goes into {listed}."
    )
    busy = row["processor_seconds"] / row["seconds"]
    if busy < 0.8:
        alone = row["rows"] / row["processor_seconds"]
        text += (
            f" The processor was busy for {busy:.0%} of the time on a machine shared with other work: "
            f"on a core of its own the rate is about {alone:,.0f} rows a second."
        )
    return text


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--customers", type=int, default=1_000_000)
    chosen = options.parse_args()
    demo = sorted(
        (apart("demo", read_scenario("demo").customers, False) for _ in range(3)), key=lambda row: row["seconds"]
    )[1]
    million = apart("million", chosen.customers, True)
    rows = [million, {name: value for name, value in demo.items() if value is not None}]
    for row in rows:
        print(row)
    print(bound(million))
    if chosen.customers == 1_000_000:
        write_results("simulate", rows, bound=bound(million))


if __name__ == "__main__":
    main()
