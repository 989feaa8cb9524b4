"""The manifest: which notebooks ran on which inputs, and which evidence they left."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from fairlift.book.project import PARTS, written
from fairlift.errors import InputError, Problem

DONE, FAILED, NOT_ASSESSED = "done", "failed", "not_assessed"


@dataclass(frozen=True)
class Entry:
    """What became of one notebook.

    `missing` lists unmet needs, each as its alternatives; `reason` says in one line why it failed; `seconds` include the
    start of its kernel and its imports.
    """

    key: str
    status: str
    title: str
    seconds: float = 0.0
    evidence: str | None = None
    evidence_sha: str | None = None
    labels: tuple[str, ...] = ()
    missing: tuple[tuple[str, ...], ...] = ()
    reason: str = ""
    internal: bool = False
    warnings: int = 0


@dataclass(frozen=True)
class Manifest:
    """A run: its inputs by hash, its notebooks by name (PART/TOPIC), and how long all of these took together."""

    study: Mapping[str, str]
    mart: str
    code: str
    lock: str
    run: str
    notebooks: Mapping[str, Entry] = field(default_factory=dict)
    wall_seconds: float = 0.0

    def having(self, name: str, entry: Entry) -> Manifest:
        return replace(self, notebooks={**self.notebooks, name: entry})

    def by_status(self, status: str) -> dict[str, Entry]:
        """The notebooks of one status, in the order of the book."""
        order = sorted(self.notebooks, key=lambda name: (PARTS.index(name.split("/")[0]), name))
        return {name: self.notebooks[name] for name in order if self.notebooks[name].status == status}

    @property
    def failed(self) -> dict[str, Entry]:
        return self.by_status(FAILED)

    @property
    def exit_code(self) -> int:
        """0, or 1 when notebooks failed on their input, or 5 when one failed for a fault of its own."""
        return 0 if not self.failed else 5 if any(entry.internal for entry in self.failed.values()) else 1

    def summary(self) -> list[str]:
        """The run in lines for a reader: counts, then each notebook that failed or could not be assessed."""
        count = {status: len(self.by_status(status)) for status in (DONE, FAILED, NOT_ASSESSED)}
        lines = [f"Notebooks: {count[DONE]} done, {count[FAILED]} failed, {count[NOT_ASSESSED]} not assessed."]
        lines += [f"failed: {name}: {entry.reason}" for name, entry in self.failed.items()]
        for name, entry in self.by_status(NOT_ASSESSED).items():
            lines.append(f"not assessed: {name}: lacks {'; '.join(' or '.join(need) for need in entry.missing)}")
        return lines

    def write(self, out: Path) -> Path:
        """Write out/manifest.json, its notebooks in order of name."""
        found = asdict(self)
        found["notebooks"] = {name: found["notebooks"][name] for name in sorted(found["notebooks"])}
        return written(out / "manifest.json", json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def read_manifest(out: Path) -> Manifest | None:
    """The manifest of a study's out folder; None where nothing ran, or where another version wrote it."""
    try:
        found = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        entries = {
            name: Entry(**{**entry, "labels": tuple(entry["labels"]), "missing": tuple(map(tuple, entry["missing"]))})
            for name, entry in found.pop("notebooks").items()
        }
        return Manifest(**found, notebooks=entries)
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return None


def require_manifest(out: Path) -> Manifest:
    """The manifest, or a refusal that says how to get one."""
    found = read_manifest(out)
    if found is None:
        raise InputError(Problem(out.parent.name, "nothing was run in it", f"run `fairlift run {out.parent.name}`"))
    return found


def sha(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
