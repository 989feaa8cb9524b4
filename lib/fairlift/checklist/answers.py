"""Answers to the checklist: the person's file, the append-only log, and the state they add up to."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from fairlift.checklist.items import Catalogue, Item, catalogue
from fairlift.errors import InputError, Problem, nearest
from fairlift.study.clock import moment, now
from fairlift.study.files import Model, read_yaml, validate

FILE, LOG = "answers.yml", "answers"
STATUSES = ("open", "in_progress", "met", "not_met", "not_applicable", "waived")
# from the worst for the launch to the best: of two that contradict each other the first counts
WORST_FIRST = ("not_met", "altered", "expired", "open", "in_progress", "waived", "not_applicable", "met")


class Proof(Model):
    """Where the evidence of an answer is, and from when to when it holds; a text alone is its address."""

    uri: Annotated[str, Field(min_length=1)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    produced_on: date | None = None
    expires_on: date | None = None

    @model_validator(mode="before")
    @classmethod
    def address_alone(cls, value: object) -> object:
        return {"uri": value} if isinstance(value, str) else value


class Person(Model):
    """Who answers, and in which function."""

    name: Annotated[str, Field(min_length=1)]
    function: Annotated[str, Field(min_length=1)]


class Answer(Model):
    """One statement about an item.

    `when` is the day or moment it was made; `expires_on` ends a waiver (or an answer that holds for a time only);
    `ramp_cap` is the largest share of customers under a waiver; `segments` names the groups it covers, as attribute or
    attribute=group, for items that are judged by group.
    """

    status: Literal["open", "in_progress", "met", "not_met", "not_applicable", "waived"]
    who: Person | None = None
    when: datetime | date | None = None
    evidence: list[Proof] = []
    reason: str | None = None
    approver: str | None = None
    expires_on: date | None = None
    compensating_control: str | None = None
    ramp_cap: Annotated[float, Field(gt=0, le=1)] | None = None
    segments: list[str] = []

    @field_validator("when", mode="before")
    @classmethod
    def day_stays_a_day(cls, value: object) -> object:
        return date.fromisoformat(value) if isinstance(value, str) and len(value) == 10 else value

    @field_validator("when")
    @classmethod
    def zoned(cls, value: datetime | date | None) -> datetime | date | None:
        if isinstance(value, datetime) and value.tzinfo is None:
            raise ValueError("a time needs its zone, such as 2026-03-29T08:00:00+02:00")
        return value

    @property
    def at(self) -> datetime:
        """When the statement was made; an undated one gives way to every dated one."""
        return moment(self.when) if self.when is not None else datetime.min.replace(tzinfo=UTC)

    def text(self) -> str:
        """The statement in one canonical form, so that two can be compared."""
        return self.model_dump_json(exclude_defaults=True)


@dataclass(frozen=True)
class Entry:
    """One line of the log: a statement, where it came from, and when it was written down."""

    item: str
    answer: Answer
    source: str
    recorded: str

    @property
    def author(self) -> tuple[str, ...]:
        """Whose word it is: the person's, or the file's, which speaks with one voice."""
        who = self.answer.who
        return (FILE,) if self.source == FILE or who is None else (who.name, who.function)

    def to_json(self) -> str:
        row = {"item": self.item, "source": self.source, "recorded": self.recorded}
        return json.dumps(row | {"answer": json.loads(self.answer.text())}, ensure_ascii=False)


@dataclass(frozen=True)
class State:
    """How an item stands: a status of `WORST_FIRST`, the answer it rests on, and what contradicts it or is wrong with it."""

    item: str
    status: str
    answer: Answer | None = None
    conflicts: tuple[Answer, ...] = ()
    problems: tuple[Problem, ...] = ()


def answer(
    folder: Path,
    item: str,
    status: str,
    *,
    name: str,
    function: str,
    when: date | datetime,
    evidence: Sequence[str | Mapping] = (),
    book: Catalogue | None = None,
    source: str = "fairlift answer",
    **details: object,
) -> Entry:
    """Add one answer to the study's log; safe beside other writers, and nothing is overwritten.

    `evidence` holds addresses or mappings with uri, sha256, produced_on, expires_on; a file in the study folder is hashed.
    `details` are reason, approver, expires_on, compensating_control, ramp_cap, segments.  Raises InputError with every
    problem at once, and then writes nothing.
    """
    given = {key: value for key, value in details.items() if value not in (None, [], ())}
    row = given | {"status": status, "who": {"name": name, "function": function}, "when": when}
    row["evidence"] = [_hashed(folder, proof) for proof in evidence]
    entry = Entry(item, validate(row, Answer, f"answer {item}", ""), source, _stamp(now()))
    problems = check(entry, book or catalogue())
    if problems:
        raise InputError(problems)
    append(folder, [entry])
    return entry


def check(entry: Entry, book: Catalogue) -> list[Problem]:
    """Whether an answer may stand: the item exists, and what its status needs is there."""
    where = f"{entry.source}: {entry.item}"
    item, given = book.items.get(entry.item), entry.answer
    if item is None:
        return [Problem(where, "there is no such item", nearest(entry.item, list(book.items)))]
    problems = [Problem(where, found, mend) for found, mend in _objections(item, given)]
    lacking = [name for name in _needs(given.status) if not getattr(given, name)]
    words = {
        "who": "who (name, function)",
        "compensating_control": "compensating_control (what protects customers meanwhile)",
    }
    if entry.source == "fairlift answer":  # there they are options of the command
        words = {"expires_on": "--expires", "compensating_control": "--control", "ramp_cap": "--ramp-cap"}
        words = {name: words.get(name, f"--{name}") for name in lacking}
    return problems + [
        Problem(where, f"{given.status} lacks `{name}`", f"state {words.get(name, name)}") for name in lacking
    ]


def _needs(status: str) -> tuple[str, ...]:
    return {
        "met": ("who", "when", "evidence"),
        "not_met": ("who", "when"),
        "not_applicable": ("who", "when", "reason", "approver"),
        "waived": ("who", "when", "reason", "expires_on", "compensating_control", "ramp_cap"),
    }.get(status, ())


def _objections(item: Item, given: Answer) -> Iterator[tuple[str, str]]:
    rule = item.verification.rule if item.verification else "attested"
    flag = item.applies.when
    if rule != "attested" and given.status in ("met", "not_met", "not_applicable"):
        yield "it is measured, so nobody's word settles it", "run the study; the gate reads the evidence"
    elif given.status == "not_applicable" and item.severity == "blocker":
        mend = (
            f"set `{flag}: false` under `context` in study.yml if it is so"
            if flag
            else "it applies to every launch: answer it"
        )
        yield "a blocker leaves only by a context flag", mend
    if given.status == "waived" and not item.waivable:
        yield f"this {item.severity} cannot be waived", "meet it"
    if given.status == "waived" and rule == "segments" and not given.segments:
        yield "a waiver of it covers named groups only", "list them under `segments`, such as ethnicity=other"
    if given.segments and not (given.status == "waived" and rule == "segments"):
        yield "`segments` belongs to a waiver of an item judged by group", "leave it out"


def read_file(folder: Path) -> dict[str, Answer]:
    """What answers.yml states now, by item; empty where there is no file or nothing in it."""
    path = folder / FILE
    if not path.exists() or not _says_something(path):
        return {}
    answers, problems = {}, []
    for item, row in read_yaml(path).items():
        try:
            answers[str(item)] = validate(row, Answer, f"{FILE}: {item}", "")
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return answers


def read_log(folder: Path) -> list[Entry]:
    """Every line of answers/*.jsonl, in the order of files and lines."""
    entries, problems = [], []
    for path in sorted((folder / LOG).glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                row = json.loads(line)
                entries.append(Entry(row["item"], Answer.model_validate(row["answer"]), row["source"], row["recorded"]))
            except (ValueError, TypeError, KeyError):
                found = f"line {number} is not an answer"
                problems.append(
                    Problem(f"{LOG}/{path.name}", found, "restore the file from your backup, or remove that line")
                )
    if problems:
        raise InputError(problems)
    return entries


def pending(folder: Path, book: Catalogue | None = None) -> list[Entry]:
    """What changed in answers.yml since it was last taken into the log, an answer that was removed included.

    Raises InputError with every problem in the file at once.
    """
    book = book or catalogue()
    stated, recorded = read_file(folder), _stamp(now())
    present = [Entry(item, given, FILE, recorded) for item, given in stated.items()]
    problems = [problem for entry in present for problem in check(entry, book)]
    if problems:
        raise InputError(problems)
    known: dict[str, Entry] = {}
    for entry in sorted((e for e in read_log(folder) if e.source == FILE), key=lambda e: e.recorded):
        known[entry.item] = entry
    gone = [Entry(item, Answer(status="open"), FILE, recorded) for item in known if item not in stated]
    return [e for e in (*present, *gone) if e.item not in known or known[e.item].answer.text() != e.answer.text()]


def ingest(folder: Path, book: Catalogue | None = None) -> list[Entry]:
    """Take what changed in answers.yml into the log; the file itself is never written.  Returns the new lines."""
    new = pending(folder, book)
    append(folder, new)
    return new


def append(folder: Path, entries: Sequence[Entry]) -> None:
    """Add lines to today's file of the log, whole or not at all, one writer at a time."""
    if not entries:
        return
    (folder / LOG).mkdir(parents=True, exist_ok=True)
    path = folder / LOG / f"{entries[0].recorded[:10]}.jsonl"
    lines = "".join(entry.to_json() + "\n" for entry in entries).encode()
    with _alone(folder / LOG / ".lock"), path.open("a+b") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a writer was cut off: its line stays apart from ours
                lines = b"\n" + lines
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())


def fold(entries: Iterable[Entry], book: Catalogue, clock: datetime, altered: Collection[str] = ()) -> dict[str, State]:
    """What the log adds up to, by item; the order of the lines does not matter.

    Each author's word is the one they wrote down last; among authors the latest by date counts.  Statements of the same
    moment that contradict each other are a conflict: all are kept and the worst counts.  An answer that may not stand
    counts as open, with its problems; one whose term or evidence is over counts as expired; one whose evidence file is
    in `altered` counts as altered.
    """
    words: dict[str, dict[tuple[str, ...], list[Entry]]] = {}
    for entry in entries:
        words.setdefault(entry.item, {}).setdefault(entry.author, []).append(entry)
    states = {}
    for item, authors in words.items():
        last = [entry for said in authors.values() for entry in said if entry.recorded == max(e.recorded for e in said)]
        latest = max(entry.answer.at for entry in last)
        tied = {entry.answer.text(): entry for entry in last if entry.answer.at == latest}
        judged = sorted((_judge(entry, book, clock, altered) for entry in tied.values()), key=_severity)
        differ = len({state.status for state in judged}) > 1
        others = tuple(state.answer for state in judged[1:]) if differ else ()
        states[item] = State(item, judged[0].status, judged[0].answer, others, judged[0].problems)
    return states


def altered(folder: Path, entries: Iterable[Entry]) -> frozenset[str]:
    """The local evidence files that are gone or no longer have the hash under which they were attested."""
    proofs = {proof for entry in entries for proof in map(_fixed, entry.answer.evidence) if proof}
    return frozenset(uri for uri, digest in proofs if not (folder / uri).is_file() or _sha256(folder / uri) != digest)


def _fixed(proof: Proof) -> tuple[str, str] | None:
    return (proof.uri, proof.sha256) if proof.sha256 and "://" not in proof.uri else None


def _judge(entry: Entry, book: Catalogue, clock: datetime, altered: Collection[str]) -> State:
    given, problems = entry.answer, (*check(entry, book), *_early(entry, clock))
    ends = [given.expires_on, *(proof.expires_on for proof in given.evidence)]
    if problems:
        status = "open"
    elif given.status in ("met", "waived", "not_applicable") and any(_over(end, clock) for end in ends if end):
        status = "expired"
    elif given.status == "met" and any(proof.uri in altered for proof in given.evidence):
        status = "altered"
    else:
        status = given.status
    return State(entry.item, status, given, (), problems)


def _early(entry: Entry, clock: datetime) -> list[Problem]:
    """Nobody can have answered tomorrow: neither by the study's clock nor by the day it was written down."""
    if entry.answer.when is None:
        return []
    at = entry.answer.at - timedelta(days=1)  # a day begins earlier in the east
    if at <= clock or _stamp(at) <= entry.recorded:
        return []
    return [Problem(f"{entry.source}: {entry.item}", "`when` lies in the future", "write the day of the answer")]


def _severity(state: State) -> tuple:
    cap = state.answer.ramp_cap if state.answer.ramp_cap is not None else 1.0
    return WORST_FIRST.index(state.status), cap, state.answer.text()


def _over(end: date, clock: datetime) -> bool:
    return moment(end, end_of_day=True) < clock


def _hashed(folder: Path, proof: str | Mapping) -> dict:
    row = {"uri": proof} if isinstance(proof, str) else dict(proof)
    uri = row.get("uri", "")
    if "://" not in uri and "sha256" not in row and (folder / uri).is_file():
        row["sha256"] = _sha256(folder / uri)
    return row


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _says_something(path: Path) -> bool:
    lines = (line.strip() for line in path.read_bytes().splitlines())
    return any(line and not line.startswith(b"#") for line in lines)


def _stamp(at: datetime) -> str:
    """To the microsecond, so that one author's words have an order."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock file, on every system, until the block ends."""
    with path.open("a+b") as file:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
            try:
                yield
            finally:
                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)  # let go when the file closes
            yield
