"""The notebooks are tested on the demo, simulated and run first as a reader would."""

from __future__ import annotations

from functools import cache
from pathlib import Path

DEMO = Path(__file__).resolve().parents[1] / "data" / "demo"


def pytest_runtest_setup(item) -> None:
    """Before the first cell: a demo with tables, mart and evidence."""
    run_demo()


@cache
def run_demo() -> None:
    """Run the demo; what an earlier run left and nothing has changed is not made again."""
    from fairlift.book import run
    from fairlift.simulate import simulate

    if not any((DEMO / "tables").glob("*")):
        simulate(DEMO, "demo", 1)
    run(DEMO)
