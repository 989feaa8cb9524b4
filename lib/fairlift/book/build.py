"""Build a book: gather chapters, executed notebooks and generated pages in one source tree, then let Jupyter Book write HTML."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import yaml

from fairlift.book.checklists import checklist_page
from fairlift.book.coverage import Project, coverage_page, gaps, read_requirements
from fairlift.book.demo import DEMO, ready_demo
from fairlift.book.dictionary import dictionary_page
from fairlift.book.execute import run
from fairlift.book.findings import counted, evidence_page, missing_page, notebooks_page, quality_page, versions_page
from fairlift.book.manifest import DONE, NOT_ASSESSED, Manifest
from fairlift.book.markup import page, plain
from fairlift.book.notebook import keep_outputs
from fairlift.book.project import ROOT, written
from fairlift.book.record import badge_line, page_one_markdown, read_decision, record_page
from fairlift.book.trials import trials_page
from fairlift.book.trust import trust_page
from fairlift.checklist import catalogue
from fairlift.errors import FairliftError, InputError, Problem
from fairlift.format import number
from fairlift.kit.document import plan_document, write_document
from fairlift.kit.plan import size_plan
from fairlift.launch import decide_study, page_one
from fairlift.study import Study, open_study

REQUIREMENTS = ROOT / "data" / "requirements.yml"
RESULTS = ROOT / "benchmarks" / "results"
REPORT_INTRO = "What this study shows, what it does not, and what stands between it and a launch. Every number is computed from its tables."

# Jupyter Book's own door to a book whose root lies in a folder has neither language nor title nor link.
DOOR = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Opening the book</title><meta http-equiv="refresh" content="0; url=chapters/index.html"></head>
<body><main><h1>Opening the book</h1><p><a href="chapters/index.html">Go to the first page</a></p></main></body>
</html>
"""


class BuildError(FairliftError):
    """The book has faults; says each with its page."""


def build_book(study: str | Path | None = None, out: str | Path | None = None, jobs: int = 2) -> Path:
    """Build the published book from the demo study, strictly; returns the path of its index.html.

    The demo is simulated where its tables are absent or out of date, then run, then all pages are built under `out` (default `_build`).
    Raises BuildError when a notebook failed, a page has a fault or a question called answered is not.
    """
    folder = ready_demo(Path(study or DEMO).resolve())
    manifest = run(folder, jobs=jobs)
    if manifest.failed:
        raise BuildError("\n".join(manifest.summary()[1:]))
    opened = open_study(folder)
    pages = published_pages(opened, manifest)
    place = Path(out or ROOT / "_build").resolve()
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    source = assemble(place / "src", folder, pages, toc, chapters=ROOT / "chapters")
    write_document(plan_document(opened, size_plan(opened)), source / "documents", "plan")
    (source / "documents" / "plan.md").unlink()  # the book offers the Word file; a second page would repeat it
    _all_listed(source, toc)
    return html(source, place)


def keep_results(jobs: int = 2) -> list[str]:
    """Run the demo and write the key results of its notebooks into notebooks/, stripping all else; returns those changed.

    Raises BuildError when a notebook failed.
    """
    folder = ready_demo()
    manifest = run(folder, jobs=jobs)
    if manifest.failed:
        raise BuildError("\n".join(manifest.summary()[1:]))
    changed = keep_outputs(ROOT / "notebooks", folder / "out" / "notebooks")
    return [path.relative_to(ROOT).as_posix() for path in changed]


def build_report(study: str | Path, jobs: int = 2) -> Path:
    """Build a study's own report from what it allows; returns the path of its index.html under STUDY/out/report."""
    folder = Path(study).resolve()
    manifest = run(folder, jobs=jobs)
    opened = open_study(folder)
    pages = report_pages(opened, manifest)
    notebooks = [f"notebooks/{name}" for name in manifest.by_status(DONE)]
    listed = [name.removesuffix(".md") for name in pages if name != "chapters/index.md"]
    toc = _toc(
        {
            "The study": [name for name in listed if name not in _LAST],
            "Notebooks": notebooks,
            "Reference": [name for name in _LAST if name in listed],
        }
    )
    place = folder / "out" / "report"
    source = assemble(place / "src", folder, pages, toc, strict=False, title=opened.settings.retailer)
    return html(source, place)


_LAST = ("chapters/checklist", "chapters/data-dictionary", "chapters/versions")


def published_pages(study: Study, manifest: Manifest) -> dict[str, str]:
    """The generated pages of the published book by their path; refuses an answered question that is not."""
    items = catalogue()
    rows = read_requirements(REQUIREMENTS)
    problems = gaps(rows, Project(ROOT, frozenset(item.id for item in items.assessed)))
    if problems:
        raise InputError(problems)
    return {
        **_common(study, manifest),
        "chapters/coverage.md": coverage_page(rows),
        "chapters/notebooks.md": notebooks_page(manifest),
        "chapters/trials.md": trials_page(RESULTS / "decisions.json"),
        "chapters/trust.md": trust_page(RESULTS / "calibration.json"),
    }


