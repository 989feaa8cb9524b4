"""How much is gained by running notebooks side by side, and how long each takes.

Writes benchmarks/results/notebooks.json: a row a notebook with its seconds when it runs alone (kernel and imports included),
and for the whole run sum_seconds (one at a time), wall_seconds (side by side) and ratio, each the median of the repeats,
taken in turn.  The demo is prepared beforehand.
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
        pairs = [
            (run(study, jobs=1, fresh=True), run(study, jobs=chosen.jobs, fresh=True)) for _ in range(chosen.repeats)
        ]
    rows = [
        {"notebook": name, "seconds_median": round(median(alone.notebooks[name].seconds for alone, _ in pairs), 2)}
        for name in pairs[0][0].notebooks
    ]
    sums = [sum(entry.seconds for entry in alone.notebooks.values()) for alone, _ in pairs]
    walls = [together.wall_seconds for _, together in pairs]
    whole = {
        "jobs": chosen.jobs,
        "repeats": chosen.repeats,
        "wall_seconds": round(median(walls), 2),
        "wall_seconds_one_job": round(median(alone.wall_seconds for alone, _ in pairs), 2),
        "sum_seconds": round(median(sums), 2),
        "ratio": round(median(total / wall for total, wall in zip(sums, walls, strict=True)), 2),
    }
    print(whole, *rows, sep="\n")
    write_results("notebooks", rows, **whole)


if __name__ == "__main__":
    main()
