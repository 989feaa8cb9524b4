"""The launch decision as data: what was read, how each item stands, what it comes to."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from fairlift.evidence import Evidence
from fairlift.format import number
from fairlift.launch.judge import Need

if TYPE_CHECKING:
    import pandas as pd

GO, CONDITIONS, NO_GO = "GO", "GO WITH CONDITIONS", "NO-GO"
ORDER = (NO_GO, CONDITIONS, GO)
# which word the decision bears when its reasons are of several kinds
KINDS = ("harm", "missing", "not_shown")


@dataclass(frozen=True)
class Manifest:
    """What a run vouches for: the keys of the rows it left, up to when its data reach, and what counts no longer.

    `stale` says, by evidence key, why a row that is there does not count; `absent` says, by notebook, why it left nothing;
    `hashes` names what was read.
    """

    keys: frozenset[tuple[str, ...]] = frozenset()
    measured: datetime | None = None
    stale: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[Evidence], measured: datetime) -> Manifest:
        """A manifest that vouches for exactly these rows."""
        return cls(frozenset(row.key for row in rows), measured)


@dataclass(frozen=True)
class Reason:
    """How one item of the catalogue stands.

    state: pass, fail, inconclusive, missing, not_assessed, stale, expired, open, waived, not_applicable.  `kind` says what
    a state that stops the launch means: harm, not_shown or missing.  `plain` is for page one, `technical` for the annex.
    """

    item: str
    title: str
    severity: str
    state: str
    kind: str = ""
    stops: bool = False
    plain: str = ""
    technical: str = ""
    to_do: str = ""
    owner: str = ""
    approver: str = ""
    need: Need | None = None
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Condition:
    """What must hold while the launch goes on: whose task, until when, how far the launch may grow, what takes it back."""

    item: str
    what: str
    owner: str
    due: str
    ramp_cap: float
    rollback: str


@dataclass(frozen=True)
class Decision:
    """The launch decision: what it rests on and what stands in its way.

    `items` are all items walked, in the catalogue's order; `reasons` those that stop the launch; `kind` is harm, not_shown
    or missing for a NO-GO, else empty.  `reached` are the rows that once had their planned number of customers; `settled` says
    of rows that were read at the end and did not pass with how many customers: more of them are a look that was not planned.
    """

    decision: str
    kind: str
    items: tuple[Reason, ...]
    conditions: tuple[Condition, ...]
    planned: int
    catalogue_version: str
    catalogue_size: int
    catalogue_as_of: str
    hashes: Mapping[str, str]
    plan_hash: str
    standing: str
    at: str
    reached: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    settled: Mapping[str, int] = field(default_factory=dict)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        return tuple(reason for reason in self.items if reason.stops)

    @property
    def notes(self) -> tuple[Reason, ...]:
        """Minors that do not pass, and majors that were declared not applicable."""
        quiet = ("pass", "off")
        return tuple(
            r
            for r in self.items
            if not r.stops and r.state not in quiet and (r.severity == "minor" or r.state == "not_applicable")
        )

    def __str__(self) -> str:
        head = f"{self.decision}" + (f" ({self.kind.replace('_', ' ')})" if self.kind else "")
        width = max(len(reason.item) for reason in self.items)
        marks = {"pass": "ok", "off": "–", "waived": "~", "not_applicable": "–"}
        lines = [head, ""]
        for r in self.items:
            mark = "STOP" if r.stops else marks.get(r.state, "note" if r.severity == "minor" else "~")
            lines.append(f"  {mark:<4}  {r.item:<{width}}  {r.severity:<7}  {r.state:<12}  {r.technical}")
        lines += [
            f"  condition  {c.item}: {c.what} ({c.owner}, due {c.due}, up to {number(c.ramp_cap, 'share')} of customers)"
            for c in self.conditions
        ]
        lines += [f"  conflict  {text}" for text in self.conflicts]
        tail = f"checklist {self.catalogue_version}: {self.catalogue_size} items, {self.planned} of them planned and not walked"
        return "\n".join([*lines, "", f"  {tail}; decided {self.at}"])

    def states(self) -> pd.Series:
        """How many items are in each state, the most frequent first; the planned ones are not among them."""
        import pandas as pd  # late: the gate itself does without

        return pd.Series(Counter(reason.state for reason in self.items)).sort_values(ascending=False, kind="stable")

    def to_dict(self) -> dict:
        """The decision as plain values, fit for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping) -> Decision:
        """A decision from its plain values; raises TypeError or KeyError for what is not one."""
        items = tuple(
            Reason(**{**row, "need": Need(**row["need"]) if row["need"] else None, "rows": tuple(row["rows"])})
            for row in found["items"]
        )
        conditions = tuple(Condition(**row) for row in found["conditions"])
        lists = {name: tuple(found[name]) for name in ("reached", "conflicts")}
        return cls(**{**found, **lists, "items": items, "conditions": conditions})

    @property
    def hash(self) -> str:
        """SHA-256 of what was decided and on what, without the moment: the same facts have the same hash."""
        said = {name: value for name, value in self.to_dict().items() if name != "at"}
        return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()
