"""How much is gained by running notebooks side by side, and how long each takes.

Writes benchmarks/results/notebooks.json: a row a notebook with its seconds (kernel and imports included), and for the whole
run wall_seconds, sum_seconds and ratio (sum / wall), each the median of the repeats.  The demo is prepared beforehand.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median

from record import write_results

from fairlift.book import run
from fairlift.simulate import simulate


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--jobs", type=int, default=2)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "demo"
        simulate(study)
        run(study, jobs=chosen.jobs)  # once uncounted: prepares the mart and warms the file cache
        runs = [run(study, jobs=chosen.jobs, fresh=True) for _ in range(chosen.repeats)]
    rows = [
        {"notebook": name, "seconds_median": round(median(one.notebooks[name].seconds for one in runs), 2)}
        for name in runs[0].notebooks
    ]
    sums = [sum(entry.seconds for entry in one.notebooks.values()) for one in runs]
    ratios = [total / one.wall_seconds for total, one in zip(sums, runs, strict=True)]
    whole = {
        "jobs": chosen.jobs,
        "repeats": chosen.repeats,
        "wall_seconds": round(median(one.wall_seconds for one in runs), 2),
        "sum_seconds": round(median(sums), 2),
        "ratio": round(median(ratios), 2),
    }
    print(whole, *rows, sep="\n")
    write_results("notebooks", rows, **whole)


if __name__ == "__main__":
    main()
