"""Where a study's tables come from: files in tables/, or one SELECT a table in any database that Ibis reaches."""

from __future__ import annotations

import codecs
import csv
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from fairlift.errors import FairliftError, InputError, Problem, pattern
from fairlift.study.cells import Skills
from fairlift.study.contract import contract
from fairlift.study.settings import Settings, redact

if TYPE_CHECKING:
    import ibis
    from ibis.backends import BaseBackend

DELIMITERS = ",;\t|"
MEMORY_BYTES = 4 << 30  # DuckDB spills to disk beyond this; FAIRLIFT_MEMORY overrides it

OUR_FAULTS = (AttributeError, IndexError, KeyError, NameError, TypeError)  # never a driver's word about the data

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_DATA_FILE = re.compile(r"(?i)\.(csv|tsv|txt|parquet|json|ndjson)(\.(gz|zst))?\*?$")
_READS_FILE = re.compile(r"(?i)(\bfrom|\bjoin|\bread_\w+\s*\(\s*\[?|\w+_scan\s*\(\s*\[?|\bglob\s*\()\s*$")
_COMPARES = re.compile(r"(?i)(=|<|>|\blike|\bin\s*\(.*)\s*$")
_LITERAL = re.compile(r"'((?:[^']|'')*)'")
_FULL = re.compile(
    r"(?i)no space left|disk is full|disk full|file too large|quota exceeded|max_temp_directory_size|database or disk is full"
)


@dataclass(frozen=True)
class Raw:
    """One table as its source gives it, and how to name that source to the reader.

    `origin` is the file, or the key in study.yml; `numbered` says that rows have an order, so that row numbers mean something.
    """

    name: str
    expr: ibis.Table
    origin: str
    numbered: bool


@dataclass(frozen=True)
class Source:
    """An open connection with the study's tables, what was wrong with them, and the secrets never to be shown."""

    con: BaseBackend
    folder: Path
    tables: Mapping[str, Raw]
    problems: tuple[Problem, ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)
    tidy: Callable[[], object] = field(default=lambda: None, repr=False)

    @property
    def is_duckdb(self) -> bool:
        return self.con.name == "duckdb"

    @property
    def skills(self) -> Skills:
        import ibis.expr.operations as ops

        return Skills(cast=self.is_duckdb, nan=self.con.has_operation(ops.IsNan))

    def named(self, name: str, expr: ibis.Table) -> ibis.Table:
        """The expression under a name in DuckDB, so that what builds on it stays short; elsewhere as it is."""
        if not self.is_duckdb:
            return expr
        self.con.raw_sql(f"CREATE OR REPLACE TEMP VIEW fairlift_{name} AS {self.con.compile(expr)}")
        return self.con.table(f"fairlift_{name}")

    def close(self) -> None:
        """Disconnect, and leave no temporary file."""
        self.con.disconnect()
        self.tidy()

    def clean(self, error: BaseException) -> str:
        """The first line of a driver's message, without secrets, data values or the path to the study."""
        return clean(error, self.folder, self.secrets)


def open_source(settings: Settings, folder: Path, need: bool = True) -> Source:
    """Connect and find every table of the contract that the study brings; what cannot be read becomes a problem.

    `need` reports the required tables that are missing.  Only a connection that cannot be made raises `InputError`.
    """
    con, secrets = connect(settings, folder)
    tidy = _tidy_after(con, folder / "out")
    tables: dict[str, Raw] = {}
    problems: list[Problem] = []
    for name, spec in contract().items():
        try:
            raw = (
                _from_query(con, settings, folder, name, secrets)
                if name in settings.tables
                else _from_file(con, folder, name)
            )
        except InputError as error:
            problems += error.problems
            continue
        if raw is not None:
            tables[name] = raw
        elif spec.required and need:
            found = "the table is missing and required"
            mend = f"put tables/{name}.csv or tables/{name}.parquet into the study, or write a query under `tables:` in study.yml"
            if name == "assignments":
                mend += "; before anybody is drawn, `fairlift plan` and `fairlift assign` need no assignments"
            problems.append(Problem(name, found, mend))
    return Source(con, folder, tables, tuple(problems), secrets, tidy)


