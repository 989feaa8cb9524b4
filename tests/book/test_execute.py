"""The executor on a toy project: tiny notebooks, a tiny mart made by hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from fairlift.book.execute import run
from fairlift.book.manifest import read_manifest
from fairlift.book.notebook import keep_outputs, notebooks, read
from fairlift.errors import InputError

CANARY = "canary-4f1c-customer"
SECRET = "hunter2-planted"

STUDY = """
retailer: Toy
markets: [DE]
experiment: toy
arms: {personalised: [a], holdout: [b]}
period: {start: 2026-01-01, end: 2026-02-01}
outcome_window_days: 28
as_of: 2026-04-01
"""

LEAVE = """
from fairlift.evidence import Evidence
from fairlift.study import open_study
from fairlift.study.leave import leave
study = open_study(study)
mean = study.units.revenue.mean()
row = Evidence(id="{id}", kind="exact", design="descriptive", statement="A mean.", value=mean, unit="money", n=len(study.units))
leave(study, "{name}", [row])
"""


def prepare(study) -> None:
    """A mart of sixteen customers, without going through the tables."""
    folder = study.out / "mart"
    folder.mkdir(parents=True, exist_ok=True)
    revenue = pd.read_csv(study.folder / "tables" / "orders.csv").revenue
    pd.DataFrame({"unit": range(16), "arm": ["a", "b"] * 8, "complete": True, "revenue": revenue}).to_parquet(
        folder / "units.parquet"
    )
    mart = {
        "fingerprint": f"sum-{revenue.sum()}",
        "as_of": "2026-04-01T00:00:00Z",
        "tables": {"units": 16},
        "columns": ["customers.customer_id", "orders.revenue"],
        "first_outcome": None,
    }
    (folder / "mart.json").write_text(json.dumps(mart))


def notebook(path: Path, title: str, *cells: str, needs=(), kept: str | None = None) -> None:
    parameters = new_code_cell('study = "../../study"')
    parameters.metadata.tags = ["parameters"]
    made = [new_markdown_cell(f"# {title}"), parameters, *(new_code_cell(cell) for cell in cells)]
    if kept:
        made.append(new_code_cell(kept))
        made[-1].metadata.tags = ["keep_output", "nbval-check-output"]
    node = new_notebook(cells=made)
    node.metadata = nbformat.from_dict(
        {
            "kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"},
            "fairlift": {"needs": list(needs)},
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(node, path)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project whose notebooks were run once: three done, two failed, one not assessed."""
    root = tmp_path_factory.mktemp("home") / "project"
    study = root / "study"
    (study / "tables").mkdir(parents=True)
    (study / "study.yml").write_text(STUDY)
    (study / "tables" / "orders.csv").write_text("customer,revenue\n" + "".join(f"{CANARY},{n}\n" for n in range(16)))
    (root / "requirements.txt").write_text("toy==1\n")
    sales = LEAVE.format(id="sales.toy.mean", name="sales/toy")
    notebook(root / "notebooks/sales/toy.ipynb", "How much?", sales, kept="print(f'{mean:.2f}')")
    shown = "import os, warnings; print(study, os.getcwd(), os.environ.get('DB_PASSWORD')); warnings.warn('dusty')"
    notebook(root / "notebooks/method/paths.ipynb", "Where?", shown)
    notebook(
        root / "notebooks/method/crash.ipynb",
        "What breaks?",
        LEAVE.format(id="method.crash.mean", name="method/crash"),
        f"raise ValueError('{CANARY} {SECRET}')",
    )
    refuse = "from fairlift.errors import Refusal\nraise Refusal('too few customers')"
    notebook(root / "notebooks/method/refuse.ipynb", "Too few?", refuse)
    notebook(
        root / "notebooks/sales/profit.ipynb",
        "What profit?",
        "1/0",
        needs=["orders.revenue", ["orders.refund", "study.yml:margin"]],
    )
    launch = "import json\nfrom pathlib import Path\nfound = json.loads((Path(study) / 'out/manifest.json').read_text())\nprint(sorted(found['notebooks']))"
    notebook(root / "notebooks/launch/end.ipynb", "Go?", launch, f"'{SECRET}'[:0]")
    os.environ["DB_PASSWORD"] = SECRET
    try:
        run(study, project=root, prepare=prepare)
    finally:
        del os.environ["DB_PASSWORD"]
    return root


