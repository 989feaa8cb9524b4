"""The one thing that executes notebooks: in stages, in parallel, resuming what is already done."""

from __future__ import annotations

import errno
import json
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

from fairlift.book.lock import alone
from fairlift.book.manifest import DONE, FAILED, NOT_ASSESSED, Entry, Manifest, read_manifest, sha
from fairlift.book.notebook import Notebook, notebooks, publishable, save, warnings_in
from fairlift.book.pool import Pool
from fairlift.book.progress import Progress
from fairlift.book.project import ROOT, STAGES, written
from fairlift.checklist import ingest
from fairlift.errors import InputError, Problem
from fairlift.evidence import from_json
from fairlift.study import Study, open_study
from fairlift.study.leave import code_version, digest, digest_files, run_id, study_files

CELL_SECONDS = 300


@dataclass(frozen=True)
class Place:
    """Where a run finds and leaves things: the study, and the project that holds notebooks, lock and catalogue."""

    study: Path
    project: Path

    @property
    def out(self) -> Path:
        return self.study / "out"

    def copy(self, notebook: Notebook) -> Path:
        return self.out / "notebooks" / f"{notebook.name}.ipynb"

    def evidence(self, notebook: Notebook) -> Path:
        return self.out / "evidence" / f"{_dotted(notebook)}.json"

    def log(self, notebook: Notebook) -> Path:
        return self.out / "logs" / f"{_dotted(notebook)}.log"

    @property
    def private(self) -> dict[str, str]:
        """Texts that no output may show, longest first, and what stands there instead."""
        known = {str(self.study): self.study.name, str(self.project): ".", str(Path.home()): "~"}
        return {text: known[text] for text in sorted(known, key=len, reverse=True) if len(text) > 1}


def run(
    study: str | Path,
    *,
    jobs: int = 2,
    fresh: bool = False,
    project: Path = ROOT,
    prepare: Callable[[Study], object] | None = None,
) -> Manifest:
    """Prepare a study's tables, then run every notebook they allow; returns the manifest, also left in STUDY/out/.

    First run the notebooks that read the mart, then those that read evidence, then the decision.  In each, `jobs` notebooks
    run at a time.  A notebook whose key (its text, the library, the study's files, the mart, the lock; in later stages also
    earlier evidence, answers and catalogue) is unchanged is not run again, unless `fresh`.  One that fails leaves nothing
    but a log; the others go on.  Raises InputError when the study is refused or another run is at work in it.
    """
    folder = Path(study).resolve()
    open_study(folder)  # refuse before anything is written
    place = Place(folder, project)
    try:
        with alone(place.out / "run.lock", folder.name):
            ingest(folder)
            (prepare or _prepare())(open_study(folder))
            began = time.perf_counter()
            manifest = _stages(place, open_study(folder), jobs, fresh)
            manifest = replace(manifest, wall_seconds=round(time.perf_counter() - began, 2))
            manifest.write(place.out)
            _same_code()
            return manifest
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        found = "there is no space left on the disk"
        raise InputError(Problem(folder.name, found, "make room, then run again: what is done is kept")) from None


def _same_code() -> None:
    """Refuse a run in which the library itself was edited: its results rest on two versions."""
    if code_version.__wrapped__() != code_version():
        raise InputError(Problem("fairlift", "its own files changed while it ran", "run again"))


def _prepare() -> Callable[[Study], object]:
    from fairlift.study.prepare import prepare

    return prepare


