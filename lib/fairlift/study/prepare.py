"""Reduce a study's tables to its mart: one row a randomised unit, and one row a unit and day with something in it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from uuid import uuid4

from fairlift.errors import FairliftError, InputError
from fairlift.study.check import Checked, check
from fairlift.study.clock import now, stamp
from fairlift.study.folder import Study
from fairlift.study.mart import write_mart
from fairlift.study.settings import Settings
from fairlift.study.source import disk_full, files_of

HASHED_BYTES = 4 << 30  # beyond this a file is known by its size and time of change

# Settings that change the mart; all others may be edited without preparing again.
MATTERS = (
    "experiment",
    "arms",
    "factors",
    "period",
    "outcome_window_days",
    "pre_period_days",
    "timezone",
    "times_without_zone",
    "tolerate",
    "margin",
    "connect",
    "tables",
)


def prepare(study: Study) -> Path:
    """Check the study's tables and write STUDY/out/mart; returns its folder.

    Where the mart already rests on the same settings, tables and code, nothing is computed.  The mart appears whole or not
    at all: a run that is killed leaves the one before it, or none.

    Raises `InputError` with every problem where the tables are refused, and `FairliftError` where the disk is full.
    """
    mart = study.out / "mart"
    found = None
    key = fingerprint(study) if _only_files(study.settings) else ""
    if key and is_whole(mart, key):
        return mart
    try:
        found = check(study)
        with closing(found.source):
            if found.errors:
                raise InputError(found.errors)
            key = key or fingerprint(study, found)
            if is_whole(mart, key):
                return mart
            with _draft(study.out) as draft:
                noted = write_mart(study, found, draft)
                text = json.dumps({"fingerprint": key} | noted, indent=1, ensure_ascii=False)
                (draft / "mart.json").write_text(text + "\n", encoding="utf-8")
                _swap(draft, mart)
    except OSError as error:
        raise disk_full(error) or error from None
    study.__dict__.pop("mart", None)  # what was read before is no longer so
    study.__dict__.pop("units", None)
    return mart


def fingerprint(study: Study, checked: Checked | None = None) -> str:
    """SHA-256 of everything the mart depends on: settings, tables, the contract and the code of this package.

    Files count with their content (very large ones with size and time of change), databases with rows and latest times.
    """
    settings = study.settings
    facts: dict = {"settings": {name: settings.model_dump(mode="json")[name] for name in MATTERS}, "code": _code()}
    # Without `as_of` the study is read as of today, once a day.
    facts["as_of"] = (
        stamp(settings.clock()) if settings.as_of else settings.clock().astimezone(settings.zone()).date().isoformat()
    )
    facts["synthetic"] = (study.folder / "truth.json").exists()
    facts["files"] = {os.path.relpath(path, study.folder): _digest(path) for path in files_of(settings, study.folder)}
    if checked:
        latest = {name: stamp(at) if at else None for name, at in checked.latest.items()}
        facts["tables"] = {
            name: [rows, latest[name], checked.tables[name].columns] for name, rows in checked.rows.items()
        }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def is_whole(mart: Path, key: str) -> bool:
    """Whether the mart rests on this fingerprint and all its tables can be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        noted = json.loads((mart / "mart.json").read_text(encoding="utf-8"))
        if noted["fingerprint"] != key:
            return False
        return all(
            pq.read_metadata(mart / f"{name}.parquet").num_rows == rows for name, rows in noted["tables"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowInvalid):
        return False


def _only_files(settings: Settings) -> bool:
    scheme, _, rest = settings.connect.partition("://")
    return scheme == "duckdb" or (scheme == "sqlite" and bool(rest))


@cache
def _code() -> str:
    """A digest of what turns tables into the mart."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for name in (
        "contract.yml",
        "contract.py",
        "source.py",
        "cells.py",
        "check.py",
        "outcomes.py",
        "mart.py",
        "prepare.py",
    ):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _digest(path: Path) -> list:
    try:
        size = path.stat().st_size
        if size > HASHED_BYTES:
            return [size, path.stat().st_mtime_ns]
        with path.open("rb") as file:
            return [size, hashlib.file_digest(file, "sha256").hexdigest()]
    except OSError:
        return [0, "unreadable"]


@contextmanager
def _draft(out: Path) -> Iterator[Path]:
    """A folder beside the mart, alone: removed whatever happens, with what a killed run left behind."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows: an open file cannot be removed there, which protects a running neighbour
            pass
        except OSError:
            raise FairliftError("Another run is preparing this study. To mend: wait until it is done.") from None
        for left in [*out.glob(".mart-*"), *(path for path in out.glob(".spill-*") if _abandoned(path))]:
            shutil.rmtree(left, ignore_errors=True)
        draft = out / f".mart-{uuid4().hex}"
        draft.mkdir()
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _abandoned(spill: Path) -> bool:
    return now().timestamp() - spill.stat().st_mtime > 86_400


def _swap(draft: Path, mart: Path) -> None:
    """Put the finished draft in the mart's place; between the two renames there is no mart, never half of one."""
    for path in draft.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    old = draft.with_name(draft.name + "-old")
    if mart.exists():
        os.rename(mart, old)
    os.rename(draft, mart)
    shutil.rmtree(old, ignore_errors=True)
