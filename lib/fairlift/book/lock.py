"""One run at a time in a study: a lock that the operating system drops when its owner dies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fairlift.errors import InputError, Problem

_FAR = 1 << 20  # the byte locked on Windows lies behind the text, which stays readable


@contextmanager
def alone(path: Path, study: str) -> Iterator[None]:
    """Hold the lock file `path` for the length of a block; refuses when another process holds it.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, alone(Path(folder) / "run.lock", "demo"):
    ...     (Path(folder) / "run.lock").read_text() == str(os.getpid())
    True
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            _take(file)
        except OSError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            found = f"another run is at work in it (process {owner})"
            raise InputError(Problem(study, found, "wait until it is done, or stop that process")) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield  # closing the file drops the lock


def _take(file) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        file.seek(_FAR)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        file.seek(0)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
