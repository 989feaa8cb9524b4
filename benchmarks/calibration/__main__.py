"""Run every case and write benchmarks/results/calibration.json: `python -m benchmarks.calibration`.

`--only TOPIC` runs one topic, `--share .1` a tenth of the experiments for a first look; both leave the results alone.
Exits 1 where a row breaks the bounds of its kind.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from types import ModuleType

from benchmarks import calibration
from benchmarks.record import write_results

from fairlift.method.calibration import Row, faults

SEED = 20260101


def topics() -> list[str]:
    names = [module.name for module in pkgutil.iter_modules(calibration.__path__)]
    return sorted(name for name in names if not name.startswith("_"))


def module(topic: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.calibration.{topic}")


def run(topic: str, place: int, share: float) -> list[Row]:
    case = module(topic).CASES[place]
    return case.run(max(1, round(case.reps * share)), SEED)


def rounded(row: Row) -> dict:
    """A row as it is published: digits beyond the fifth are noise."""
    return {name: round(value, 5) if isinstance(value, float) else value for name, value in asdict(row).items()}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", action="append", help="only this topic")
    options.add_argument("--share", type=float, default=1.0, help="of the experiments")
    options.add_argument("--jobs", type=int, default=2)
    chosen = options.parse_args()
    wanted = [(topic, place) for topic in chosen.only or topics() for place in range(len(module(topic).CASES))]
    rows, broken = [], 0
    with ProcessPoolExecutor(chosen.jobs) as pool:
        answers = pool.map(run, *zip(*wanted, strict=True), [chosen.share] * len(wanted))
        for (topic, _), found in zip(wanted, answers, strict=True):
            for row in found:
                wrong = faults(row)
                broken += bool(wrong)
                print(row, *(f"\n    BROKEN: {text}" for text in wrong), flush=True)
            rows += [{"topic": topic} | rounded(row) for row in found]
    if not chosen.only and chosen.share == 1:
        titles = {topic: module(topic).__doc__.splitlines()[0].rstrip(".") for topic in topics()}
        write_results("calibration", rows, command="python -m benchmarks.calibration", seed=SEED, topics=titles)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
