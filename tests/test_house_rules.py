"""The rules of the house, each held by a check and each check shown to catch what it is for."""

from __future__ import annotations

import ast
import hashlib
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
LIB = ROOT / "lib" / "fairlift"
MODULES = sorted(LIB.rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))

# A module imports only from lines above its own, or from its own package.
ORDER = (
    {"errors"},
    {"format"},
    {"evidence", "plot"},
    {"study"},
    {"method"},
    {"checklist"},
    {"simulate"},
    {"ethics", "law", "governance", "privacy", "sales", "loyalty", "risk"},
    {"launch"},
    {"kit", "watch"},
    {"book"},
    {"cli"},
)
LINE = {name: line for line, names in enumerate(ORDER) for name in names}
BARRED = {("method", "study")}  # statistics know frames and Ibis tables, not studies

CLOCK = "study/clock.py"  # the only reader of the clock
CLOCK_CALL = re.compile(r"\.(?:now|today|utcnow)$|^time\.(?:time|time_ns|localtime|gmtime)$")
GLOBAL_RANDOM = re.compile(r"^(?:np|numpy)\.random\.(?!default_rng)[a-z]\w*$|^random\.[a-z]\w*$")
# Where what nobody foresaw may be caught: at the very end, and around database drivers, which share no error type.
LAST_RESORTS = {"cli.py", "study/source.py"}
NOTE_TO_SELF = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
MACHINE_PATH = re.compile(r"(?<![\w./~-])(?:/(?:home|Users|root|work|tmp)/|[A-Z]:\\Users\\)")
CELL_LINES = 10
KEY_TAGS = {"keep_output", "nbval-check-output"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# ---------------------------------------------------------------- the library


def imports(tree: ast.AST) -> set[str]:
    """Top-level names of the package that a module imports, wherever in the module."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            within = [f"{node.module}.{alias.name}" for alias in node.names]
            names = within if node.module == "fairlift" else [node.module or ""]
        elif isinstance(node, ast.ImportFrom):
            names = ["fairlift.<relative import>"]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("fairlift.")}
    return found - {"__version__"}


def misdirected(own: str, source: str) -> list[str]:
    """Imports that point sideways or down, for a module under `fairlift.OWN`."""
    known = imports(ast.parse(source)) - {own}
    return sorted(other for other in known if LINE.get(other, len(ORDER)) >= LINE[own] or (own, other) in BARRED)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_from_above(path):
    own = path.relative_to(LIB).with_suffix("").parts[0]
    if own == "__init__":
        assert imports(ast.parse(path.read_text(encoding="utf-8"))) == set()
        return
    assert own in LINE, f"{own} has no line in ORDER"
    assert misdirected(own, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("own", "source", "expected"),
    [
        ("sales", "from fairlift.method import effect", []),
        ("sales", "from fairlift.sales.kpis import aov", []),
        ("sales", "import fairlift.loyalty", ["loyalty"]),
        ("sales", "def late():\n    from fairlift import launch", ["launch"]),
        ("method", "from fairlift.study.contract import TABLES", ["study"]),
        ("format", "from fairlift.evidence import Evidence", ["evidence"]),
        ("study", "from ..method import effect", ["<relative import>"]),
    ],
)
def test_a_wrong_import_would_be_seen(own, source, expected):
    assert misdirected(own, source) == expected


def shortcuts(source: str, name: str) -> list[str]:
    """Warning filters, catch-alls, readings of the clock and global randomness in a module or notebook cell."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler) and name not in LAST_RESORTS:
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            wide = {ast.unparse(each) if each else "everything" for each in caught} & {"Exception", "everything"}
            found += [f"line {node.lineno}: catches {each}" for each in sorted(wide)]
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        last = called.rpartition(".")[2]
        if last in ("filterwarnings", "simplefilter"):
            found.append(f"line {node.lineno}: filters warnings")
        if name != CLOCK and CLOCK_CALL.search(called):
            found.append(f"line {node.lineno}: reads the clock")
        if GLOBAL_RANDOM.search(called):
            found.append(f"line {node.lineno}: draws from global randomness")
        if last == "default_rng" and not node.args and not node.keywords:
            found.append(f"line {node.lineno}: an unseeded generator")
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_takes_no_shortcut(path):
    assert shortcuts(path.read_text(encoding="utf-8"), path.relative_to(LIB).as_posix()) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("try:\n    go()\nexcept Exception:\n    pass", ["line 3: catches Exception"]),
        ("try:\n    go()\nexcept:\n    pass", ["line 3: catches everything"]),
        ("try:\n    go()\nexcept (OSError, Exception):\n    pass", ["line 3: catches Exception"]),
        ("try:\n    go()\nexcept (OSError, ValueError):\n    pass", []),
        ("import warnings\nwarnings.filterwarnings('ignore')", ["line 2: filters warnings"]),
        ("datetime.now(timezone.utc)", ["line 1: reads the clock"]),
        ("pd.Timestamp.today()", ["line 1: reads the clock"]),
        ("np.random.normal(0, 1)", ["line 1: draws from global randomness"]),
        ("np.random.default_rng()", ["line 1: an unseeded generator"]),
        ("np.random.default_rng(7).normal()", []),
        ("np.random.Generator(np.random.SFC64(np.random.SeedSequence(7)))", []),
        ("from fairlift.study.clock import now\nnow()", []),
    ],
)
def test_a_shortcut_would_be_seen(source, expected):
    assert shortcuts(source, "sales/kpis.py") == expected


