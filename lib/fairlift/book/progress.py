"""How far a run has come, drawn on a terminal and nowhere else."""

from __future__ import annotations

import sys


class Progress:
    """A bar over `total` notebooks that names those at work; silent where the error stream is no terminal."""

    def __init__(self, total: int):
        self._total = total
        self._bar = None
        self._busy: list[str] = []

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("", total=self._total)
        return self

    def __exit__(self, *_exc) -> None:
        if self._bar:
            self._bar.stop()

    def begin(self, name: str) -> None:
        self._busy.append(name)
        self._draw()

    def done(self, name: str) -> None:
        if name in self._busy:
            self._busy.remove(name)
        self._draw(advance=1)

    def _draw(self, advance: int = 0) -> None:
        if self._bar:
            self._bar.update(self._task, advance=advance, description=", ".join(self._busy))
