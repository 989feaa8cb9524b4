"""Every method on many experiments with a known truth, beside the naive method on the same experiments.

A module here covers one topic: its `CASES` are functions of (reps, seed) that draw the experiments, apply the library's
methods and the naive ones, and answer rows of `fairlift.method.calibration`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fairlift.method.calibration import Row


@dataclass(frozen=True)
class Case:
    """One set of experiments: what it is called, how many the published table rests on, and what runs them."""

    name: str
    reps: int
    run: Callable[[int, int], list[Row]]