def tracked() -> list[Path]:
    """Our own text files: what git knows or would add, without the vendored files."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    ours = [ROOT / line for line in listed.stdout.splitlines() if not line.startswith("_static/mathjax/")]
    return [
        path
        for path in ours
        if path.suffix in (".py", ".md", ".yml", ".yaml", ".toml", ".ipynb", ".sql", ".css", ".js", "")
    ]


def lines_matching(rule: re.Pattern, paths: list[Path]) -> list[str]:
    return [
        f"{name_of(path)}:{number}"
        for path in paths
        if path.is_file() and path.name != "axe.min.js"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if rule.search(line)
    ]


def test_no_note_to_self_is_left():
    assert lines_matching(NOTE_TO_SELF, tracked()) == []
    assert NOTE_TO_SELF.search("# TO" + "DO: later") and not NOTE_TO_SELF.search("what to do")


def test_no_path_of_one_machine():
    ours = [path for path in tracked() if not name_of(path).startswith("tests/")]
    assert lines_matching(MACHINE_PATH, ours) == []
    assert MACHINE_PATH.search('open("/home' + '/ann/x.csv")') and not MACHINE_PATH.search("PYTHON=/path/to/python3.12")


def test_ruff_is_content():
    ruff = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--output-format=concise", "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ruff.returncode == 0, ruff.stdout + ruff.stderr


# ---------------------------------------------------------------- the notebooks


def faults(notebook: nbformat.NotebookNode) -> list[str]:
    """What keeps a notebook from being published; cells are counted from 0."""
    tags = [set(cell.metadata.get("tags", [])) for cell in notebook.cells]
    found = []
    if not any("parameters" in each for each in tags):
        found.append("no cell tagged parameters")
    if not any(tags[i] >= KEY_TAGS and cell.get("outputs") for i, cell in enumerate(notebook.cells)):
        found.append("no key result: a cell tagged keep_output and nbval-check-output, with its output")
    first = notebook.cells[0] if notebook.cells else None
    if first is None or first.cell_type != "markdown" or not first.source.startswith("# "):
        found.append("the first cell is not a title")
    for i, cell in enumerate(notebook.cells):
        if MACHINE_PATH.search(cell.source):
            found.append(f"cell {i}: a path of one machine")
        if cell.cell_type != "code":
            continue
        if (length := len(cell.source.strip().splitlines())) > CELL_LINES:
            found.append(f"cell {i}: {length} lines, {CELL_LINES} at most")
        if cell.outputs and not tags[i] >= KEY_TAGS:
            found.append(f"cell {i}: stored output beyond the key results")
        if any(output.output_type == "error" for output in cell.outputs):
            found.append(f"cell {i}: ends in an error")
        if "raises-exception" in tags[i]:
            found.append(f"cell {i}: a switched-off error")
        if cell.source.lstrip().startswith(("!", "%")):
            found.append(f"cell {i}: a shell or magic command")
        else:
            found += [f"cell {i}: {fault}" for fault in shortcuts(cell.source, "notebook")]
    return found


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_a_notebook_keeps_the_rules(path):
    assert faults(nbformat.read(path, as_version=4)) == []


def good_notebook() -> nbformat.NotebookNode:
    new = nbformat.v4
    output = new.new_output("stream", name="stdout", text="lift 1.2 (0.4, 2.0)\n")
    return new.new_notebook(
        cells=[
            new.new_markdown_cell("# Does it sell more?"),
            new.new_code_cell('study = "data/demo"', metadata={"tags": ["parameters"]}),
            new.new_code_cell("print(lift)", outputs=[output], metadata={"tags": sorted(KEY_TAGS)}),
        ]
    )


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda cells: None, []),
        (lambda cells: cells[1].metadata.clear(), ["no cell tagged parameters"]),
        (
            lambda cells: cells[2].outputs.clear(),
            ["no key result: a cell tagged keep_output and nbval-check-output, with its output"],
        ),
        (lambda cells: cells[0].update(source="Revenue"), ["the first cell is not a title"]),
        (lambda cells: cells[1].update(source="\n".join(["x = 1"] * 11)), ["cell 1: 11 lines, 10 at most"]),
        (lambda cells: cells[1].update(outputs=cells[2].outputs), ["cell 1: stored output beyond the key results"]),
        (lambda cells: cells[1].update(source="!ls"), ["cell 1: a shell or magic command"]),
        (lambda cells: cells[1].update(source='study = "/home' + '/ann"'), ["cell 1: a path of one machine"]),
        (lambda cells: cells[1].update(source="warnings.simplefilter('ignore')"), ["cell 1: line 1: filters warnings"]),
    ],
)
def test_a_spoilt_notebook_would_be_seen(spoil, expected):
    notebook = good_notebook()
    spoil(notebook.cells)
    assert faults(notebook) == expected


@pytest.mark.parametrize(("said", "kept"), [("lift 1.2", True), ("lift 1.3", False)])
def test_a_key_result_that_changed_fails(said, kept, tmp_path):
    notebook = good_notebook()
    notebook.cells[1].source = 'lift = "lift 1.2"'
    notebook.cells[2].outputs[0].text = f"{said}\n"
    for count, cell in enumerate(notebook.cells[1:], 1):
        cell.execution_count = count
    nbformat.write(notebook, tmp_path / "key.ipynb")
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-c", "/dev/null"]
    command = [sys.executable, *arguments, "--nbval-lax", "--nbval-current-env", "key.ipynb"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (run.returncode == 0) is kept, run.stdout


# ---------------------------------------------------------------- what we carry


def test_vendored_files_are_those_of_record():
    text = (ROOT / "THIRD_PARTY.md").read_text(encoding="utf-8")
    recorded = dict(re.findall(r"^\| `([^`]+)` \| `([0-9a-f]{64})` \|$", text, re.MULTILINE))
    carried = [*(ROOT / "_static" / "mathjax").rglob("*"), ROOT / "tests" / "book" / "axe.min.js"]
    found = {name_of(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in carried if path.is_file()}
    assert found == recorded


def pins(lock: str) -> dict[str, list[str]]:
    """Versions of the lock by package, one for each environment marker."""
    found: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;]+)", lock, re.MULTILINE):
        found.setdefault(normal(name), []).append(version)
    return found


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def out_of_step(wanted: list[str], lock: str) -> list[str]:
    """Requirements that the lock does not pin, or pins outside their range."""
    locked = pins(lock)
    return [
        line
        for line in wanted
        for each in [Requirement(line)]
        if not (versions := locked.get(normal(each.name))) or not all(each.specifier.contains(v) for v in versions)
    ]


def test_the_lock_is_in_step_with_the_ranges():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    wanted += [line for extra in project["project"]["optional-dependencies"].values() for line in extra]
    lock = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert out_of_step(wanted, lock) == []
    assert "://" not in lock, "the lock names a host"


@pytest.mark.parametrize(
    ("lock", "expected"),
    [("pandas==3.1.1\n", []), ("pandas==2.3.3\n", ["pandas>=3,<4"]), ("numpy==2.1\n", ["pandas>=3,<4"])],
)
def test_a_lock_out_of_step_would_be_seen(lock, expected):
    assert out_of_step(["pandas>=3,<4"], lock) == expected


def test_the_version_is_the_same_everywhere():
    import fairlift

    written = {
        "package": fairlift.__version__,
        "pyproject.toml": tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"],
        "CITATION.cff": re.search(
            r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE
        )[1],
        "CHANGELOG.md": re.search(
            r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
        )[1],
        "installed": distribution("fairlift").version,
    }
    assert set(map(Version, written.values())) == {Version(fairlift.__version__)}, written
