"""A notebook of the project as a file: its question, what it needs, and what of it is kept."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from fairlift.book.project import PARTS, STAGES, written
from fairlift.errors import InputError, Problem, nearest

KEPT = {"keep_output", "nbval-check-output"}
INJECTED = "injected-parameters"
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


@dataclass(frozen=True)
class Notebook:
    """One source notebook, notebooks/PART/TOPIC.ipynb.

    Its metadata may hold `fairlift: {needs: [...], requirements: [...], reads: mart}`.  A need is a contract column "orders.refund", a
    table "sessions", a setting "study.yml:margin" or a file "plan.yml"; a list inside the list holds alternatives, one of
    which will do.  A notebook whose needs are not met is not executed but listed as not assessed.
    """

    path: Path

    @property
    def name(self) -> str:
        return f"{self.part}/{self.path.stem}"

    @property
    def part(self) -> str:
        return self.path.parent.name

    @cached_property
    def node(self) -> NotebookNode:
        return read(self.path)

    @property
    def title(self) -> str:
        """The question it answers: its first heading."""
        return next(iter(_headings(self.node.cells)), self.path.stem.replace("_", " "))

    @property
    def requirements(self) -> list[str]:
        """The rows of data/requirements.yml it serves."""
        return list(self.node.metadata.get("fairlift", {}).get("requirements", []))

    @property
    def needs(self) -> list[tuple[str, ...]]:
        """What a study must bring, each need as its alternatives."""
        listed = self.node.metadata.get("fairlift", {}).get("needs", [])
        return [(need,) if isinstance(need, str) else tuple(need) for need in listed]

    @property
    def reads(self) -> str:
        """What it reads, one of `STAGES`: launch all evidence, risk that of other parts unless it says `mart`, others the mart."""
        usual = {"risk": "evidence", "launch": "decision"}.get(self.part, "mart")
        found = self.node.metadata.get("fairlift", {}).get("reads", usual)
        if found not in STAGES:
            raise InputError(
                Problem(f"{self.name}.ipynb", f"its metadata says it reads `{found}`", nearest(found, STAGES))
            )
        return found

    def lacking(self, present: Sequence[str]) -> list[tuple[str, ...]]:
        """The needs that none of the present names meets; a table is present when one of its columns is."""
        known = {*present, *(name.split(".")[0] for name in present if ":" not in name and not name.endswith(".yml"))}
        return [need for need in self.needs if not known & set(need)]

    @property
    def digest(self) -> str:
        """A hash of what is executed: the sources and tags, not the outputs kept beside them."""
        cells = [(cell.cell_type, cell.source, sorted(cell.metadata.get("tags", []))) for cell in self.node.cells]
        text = json.dumps([cells, self.node.metadata.get("fairlift", {})], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def place(self, code_cell: int) -> str:
        """How a reader finds the code cell of that number (from 1): number and nearest heading above it.

        >>> from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
        >>> notebook = Notebook(Path("sales/toy.ipynb"))
        >>> notebook.__dict__["node"] = new_notebook(cells=[new_markdown_cell("# Why?"), new_code_cell("1")])
        >>> notebook.place(1)
        'cell 1 (Why?)'
        """
        above, count = [], 0
        for cell in self.node.cells:
            count += cell.cell_type == "code"
            if count == code_cell:
                break
            above.append(cell)
        headings = _headings(above)
        return f"cell {code_cell}" + (f" ({headings[-1]})" if headings else "")

    @property
    def has_parameters(self) -> bool:
        return any("parameters" in cell.metadata.get("tags", []) for cell in self.node.cells)


def notebooks(root: Path) -> list[Notebook]:
    """Every notebook under root/PART/, in the order of the parts and then by name."""
    return [Notebook(path) for part in PARTS for path in sorted((root / part).glob("*.ipynb"))]


def read(path: Path) -> NotebookNode:
    """A notebook file as nbformat 4; refuses what is none."""
    try:
        return nbformat.read(path, as_version=4)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, UnicodeDecodeError, KeyError, AttributeError):
        raise InputError(Problem(path.name, "not a notebook", "restore the file")) from None


def save(node: NotebookNode, path: Path) -> Path:
    """Write a notebook whole or not at all."""
    return written(path, nbformat.writes(node) + "\n")


def publishable(node: NotebookNode, private: Mapping[str, str]) -> NotebookNode:
    """An executed notebook as others may see it.

    The injected parameters, the runner's metadata, times and warnings are gone, and so is every text in `private`
    (replaced by its value), such as the path of the home folder.
    """
    node = deepcopy(node)
    node.cells = [cell for cell in node.cells if INJECTED not in cell.metadata.get("tags", [])]
    extra = {key: value for key, value in node.metadata.items() if key in ("fairlift", "mystnb")}
    node.metadata = nbformat.from_dict(_METADATA | extra)
    for number, cell in enumerate(node.cells):
        cell.id = str(number)  # as nbstripout numbers them
        cell.metadata = nbformat.from_dict(
            {key: value for key, value in cell.metadata.items() if key in ("tags", "mystnb")}
        )
        if cell.cell_type == "code":
            shown = [output for output in cell.outputs if output.get("name") != "stderr"]
            cell.outputs = [_scrub(output, private) for output in shown]
    for number, cell in enumerate((cell for cell in node.cells if cell.cell_type == "code"), 1):
        cell.execution_count = number
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
    return node


def warnings_in(node: NotebookNode) -> int:
    """How many outputs went to the error stream, where warnings go."""
    return sum(output.get("name") == "stderr" for cell in node.cells for output in cell.get("outputs", []))


def stripped(node: NotebookNode, executed: NotebookNode | None = None) -> NotebookNode:
    """A source notebook with the outputs of its key results alone, taken from an executed copy where one is given.

    Execution counts stay, because nbval takes a cell without one as never run.
    """
    node = publishable(node, {})
    code = [cell for cell in node.cells if cell.cell_type == "code"]
    done = [cell for cell in executed.cells if cell.cell_type == "code"] if executed else code
    if [cell.source for cell in code] != [cell.source for cell in done]:
        raise InputError(Problem("notebook", "it changed after it was executed", "run it again, then keep its results"))
    for cell, twin in zip(code, done, strict=True):
        cell.outputs = joined(twin.outputs) if set(cell.metadata.get("tags", [])) >= KEPT else []
    return node


def joined(outputs: Sequence[NotebookNode]) -> list[NotebookNode]:
    """Outputs with pieces of one stream put together: a kernel sends printed lines in as many pieces as time allows.

    >>> from nbformat.v4 import new_output
    >>> [one.text for one in joined([new_output("stream", name="stdout", text=text) for text in ("a", "b\\n")])]
    ['ab\\n']
    """
    found: list[NotebookNode] = []
    for output in outputs:
        last = found[-1] if found else None
        if last is not None and last.output_type == output.output_type == "stream" and last.name == output.name:
            found[-1] = nbformat.from_dict({**last, "text": last.text + output.text})
        else:
            found.append(output)
    return found


def keep_outputs(notebooks_root: Path, executed_root: Path) -> list[Path]:
    """Write the key results of executed copies into the source notebooks and strip all else; returns the files changed."""
    changed = []
    for notebook in notebooks(notebooks_root):
        copy = executed_root / f"{notebook.name}.ipynb"
        if copy.exists():
            node = stripped(notebook.node, read(copy))
            if nbformat.writes(node) + "\n" != notebook.path.read_text(encoding="utf-8"):
                changed.append(save(node, notebook.path))
    return changed


def _headings(cells: Sequence[NotebookNode]) -> list[str]:
    found = []
    for cell in cells:
        if cell.cell_type == "markdown":
            found += re.findall(r"^#+\s+(.+?)\s*$", re.sub(r"```.*?```", "", cell.source, flags=re.S), flags=re.M)
    return found


def _scrub(value, private: Mapping[str, str]):
    if isinstance(value, str):
        for text, instead in private.items():
            value = value.replace(text, instead)
        return value
    if isinstance(value, Mapping):  # pictures are left alone: a path cannot be told from chance in their letters
        kept = {key: item if str(key).startswith("image/png") else _scrub(item, private) for key, item in value.items()}
        return nbformat.from_dict(kept)
    return [_scrub(item, private) for item in value] if isinstance(value, list) else value