def _stages(place: Place, study: Study, jobs: int, fresh: bool) -> Manifest:
    before = None if fresh else read_manifest(place.out)
    lock = place.project / "requirements.txt"
    manifest = Manifest(
        study=study_files(study.folder),
        mart=study.mart["fingerprint"],
        code=code_version(),
        lock=sha(lock) if lock.exists() else "",
        run=run_id(study),
    )
    every = notebooks(place.project / "notebooks")
    _tidy(place, every)
    present = _present(study)
    with Pool(jobs) as pool, Progress(len(every)) as progress:
        pool.left = len(every)
        for number, stage in enumerate(STAGES):
            inputs = [manifest.study, manifest.mart, manifest.code, manifest.lock]
            if number:
                inputs += [_evidence_so_far(manifest), _answers(place)]
            due = []
            for notebook in (notebook for notebook in every if notebook.reads == stage):
                key = digest([notebook.digest, *inputs])
                entry = _settled(place, notebook, key, present, before)
                if entry:
                    pool.left -= 1
                    manifest = manifest.having(notebook.name, entry)
                    progress.done(notebook.name)
                else:
                    due.append((notebook, key))
            due.sort(key=lambda pair: -_seconds_before(before, pair[0]))  # the longest first, so that none is left over
            manifest.write(place.out)
            manifest = _execute_all(place, due, manifest, pool, progress)
    return manifest


def _settled(
    place: Place, notebook: Notebook, key: str, present: Sequence[str], before: Manifest | None
) -> Entry | None:
    """The entry of a notebook that need not run: not assessed, or done before with the same key and files intact."""
    lacking = notebook.lacking(present)
    if lacking:
        _forget(place, notebook)
        return Entry(key, NOT_ASSESSED, notebook.title, missing=tuple(lacking))
    entry = before.notebooks.get(notebook.name) if before else None
    same = entry and entry.status == DONE and entry.key == key and place.copy(notebook).exists()
    evidence = place.evidence(notebook)
    if same and entry.evidence_sha == (sha(evidence) if evidence.exists() else None):
        return entry
    return None


def _execute_all(
    place: Place, due: list[tuple[Notebook, str]], manifest: Manifest, pool: Pool, progress: Progress
) -> Manifest:
    if not due:
        return manifest
    workers = ThreadPoolExecutor(pool.jobs, thread_name_prefix="notebook")
    waiting: dict[Future[Entry], Notebook] = {}
    try:
        for notebook, key in due:
            waiting[workers.submit(_execute, place, notebook, key, pool, progress)] = notebook
        left = set(waiting)
        while left:
            ended, left = wait(left, return_when=FIRST_COMPLETED)
            for future in ended:
                manifest = manifest.having(waiting[future].name, future.result())
                progress.done(waiting[future].name)
            manifest.write(place.out)
    except BaseException:
        pool.__exit__()  # Ctrl-C: end the kernels, or the workers would wait for them
        workers.shutdown(wait=True, cancel_futures=True)
        for future, notebook in waiting.items():
            if not (future.done() and not future.cancelled() and notebook.name in manifest.notebooks):
                _forget(place, notebook)
        raise
    workers.shutdown()
    return manifest


def _execute(place: Place, notebook: Notebook, key: str, pool: Pool, progress: Progress) -> Entry:
    """Run one notebook in a kernel of its own; keeps its copy and evidence, or only a log when it fails."""
    import logging

    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from papermill.execute import execute_notebook

    logging.getLogger("papermill").setLevel(logging.ERROR)
    _forget(place, notebook)
    entry = Entry(key, FAILED, notebook.title)
    if not notebook.has_parameters:
        return replace(entry, reason="it has no cell tagged `parameters`", internal=True)
    progress.begin(notebook.name)
    kernel = pool.take(notebook.path.parent)
    began = time.perf_counter()
    try:
        node = execute_notebook(
            notebook.node,
            None,
            parameters={"study": str(place.study)},
            progress_bar=False,
            request_save_on_cell_execute=False,
            execution_timeout=CELL_SECONDS,
            kernel_name="python3",
            km=kernel.manager,
        )
    except PapermillExecutionError as error:
        entry = _fault(place, notebook, entry, error)
    except CellTimeoutError:
        entry = replace(entry, reason=f"a cell took more than {CELL_SECONDS} seconds", internal=True)
    except DeadKernelError:
        entry = replace(entry, reason="its process ended, perhaps for want of memory", internal=True)
    else:
        save(publishable(node, place.private), place.copy(notebook))
        entry = replace(_evidence(place, notebook, entry), warnings=warnings_in(node))
    finally:
        pool.give_back(kernel)
    if entry.status == FAILED:
        _forget(place, notebook, log=False)
    return replace(entry, seconds=round(time.perf_counter() - began + kernel.seconds, 2))


