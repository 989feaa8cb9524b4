"""The demo study: its YAML is kept, its tables are simulated, and simulated again when what makes them changed."""

from __future__ import annotations

from pathlib import Path

from fairlift.book.project import ROOT, written
from fairlift.study.leave import digest, digest_files

DEMO = ROOT / "data" / "demo"
STAMP = ".simulated"


def ready_demo(folder: Path = DEMO) -> Path:
    """Simulate the demo's tables unless they are there and up to date; returns its folder.

    Tables are out of date when the simulator, the scenario or the study's own YAML changed.
    """
    stamp, present = folder / "tables" / STAMP, _origin(folder)
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != present:
        from fairlift.simulate import simulate

        stamp.unlink(missing_ok=True)
        (folder / "registrations.jsonl").unlink(missing_ok=True)  # simulated too: the plan's entry fits the plan
        simulate(folder, "demo")
        written(stamp, _origin(folder))
    return folder


def _origin(folder: Path) -> str:
    """A hash of what the tables are made from."""
    simulator = sorted((ROOT / "lib" / "fairlift" / "simulate").glob("*.py"))
    own = [folder / name for name in ("study.yml", "plan.yml") if (folder / name).exists()]
    scenario = ROOT / "data" / "scenarios" / "demo.yml"
    return digest([digest_files([*simulator, scenario], ROOT), digest_files(own, folder)])