def connect(settings: Settings, folder: Path) -> tuple[BaseBackend, tuple[str, ...]]:
    """A connection to what study.yml's `connect` names, and the secrets it took from the environment."""
    import ibis

    url, secrets = expand(settings.connect, os.environ)
    scheme, _, rest = url.partition("://")
    mend = "correct `connect` in study.yml; `duckdb://` reads the files of the study"
    if scheme in ("duckdb", "sqlite") and rest:
        path = (folder / rest.partition("?")[0]).resolve()
        if not path.is_file():
            raise InputError(Problem("study.yml", f"`connect`: there is no file {rest.partition('?')[0]}", mend))
    try:
        if scheme == "duckdb":
            return _duckdb(path if rest else None), secrets
        if scheme == "sqlite" and rest:
            return ibis.sqlite.connect(path), secrets
        return ibis.connect(url), secrets
    except ImportError:
        found = f"`connect`: the driver for {scheme} is not installed"
        raise InputError(Problem("study.yml", found, f"pip install 'ibis-framework[{scheme}]'")) from None
    except Exception as error:  # noqa: BLE001 - every driver has its own errors; all of them mean the same here
        found = f"`connect`: {redact(scheme)} cannot be reached: {clean(error, folder, secrets)}"
        raise InputError(Problem("study.yml", found, mend)) from None