def test_each_notebook_has_the_status_it_earned(project):
    manifest = read_manifest(project / "study/out")
    found = {name: entry.status for name, entry in manifest.notebooks.items()}
    assert found == {
        "sales/toy": "done",
        "method/paths": "done",
        "method/crash": "failed",
        "method/refuse": "failed",
        "sales/profit": "not_assessed",
        "launch/end": "done",
    }
    assert manifest.notebooks["sales/toy"].labels == ("sales.toy.mean@all",)
    assert manifest.notebooks["method/paths"].warnings == 1


def test_a_failure_names_the_cell_and_shows_no_value(project):
    crash = read_manifest(project / "study/out").notebooks["method/crash"]
    assert crash.reason.startswith("cell 3 (What breaks?): ValueError; see study/out/logs/method.crash.log")
    log = (project / "study/out/logs/method.crash.log").read_text()
    assert "ValueError" in log and "cell:1" in log
    refuse = read_manifest(project / "study/out").notebooks["method/refuse"]
    assert refuse.reason == "cell 2 (Too few?): too few customers"


def test_a_failed_notebook_leaves_neither_copy_nor_evidence(project):
    out = project / "study/out"
    assert sorted(p.name for p in out.glob("evidence/*")) == ["sales.toy.json"]
    assert sorted(p.relative_to(out).as_posix() for p in out.glob("notebooks/*/*")) == [
        "notebooks/launch/end.ipynb",
        "notebooks/method/paths.ipynb",
        "notebooks/sales/toy.ipynb",
    ]


def test_a_missing_need_is_named_with_its_alternatives(project):
    manifest = read_manifest(project / "study/out")
    assert manifest.notebooks["sales/profit"].missing == (("orders.refund", "study.yml:margin"),)
    assert "not assessed: sales/profit: lacks orders.refund or study.yml:margin" in manifest.summary()


def test_no_private_text_in_any_output(project):
    shown = read(project / "study/out/notebooks/method/paths.ipynb").cells[-1].outputs
    assert shown[0].text == "study ./notebooks/method None\n"
    for path in (project / "study/out").rglob("*"):
        if path.is_file() and "mart" not in path.parts:
            content = path.read_text(encoding="utf-8", errors="ignore")
            for private in (CANARY, SECRET, str(project), str(Path.home()), "injected-parameters", "papermill"):
                if path.suffix == ".ipynb" and private == SECRET and path.stem == "end":
                    continue  # there the notebook's own source holds it
                assert private not in content, f"{private} in {path}"


def test_the_last_stage_sees_the_earlier_ones(project):
    text = read(project / "study/out/notebooks/launch/end.ipynb").cells[2].outputs[0].text
    assert "'sales/toy'" in text and "'method/crash'" in text


def test_what_is_done_is_not_run_again_and_what_changed_is(project):
    out = project / "study/out"
    times = {path: path.stat().st_mtime_ns for path in out.glob("notebooks/*/*")}
    for name in ("crash", "refuse"):  # failed ones are tried again each time: leave them out of the toy
        (project / f"notebooks/method/{name}.ipynb").unlink()
    evidence = out / "evidence/sales.toy.json"
    evidence.write_text(evidence.read_text().replace("7.5", "7.6"))
    run(project / "study", project=project, prepare=prepare)
    changed = {path.stem for path, before in times.items() if path.stat().st_mtime_ns != before}
    assert changed == {
        "toy",
        "end",
    }  # the tampered one, and launch because a failed notebook is gone from what it reads
    assert '"value": 7.5' in evidence.read_text()


def test_two_runs_of_the_same_inputs_leave_the_same_files(project):
    out = project / "study/out"
    files = [*out.glob("notebooks/*/*"), *out.glob("evidence/*")]
    before = {path: path.read_bytes() for path in files}
    run(project / "study", project=project, prepare=prepare, fresh=True)
    assert {path: path.read_bytes() for path in files} == before


def test_kept_results_are_compared_and_a_tampered_one_fails(project):
    changed = keep_outputs(project / "notebooks", project / "study/out/notebooks")
    assert project / "notebooks/sales/toy.ipynb" in changed
    source = project / "notebooks/sales/toy.ipynb"
    assert "7.50" in source.read_text()
    assert keep_outputs(project / "notebooks", project / "study/out/notebooks") == []
    paths = next(n for n in notebooks(project / "notebooks") if n.name == "method/paths")
    assert not any(cell.get("outputs") for cell in paths.node.cells)
    assert nbval(source) == 0
    copy = source.with_name("tampered.ipynb")
    copy.write_text(source.read_text().replace("7.50", "7.51"))
    assert nbval(copy) == 1
    copy.unlink()


