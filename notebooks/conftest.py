"""The notebooks are tested on the demo, simulated and run first as a reader would."""

from __future__ import annotations

from functools import cache


def pytest_runtest_setup(item) -> None:
    """Before the first cell: a demo with tables, mart and evidence."""
    run_demo()


@cache
def run_demo() -> None:
    """Run the demo; what an earlier run left and nothing has changed is not made again."""
    from fairlift.book import ready_demo, run

    run(ready_demo())
