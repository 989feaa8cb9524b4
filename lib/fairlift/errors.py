"""What went wrong in the reader's input: one row a problem, all of them at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing wrong in the input: where it is, what was found, how to mend it.

    `rows` are 1-based data row numbers in the file (the header does not count); at most ten are kept,
    `count` says how many there are in all.  `severity` is "error" (refuse) or "warning" (go on, say so).

    >>> print(Problem("orders", "revenue is negative", "make refunds a positive `refund`", column="revenue", rows=(3,)))
    orders.revenue, row 3: revenue is negative. To mend: make refunds a positive `refund`.
    >>> print(Problem("plan.yml", "unknown key `alfa`", "did you mean `alpha`?"))
    plan.yml: unknown key `alfa`. To mend: did you mean `alpha`?
    """

    where: str
    found: str
    mend: str
    column: str | None = None
    rows: tuple[int, ...] = ()
    count: int | None = None
    file: str | None = None
    severity: str = "error"

    def __str__(self) -> str:
        place = self.where + (f".{self.column}" if self.column else "")
        if self.file and self.file != self.where:
            place += f" ({self.file})"
        if self.rows:
            more = self.count - len(self.rows) if self.count else 0
            place += f", row{'s' if len(self.rows) > 1 else ''} " + ", ".join(map(str, self.rows))
            place += f" and {more} more" if more > 0 else ""
        end = "" if self.mend.endswith("?") else "."
        return f"{place}: {self.found.rstrip('.')}. To mend: {self.mend.rstrip('.')}{end}"


class FairliftError(Exception):
    """A fault the reader can mend; shown as text, never as a traceback."""

    exit_code = 1


class InputError(FairliftError):
    """The input is refused; carries every problem found, not only the first.

    >>> try:
    ...     raise InputError([Problem("plan.yml", "no primary metric", "add `primary:`")])
    ... except InputError as error:
    ...     print(error)
    plan.yml: no primary metric. To mend: add `primary:`.
    """

    def __init__(self, problems: Sequence[Problem] | Problem):
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class Refusal(FairliftError):
    """A number that would mislead is not computed; says why and what would make it computable."""


def pattern(value: object, longest: int = 24) -> str:
    """The shape of a bad value, so that a message can show it without showing personal data.

    Letters become `a`, digits `9`.

    >>> pattern("12,50 EUR")
    '99,99 aaa'
    """
    text = re.sub(r"\d", "9", re.sub(r"[^\W\d_]", "a", str(value)))
    return text if len(text) <= longest else text[: longest - 1] + "…"


def nearest(word: str, known: Sequence[str]) -> str:
    """A hint naming the closest known word, or the list of them when none is close.

    >>> nearest("custmer_id", ["customer_id", "variant"])
    'did you mean `customer_id`?'
    """
    import difflib

    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean `{close[0]}`?" if close else "known: " + ", ".join(f"`{k}`" for k in known)


def safe_trace(error: BaseException) -> str:
    """Where an error arose, frame by frame, without any value: fit for a log that others may read.

    File names are relative to the package; the message is left out because it may hold personal data.
    """
    import traceback
    from pathlib import Path

    root = Path(__file__).parent.parent
    lines = [f"{type(error).__name__} (message withheld: it may hold personal data)"]
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        name = path.relative_to(root) if path.is_relative_to(root) else Path(*path.parts[-2:])
        lines.append(f"  {name.as_posix()}:{frame.lineno} {frame.name}")
    return "\n".join(lines) + "\n"