def nbval(path: Path) -> int:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--nbval-lax",
        "-c",
        os.devnull,
        "--rootdir",
        str(path.parent),
        str(path),
    ]
    return subprocess.run(command, cwd=path.parent).returncode


RUNNER = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal, even where the tests run in the background
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("toy", {file!r})
toy = module_from_spec(spec); spec.loader.exec_module(toy)
try:
    toy.run({study!r}, project=Path({root!r}), prepare=toy.prepare, jobs=1)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def slow(tmp_path) -> Path:
    """A project with a quick notebook and then one that sleeps until a file named go stands beside it."""
    study = tmp_path / "study"
    (study / "tables").mkdir(parents=True)
    (study / "study.yml").write_text(STUDY)
    (study / "tables" / "orders.csv").write_text("customer,revenue\n" + "".join(f"{CANARY},{n}\n" for n in range(16)))
    notebook(
        tmp_path / "notebooks/method/quick.ipynb", "Quick?", LEAVE.format(id="method.quick.mean", name="method/quick")
    )
    sleep = "import time\nfrom pathlib import Path\nwhile not Path('go').exists(): time.sleep(.05)"
    notebook(tmp_path / "notebooks/risk/slow.ipynb", "Slow?", sleep)
    return tmp_path


def start(root: Path) -> subprocess.Popen:
    """Run the project in a process of its own and wait until its first notebook is done and the second has begun."""
    code = RUNNER.format(tests=str(Path(__file__).parent), file=__file__, study=str(root / "study"), root=str(root))
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        manifest = read_manifest(root / "study/out")
        if manifest and manifest.notebooks.get("method/quick"):
            time.sleep(1)
            return process
        time.sleep(0.1)
    raise AssertionError(
        f"the first notebook did not end: {process.stderr.read() if process.poll() is not None else 'slow'}"
    )


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_keeps_what_is_done_and_resumes(slow, blow):
    process = start(slow)
    with pytest.raises(InputError, match=rf"another run is at work in it \(process {process.pid}\)"):
        run(slow / "study", project=slow, prepare=prepare)
    process.send_signal(blow)
    assert process.wait(timeout=30) == (130 if blow == signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in process.stderr.read()
    copy = slow / "study/out/notebooks/method/quick.ipynb"
    before = copy.stat().st_mtime_ns
    assert not (slow / "study/out/notebooks/risk/slow.ipynb").exists()
    (slow / "notebooks/risk/go").touch()
    manifest = run(slow / "study", project=slow, prepare=prepare)
    assert copy.stat().st_mtime_ns == before
    assert {name: entry.status for name, entry in manifest.notebooks.items()} == {
        "method/quick": "done",
        "risk/slow": "done",
    }


def test_a_full_disk_is_said_in_one_sentence(slow, monkeypatch):
    import errno

    def full(_study):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InputError, match="no space left on the disk"):
        run(slow / "study", project=slow, prepare=full)


def test_a_library_that_changes_while_it_runs_is_refused(slow, monkeypatch):
    from fairlift.book import execute

    (slow / "notebooks/risk/slow.ipynb").unlink()
    versions = iter(["changed"])
    monkeypatch.setattr(execute.code_version, "__wrapped__", lambda: next(versions))
    with pytest.raises(InputError, match="its own files changed while it ran"):
        run(slow / "study", project=slow, prepare=prepare)


def test_the_demo_is_simulated_again_only_when_its_origin_changed(tmp_path):
    from fairlift.book.demo import STAMP, ready_demo

    folder = tmp_path / "demo"
    (folder / "tables").mkdir(parents=True)
    made = ready_demo(folder)
    first = (made / "tables" / "orders.parquet").stat().st_mtime_ns
    ready_demo(folder)
    assert (made / "tables" / "orders.parquet").stat().st_mtime_ns == first
    plan = folder / "plan.yml"
    plan.write_text(plan.read_text() + "# amended\n")
    ready_demo(folder)
    assert (made / "tables" / "orders.parquet").stat().st_mtime_ns > first
    assert len((folder / "registrations.jsonl").read_text().splitlines()) == 1
    assert (folder / "tables" / STAMP).exists()


def test_a_full_disk_in_a_notebook_is_named_and_another_fault_shows_no_message():
    import errno

    from fairlift.book.kernel import report

    full = report(OSError(errno.ENOSPC, "No space left on device", CANARY))
    assert full["reason"] == "there is no space left on the disk" and full["ours"]
    assert CANARY not in str(full) and CANARY not in str(report(KeyError(CANARY)))