def _fault(place: Place, notebook: Notebook, entry: Entry, error) -> Entry:
    try:
        told = json.loads(error.traceback[0])
    except (ValueError, IndexError, TypeError):  # a fault the kernel could not hold, such as a syntax error
        told = {"reason": error.ename, "ours": False, "frames": f"{error.ename}\n"}
    _debug(error)
    where = notebook.place(_code_cell(notebook, error.cell_index))
    log = written(place.log(notebook), f"{notebook.name}, {where}\n{told['frames']}")
    reason = f"{where}: {told['reason']}"
    if not told["ours"]:
        reason += f"; see {log.relative_to(place.study.parent).as_posix()}"
    return replace(entry, reason=reason, internal=not told["ours"])


def _debug(error) -> None:
    import os
    import sys

    from fairlift.book.kernel import DEBUG

    if os.environ.get(DEBUG):  # the terminal alone: never a file
        print("\n".join(error.traceback[1:] or error.traceback), file=sys.stderr)


def _code_cell(notebook: Notebook, index: int) -> int:
    """The number among the code cells of the source that stands at `index` of the notebook with the injected cell."""
    tags = [cell.metadata.get("tags", []) for cell in notebook.node.cells]
    parameters = next(place for place, found in enumerate(tags) if "parameters" in found)
    index -= index > parameters
    return sum(cell.cell_type == "code" for cell in notebook.node.cells[: index + 1])


def _evidence(place: Place, notebook: Notebook, entry: Entry) -> Entry:
    path = place.evidence(notebook)
    if not path.exists():
        return replace(entry, status=DONE)
    try:
        rows = from_json(path.read_text(encoding="utf-8"), path.name)
    except InputError as error:
        return replace(entry, reason=str(error), internal=True)
    return replace(
        entry, status=DONE, evidence=path.name, evidence_sha=sha(path), labels=tuple(row.label for row in rows)
    )


def _forget(place: Place, notebook: Notebook, log: bool = True) -> None:
    """Remove what an earlier run of a notebook left, so that nothing half done or out of date is ever read."""
    for path in (place.copy(notebook), place.evidence(notebook), *([place.log(notebook)] if log else [])):
        path.unlink(missing_ok=True)


def _tidy(place: Place, every: Sequence[Notebook]) -> None:
    """Remove copies and evidence of notebooks that are no more."""
    expected = {place.copy(n) for n in every} | {place.evidence(n) for n in every}
    for path in (*place.out.glob("notebooks/*/*"), *place.out.glob("evidence/*")):
        if path not in expected:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _present(study: Study) -> list[str]:
    settings = [f"study.yml:{name}" for name, value in study.settings if value not in (None, [], {}, "")]
    return [*study.mart["columns"], *settings, *(["plan.yml"] if study.plan else [])]


def _evidence_so_far(manifest: Manifest) -> list[tuple[str, str, str | None]]:
    return sorted((name, entry.status, entry.evidence_sha) for name, entry in manifest.notebooks.items())


def _answers(place: Place) -> list[str]:
    own = [place.study / "answers.yml", *sorted((place.study / "answers").glob("*.jsonl"))]
    shared = sorted(
        path for folder in ("checklists", "law") for path in (place.project / "data" / folder).rglob("*.yml")
    )
    return [digest_files([p for p in own if p.exists()], place.study), digest_files(shared, place.project)]


def _seconds_before(before: Manifest | None, notebook: Notebook) -> float:
    entry = before.notebooks.get(notebook.name) if before else None
    return entry.seconds if entry else notebook.path.stat().st_size / 1e6


def _dotted(notebook: Notebook) -> str:
    return notebook.name.replace("/", ".")
