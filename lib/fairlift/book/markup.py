"""Small pieces of Markdown for generated pages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_ACTIVE = re.compile(r"([\\`*_{}\[\]<>$|#~])")
BADGES = {
    "GO": "fl-go",
    "GO WITH CONDITIONS": "fl-conditions",
    "NO-GO": "fl-no-go",
    "pass": "fl-go",
    "fail": "fl-no-go",
    "inconclusive": "fl-conditions",
}


def plain(text: object) -> str:
    r"""Text that Markdown leaves as it is, in a sentence or in a cell; what stands in backticks stays code.

    >>> print(plain("orders | $5 <b> in `study_a`"))
    orders \| \$5 \<b\> in `study_a`
    """
    pieces = re.split(r"(`[^`|]+`)", " ".join(str(text).split()))
    return "".join(piece if number % 2 else _ACTIVE.sub(r"\\\1", piece) for number, piece in enumerate(pieces))


def breakable(text: object) -> str:
    r"""Text as `plain` makes it, in which the long names of results may go on in the next line.

    >>> print(breakable("sales.toy@all: 0.53"))
    sales.<wbr>toy@<wbr>all: 0.53
    """
    return re.sub(r"([.@:=_-])(?=[a-z])", r"\1<wbr>", plain(text))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; cells are Markdown already.

    >>> print(table(["a", "b"], [["1", ""]]))
    | a | b |
    |---|---|
    | 1 |   |
    """
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell or " " for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def code(name: str) -> str:
    """A name in code letters."""
    return f"`{name}`"


def page(title: str, *blocks: str) -> str:
    """A page from its title and blocks, empty ones left out."""
    return "\n\n".join([f"# {title}", *(block for block in blocks if block)]) + "\n"


def badge(word: str, shown: str | None = None) -> str:
    """A decision or verdict as a badge, in HTML: its sign and word first, colour last."""
    return f'<span class="fl-badge {BADGES.get(word, "fl-not-assessed")}">{shown or word}</span>'


def anchor(name: str) -> str:
    """The anchor of a named thing on its page.

    >>> anchor("law.dpia.signed")
    'law-dpia-signed'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
