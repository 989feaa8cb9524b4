"""How a notebook ends: its evidence is stamped with what it rests on and left in the study's folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from fairlift.evidence import Evidence, suppress, write
from fairlift.study.folder import Study

_CODE = (".py", ".yml", ".css", ".sql", ".md")


def leave(study: Study, notebook: str, rows: Sequence[Evidence]) -> Path:
    """Write a notebook's evidence to STUDY/out/evidence/PART.TOPIC.json; returns the path.

    `notebook` is PART/TOPIC.  Each row is stamped with the notebook, the hash of the mart, the version of the code and the
    run; a randomised row is registered only where the plan stood before the outcomes.  A row that rests on fewer people
    than the study's `small_cell` loses its numbers.  Raises InputError when a key stands twice.
    """
    registered = study.standing.status == "registered"
    stamp = {
        "notebook": notebook,
        "data_hash": study.mart["fingerprint"],
        "code_version": code_version(),
        "run": run_id(study),
    }
    stamped = [
        replace(row, status="registered" if registered and row.design == "randomised" else "exploratory", **stamp)
        for row in rows
    ]
    kept = [suppress(row, study.settings.small_cell) for row in stamped]
    return write(study.out / "evidence" / f"{notebook.replace('/', '.')}.json", kept)


@cache
def code_version() -> str:
    """A hash of the library's own files: twelve hexadecimal digits."""
    package = Path(__file__).parents[1]
    return digest_files(sorted(p for p in package.rglob("*") if p.suffix in _CODE), package)[:12]


def run_id(study: Study) -> str:
    """What a run is known by: a hash of the data, the code, the settings and the plan with its register.

    The same inputs make the same run, so that two runs of them leave the same files.
    """
    return digest([study.mart["fingerprint"], code_version(), *study_files(study.folder).values()])[:12]


def study_files(folder: Path) -> dict[str, str]:
    """SHA-256 of the files of a study that a person writes and every result depends on, by name."""
    names = ("study.yml", "plan.yml", "registrations.jsonl", "truth.json")
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names if (folder / name).exists()
    }


def digest(parts: Iterable[object]) -> str:
    """SHA-256 of a list of plain values."""
    return hashlib.sha256(json.dumps(list(parts), sort_keys=True, default=str).encode()).hexdigest()


def digest_files(paths: Iterable[Path], root: Path) -> str:
    """SHA-256 over the names (below `root`) and bytes of files, in the order given."""
    return digest((path.relative_to(root).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths)