def expand(text: str, environment: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """The text with every ${NAME} replaced from the environment, and the values that were put in.

    >>> expand("postgres://me:${PW}@db/shop", {"PW": "p@ss"})
    ('postgres://me:p%40ss@db/shop', ('p@ss', 'p%40ss'))
    """
    missing = sorted({name for name in _VARIABLE.findall(text) if name not in environment})
    if missing:
        found = f"`connect` needs the environment variable{'s' if len(missing) > 1 else ''} {', '.join(missing)}, not set here"
        raise InputError(Problem("study.yml", found, f"set {missing[0]} in the environment and run again"))
    # A variable that is the whole address is taken as it is; a part of one is quoted, so that `@` or `/` cannot break it.
    whole = _VARIABLE.fullmatch(text) or text.startswith("${")
    secrets: list[str] = []

    def put(match: re.Match[str]) -> str:
        value = environment[match.group(1)]
        given = value if whole else quote(value, safe="")
        secrets.extend(dict.fromkeys((value, given)))
        return given

    return _VARIABLE.sub(put, text), tuple(secret for secret in secrets if secret)


def clean(error: BaseException, folder: Path, secrets: tuple[str, ...] = ()) -> str:
    """One line of a driver's message that is safe to show.

    Secrets become ***, the study's own path is cut, and quoted values outside of syntax errors are shown as patterns.
    """
    text = str(error).strip()
    line = text.splitlines()[0] if text else type(error).__name__
    for secret in sorted(secrets, key=len, reverse=True):
        line = line.replace(secret, "***")
    for root in (str(folder.resolve()), str(Path.home())):
        line = line.replace(root + os.sep, "") if root != os.sep else line
    if not re.match(
        r"(Binder|Catalog|Parser|IO) Error", line
    ):  # those speak of the query's text, all others of the data's
        line = re.sub(r"(?<!\w)(['\"])(.+?)\1(?!\w)", lambda m: m[1] + pattern(m[2]) + m[1], line)
        line = re.sub(r"\d{4,}", lambda m: "9" * len(m[0]), line)
    return redact(line).rstrip(".")


@contextmanager
def reading(source: Source, table: str) -> Iterator[None]:
    """Turn whatever a driver raises while a table is read into a problem that names the table."""
    try:
        yield
    except (FairliftError, *OUR_FAULTS):
        raise
    except Exception as error:  # noqa: BLE001 - every driver has its own errors; all of them mean the same here
        full = disk_full(error)
        if full:
            raise full from None
        raw = source.tables.get(table)
        raise InputError(_unreadable(error, table, raw.origin if raw else table, source)) from None


def disk_full(error: BaseException) -> FairliftError | None:
    """What to tell the reader where an error means that the disk is full; None where it means something else."""
    import errno

    full = isinstance(error, OSError) and error.errno in (
        errno.ENOSPC,
        errno.EFBIG,
        getattr(errno, "EDQUOT", errno.ENOSPC),
    )
    if full or _FULL.search(str(error)):
        return FairliftError(
            "There is no space left on the disk; nothing was changed and the half-written files are removed. "
            "To mend: free about as much space as the tables take, then run the same command again."
        )
    return None


def _unreadable(error: Exception, table: str, origin: str, source: Source) -> Problem:
    text = str(error)
    line = re.search(r"CSV Error on Line: (\d+)", text)
    if line:
        row = int(line[1]) - 1
        cells = re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", text)
        found = f"the row has {cells[2]} cells, the header {cells[1]}" if cells else "the row cannot be read as CSV"
        return Problem(
            table, found, "quote the cells that hold the delimiter or a line break", rows=(row,), file=origin
        )
    return Problem(table, f"cannot be read: {source.clean(error)}", "correct the file or the query", file=origin)


def _duckdb(path: Path | None) -> BaseBackend:
    import ibis

    con = ibis.duckdb.connect(
        str(path) if path else ":memory:",
        read_only=path is not None,
        threads=_cores(),
        memory_limit=os.environ.get("FAIRLIFT_MEMORY") or f"{MEMORY_BYTES >> 20}MiB",
    )
    con.raw_sql("SET enable_progress_bar = false")
    return con


def beside(folder: Path) -> tuple[BaseBackend, Callable[[], object]]:
    """A DuckDB of our own beside a database that is only read, and what removes its temporary files."""
    con = _duckdb(None)
    return con, _tidy_after(con, folder / "out")


def _tidy_after(con: BaseBackend, out: Path) -> Callable[[], object]:
    """Give DuckDB a folder in out/ to spill to; returns what removes it, which else happens when the connection goes.

    out/ itself goes too where it was made for this and stayed empty.
    """
    if con.name != "duckdb":
        return lambda: None
    made = not out.exists()
    try:
        out.mkdir(exist_ok=True)
        spill = Path(tempfile.mkdtemp(prefix=".spill-", dir=out))
    except PermissionError:
        name = out.parent.name
        raise FairliftError(
            f"{name}/out cannot be written. To mend: give yourself the right to write in {name}."
        ) from None
    con.raw_sql("SET temp_directory = '{}'".format(str(spill.resolve()).replace("'", "''")))

    def tidy() -> None:
        shutil.rmtree(spill, ignore_errors=True)
        if made and out.is_dir() and not any(out.iterdir()):
            out.rmdir()

    return weakref.finalize(con, tidy)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _from_query(con: BaseBackend, settings: Settings, folder: Path, name: str, secrets: tuple[str, ...]) -> Raw:
    sql = settings.tables[name].strip().rstrip(";")
    origin = f"study.yml `tables.{name}`"
    try:
        if con.name != "duckdb":
            return Raw(name, con.sql(sql), origin, numbered=False)
        statements = con.con.extract_statements(sql)
        if len(statements) != 1 or statements[0].type.name != "SELECT":
            raise InputError(Problem(name, "the query is not one SELECT", "write a single SELECT", file=origin))
        view = f"fairlift_{name}"
        con.raw_sql(f"CREATE TEMP VIEW {view} AS {from_folder(sql, folder)}")
        return Raw(name, con.table(view), origin, numbered=True)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - every driver has its own errors; all of them mean the same here
        found = f"the query fails: {clean(error, folder, secrets)}"
        mend = f"correct the SQL of `tables.{name}` in study.yml"
        if "No files found" in found:
            mend = f"put the file there, counted from the study's folder, or {mend}"
        raise InputError(Problem(name, found, mend, file="study.yml")) from None


def from_folder(sql: str, folder: Path) -> str:
    """The query with relative file names made absolute from the study's folder.

    DuckDB's own search path would let a file of the same name in the present folder come first.

    >>> from_folder("SELECT * FROM 'exports/*.csv' WHERE shop = 'a.csv'", Path("/s")).replace("\\\\", "/")
    "SELECT * FROM '/s/exports/*.csv' WHERE shop = 'a.csv'"
    """
    root = folder.resolve()

    def absolute(match: re.Match[str]) -> str:
        if not _names_file(match) or Path(match[1]).is_absolute():
            return match[0]
        return "'" + str(root / match[1]).replace("\\", "/") + "'"

    return _LITERAL.sub(absolute, sql)


def _names_file(literal: re.Match[str]) -> bool:
    """Whether a text in a query is the name of a file: by where it stands, or by its ending."""
    name, before = literal[1], literal.string[: literal.start()]
    if not name or "://" in name or _COMPARES.search(before.rpartition("\n")[2]):
        return False
    return bool(_READS_FILE.search(before) or _DATA_FILE.search(name))


def files_of(settings: Settings, folder: Path) -> list[Path]:
    """Every file the study's tables are read from, sorted: those in tables/, those named in queries, a database file."""
    found: set[Path] = set()
    scheme, _, rest = settings.connect.partition("://")
    if scheme in ("duckdb", "sqlite") and rest:
        found.add(folder / rest.partition("?")[0])
    for name in contract():
        if name not in settings.tables:
            found |= {
                path for ending in ("csv", "parquet") if (path := folder / "tables" / f"{name}.{ending}").is_file()
            }
    for sql in settings.tables.values():
        for literal in filter(_names_file, _LITERAL.finditer(sql)):
            names = glob(literal[1], root_dir=folder, recursive=True)
            found |= {folder / name for name in names if (folder / name).is_file()}
    return sorted(found)


def _from_file(con: BaseBackend, folder: Path, name: str) -> Raw | None:
    paths = [path for ending in ("parquet", "csv") if (path := folder / "tables" / f"{name}.{ending}").exists()]
    if not paths:
        return None
    files = " and ".join(f"tables/{path.name}" for path in paths)
    if len(paths) > 1:
        raise InputError(Problem(name, f"there are two files, {files}", "keep the right one and remove the other"))
    path = paths[0]
    if con.name != "duckdb":
        found = f"{files} stands beside a database in `connect`"
        raise InputError(
            Problem(name, found, f"write a query for {name} under `tables:`, or `connect: duckdb://` for files")
        )
    if path.is_dir():
        raise InputError(
            Problem(name, f"{files} is a folder", f"put one file there, or write a query under `tables.{name}`")
        )
    literal = "'" + str(path.resolve()).replace("'", "''") + "'"
    if path.suffix == ".parquet":
        _check_parquet(path, name, files)
        query = f"read_parquet({literal})"
    else:
        header, delimiter = read_header(path, name, files)
        columns = ", ".join("'{}': 'VARCHAR'".format(column.replace("'", "''")) for column in header)
        # Everything is said outright, because guessing differs from file to file.
        query = f"""read_csv({literal}, auto_detect=false, header=true, delim='{delimiter}', quote='"', escape='"', columns={{{columns}}})"""
    view = f"fairlift_{name}"
    con.raw_sql(f"CREATE TEMP VIEW {view} AS SELECT * FROM {query}")
    return Raw(name, con.table(view), files, numbered=True)


def _check_parquet(path: Path, name: str, origin: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.stat().st_size == 0:
        raise InputError(Problem(name, "the file is empty", "export the table again", file=origin))
    try:
        pq.read_schema(path)
    except (pa.ArrowInvalid, OSError):
        raise InputError(
            Problem(name, "not a Parquet file, or cut off", "export the table again", file=origin)
        ) from None


def read_header(path: Path, name: str, origin: str) -> tuple[list[str], str]:
    """The column names of a CSV and its delimiter; refuses a file that is empty, binary or not UTF-8."""

    def refuse(found: str, mend: str) -> InputError:
        return InputError(Problem(name, found, mend, file=origin))

    line = _first_line(path, name, origin)
    if not line.strip():
        raise refuse("the file is empty", "write a header and rows, or remove the file")
    delimiter = max(DELIMITERS, key=lambda one: len(next(csv.reader([line], delimiter=one))))
    header = next(csv.reader([line], delimiter=delimiter))
    twice = sorted({column for column in header if header.count(column) > 1 and column})
    if twice:
        raise refuse(
            f"the column {', '.join(map(shown, twice))} stands twice in the header", "give every column its own name"
        )
    if "" in header:
        raise refuse(f"column {header.index('') + 1} has no name in the header", "name it or remove it")
    return header, delimiter


def _first_line(path: Path, name: str, origin: str) -> str:
    """The header line, after the whole file was found to be text in UTF-8."""
    decode = codecs.getincrementaldecoder("utf-8-sig")()
    first, lines, done = [], 0, False
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            if b"\0" in block:
                found, mend = "not a CSV file: it is binary, or text in UTF-16", "export it as CSV in UTF-8"
                raise InputError(Problem(name, found, mend, file=origin))
            try:
                text = decode.decode(block)
            except UnicodeDecodeError as error:
                row = lines + block[: error.start].count(b"\n")
                found = "not UTF-8; it looks like Latin-1 (Windows-1252)"
                mend = f"save it as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8 {path.name} > new.csv"
                raise InputError(Problem(name, found, mend, rows=(row,) if row else (), file=origin)) from None
            lines += block.count(b"\n")
            if not done:
                first.append(text)
                done = "\n" in text
    return "".join(first).partition("\n")[0].rstrip("\r")


def shown(word: str) -> str:
    """A name as it may stand in a message: as it is, or its pattern where it could be somebody's number or address.

    >>> shown("loyalty_tier"), shown("C0012345"), shown("ann@example.org")
    ('`loyalty_tier`', '`a9999999`', '`aaa@aaaaaaa.aaa`')
    """
    personal = re.search(r"\d{4,}", word) or "@" in word
    return f"`{pattern(word, 40) if personal else word[:60]}`"