def report_pages(study: Study, manifest: Manifest) -> dict[str, str]:
    """The generated pages of a report by their path."""
    common = _common(study, manifest)
    lacking = len(manifest.by_status(NOT_ASSESSED)) + len(manifest.failed)
    opening = page(
        f"{plain(study.settings.retailer)}: {plain(study.settings.experiment)}",
        badge_line(read_decision(study.out)),
        REPORT_INTRO,
        page_one_markdown(page_one(study, decide_study(study))),
        f"The [decision with every item](record.md), [all results](evidence.md), [the data](data.md), and what is "
        f"[not assessed](not-assessed.md): {number(lacking, 'count')} of {number(len(manifest.notebooks), 'count')} questions.",
    )
    return {"chapters/index.md": opening, **common, "chapters/data.md": quality_page(study)}


def _common(study: Study, manifest: Manifest) -> dict[str, str]:
    """The pages that both books have; the decision is taken anew, so that it rests on this very run."""
    first = page_one(study, decide_study(study))
    return {
        "chapters/record.md": record_page(read_decision(study.out), first),
        "chapters/evidence.md": evidence_page(counted(study.out), study.settings.currency),
        "chapters/not-assessed.md": missing_page(manifest),
        "chapters/checklist.md": checklist_page(catalogue()),
        "chapters/data-dictionary.md": dictionary_page(_kpis()),
        "chapters/versions.md": versions_page(manifest),
    }


def _kpis() -> list:
    from fairlift.risk.kpis import KPIS as RISK
    from fairlift.sales.kpis import KPIS as SALES

    return [*SALES, *RISK]


def assemble(
    source: Path,
    study: Path,
    pages: Mapping[str, str],
    toc: Mapping,
    *,
    chapters: Path | None = None,
    strict: bool = True,
    title: str | None = None,
    requirements: Path = REQUIREMENTS,
) -> Path:
    """Make the source tree of a book anew: config, contents, chapters, executed notebooks, generated pages."""
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    shutil.copytree(ROOT / "_static", source / "_static")
    if chapters:
        shutil.copytree(chapters, source / "chapters")
    if (study / "out" / "notebooks").is_dir():
        shutil.copytree(study / "out" / "notebooks", source / "notebooks")
    for name, text in pages.items():
        if (source / name).exists():
            raise InputError(Problem(name, "a chapter has the name of a generated page", "rename the chapter"))
        written(source / name, text)
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    config["title"] = title or config["title"]
    sphinx = config["sphinx"]["config"]
    sphinx["extensions"] = [*sphinx["extensions"], "fairlift.book.roles"]
    sphinx |= {"fairlift_study": str(study), "fairlift_strict": strict}
    if not strict:  # a report lacks the chapters that its notebooks point to
        sphinx["suppress_warnings"] = [*sphinx.get("suppress_warnings", []), "myst.xref_missing"]
    sphinx["fairlift_requirements"] = str(requirements)
    written(source / "_config.yml", yaml.safe_dump(config, sort_keys=False))
    written(source / "_toc.yml", yaml.safe_dump(dict(toc), sort_keys=False))
    return source


def html(source: Path, place: Path) -> Path:
    """Write the HTML of a source tree to `place`/html, every warning an error; returns its index.html.

    Nothing is reused from an earlier build, a book with faults leaves no HTML behind, and the source tree is taken away.
    """
    script = Path(sys.executable).parent / ("jupyter-book.exe" if os.name == "nt" else "jupyter-book")
    work, final = place / "work", place / "html"
    for old in (work, final):
        shutil.rmtree(old, ignore_errors=True)
    work.mkdir(parents=True)
    command = [str(script), "build", "-W", "-n", "--keep-going", "--path-output", str(work), str(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False)
        built = work / "_build" / "html"
        faults = _faults(done.stderr + done.stdout, source)
        if done.returncode or faults or not (built / "index.html").exists():
            raise BuildError("the book has faults:\n" + "\n".join(faults or done.stderr.splitlines()[-3:]))
        written(built / "index.html", DOOR)
        os.replace(built, final)
    finally:  # both hold paths of this machine
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(source, ignore_errors=True)
    return final / "index.html"


def _faults(log: str, source: Path) -> list[str]:
    """The warnings and errors of a build, each once, with paths inside the book."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", log)
    lines = [line.replace(f"{source}/", "").replace(str(source), "") for line in plain.splitlines()]
    return list(dict.fromkeys(line for line in lines if re.search(r"\b(WARNING|ERROR|CRITICAL)\b", line)))


def _toc(parts: Mapping[str, Sequence[str]]) -> dict:
    listed = [
        {"caption": caption, "chapters": [{"file": name} for name in names]}
        for caption, names in parts.items()
        if names
    ]
    return {"format": "jb-book", "root": "chapters/index", "parts": listed}


def _all_listed(source: Path, toc: Mapping) -> None:
    """Refuse a chapter or notebook that the table of contents leaves out."""
    listed = {toc["root"], *_files(toc["parts"])}
    found = [
        path.relative_to(source).with_suffix("").as_posix()
        for kind in ("md", "ipynb")
        for path in source.rglob(f"*.{kind}")
    ]
    missing = sorted(name for name in found if name not in listed)
    if missing:
        raise InputError([Problem("_toc.yml", f"it leaves out {name}", "add the file") for name in missing])


def _files(entries: Iterable[Mapping]) -> list[str]:
    found = []
    for entry in entries:
        found += [entry["file"]] if "file" in entry else []
        found += _files(entry.get("chapters", [])) + _files(entry.get("sections", []))
    return found
