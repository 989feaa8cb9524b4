"""What the tests share: the repository, and the real data, which may be absent."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def absent(reason: str) -> None:
    """Skip, or fail where FAIRLIFT_STRICT=1 says that nothing may be missing."""
    if os.environ.get("FAIRLIFT_STRICT") == "1":
        pytest.fail(f"{reason} (FAIRLIFT_STRICT=1 makes this a failure)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """`real_data("hillstrom/hillstrom.csv.gz")` is that file of FAIRLIFT_REAL_DATA; skips where it is absent."""

    def file(name: str) -> Path:
        folder = os.environ.get("FAIRLIFT_REAL_DATA")
        if not folder:
            absent(f"FAIRLIFT_REAL_DATA is not set, so {name} is not at hand")
        path = Path(folder) / name
        if not path.is_file():
            absent(f"FAIRLIFT_REAL_DATA holds no {name}")
        return path

    return file
