"""Where the project lies: the checkout that holds notebooks, chapters and data beside the library."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

PARTS = ("study", "ethics", "law", "governance", "privacy", "method", "sales", "loyalty", "risk", "launch")
STAGES = ("mart", "evidence", "decision")  # what a notebook reads, and so when it can run


def written(path: Path, text: str) -> Path:
    """Write a text file whole or not at all; returns its path."""
    import os

    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
    return path
