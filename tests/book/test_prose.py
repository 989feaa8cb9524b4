"""Prose holds no typed result numbers: a result comes from evidence, so that text and output cannot part.

A number that is not a result (a legal limit, a definition) is let through by a comment that says why, on its line or
alone on the line above its paragraph or table:  <!-- typed: the limit of Art. 83(5) -->
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = re.compile(r"<!--\s*typed:\s*\S.*?-->")
NUMBER = r"\d(?:[\d,.  ]*\d)?"
MONEY = r"(?:[€$£₽]|\b(?:EUR|USD|GBP|RUB)\b)"
SPELT_MONEY = r"(?:euros?|dollars?|pounds?|roubles?|cents?)\b"
UNITS = r"(?:customers|orders|users|visitors|visits|households|sessions|complaints|opt-outs)\b"

RESULTS = {
    "percentage": rf"{NUMBER}\s?(?:%|‰|per cent\b|percent\b|pp\b|percentage points?\b|basis points?\b)",
    "money": rf"{MONEY}\s?{NUMBER}|{NUMBER}\s?(?:{MONEY}|{SPELT_MONEY})",
    "p value": r"\bp\s?(?:-value\s?)?[=<>≤≥]\s?\d*\.?\d",
    "statistic": r"\b(?:n|N|SE|se|z|t|F|r|d|σ|χ²)\s?=\s?[-−+]?\.?\d",
    "count": rf"(?<!per )(?<![\d,.])(?:\d{{1,3}}(?:[,  ]\d{{3}})+|\d{{2,}})\s{UNITS}",
    "decimal": r"(?<![\w./:§-])[-−+]?(?:\d+\.\d+|\.\d{2,})(?![\w/-]|\.\d)",
}

# Not results: code, addresses, roles, mathematics, and the numbers by which laws, versions and dates are called.
NEUTRAL = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\{[\w:+.-]+\}`[^`]*`",  # a role
        r"`+[^`]*`+",  # code
        r"\$\$.*?\$\$|\$(?!\s)[^$\n]*[^$\s]\$(?!\d)",  # mathematics
        r"\{\{.*?\}\}",  # a substitution
        r"<!--.*?-->",
        r"<[a-z/][^>]*>",  # a tag with its attributes
        r"\]\([^)]*\)|\]\[[^\]]*\]|^\[[^\]]+\]:\s.*$",  # where a link leads
        r"https?://\S+",
        r"(?:\b(?:Art(?:icle)?s?\.?|Recitals?|Sections?|Sec\.|Chapters?|Annex|Directive|Regulation|Act|Title)|§+)\s*"
        r"\(?[\dIVX][\w.()/–-]*(?:\s?(?:,|and|to|or)\s?\d[\w.()/–-]*)*",
        r"\b\d+\s(?:CFR|U\.?S\.?C\.?)\s(?:§+\s?)?\d[\w.()-]*",
        r"\b(?:Python|version|v|release|book|WCAG|CC BY|Apache|pip)[\s-]?\d+(?:\.\d+)+",
        r"\b\d+\.\d+\.\d+\b",  # a version or a date
        r"\b\d{1,2}[:.]\d{2}\s?(?:h\b|UTC\b|a\.m\.|p\.m\.)",
        r"\b(?:80|90|95|99)\s?%\s(?:two-sided\s)?(?:confidence\s)?(?:intervals?|limits?|level|power|confidence)",  # a convention
    )
]
FENCE = re.compile(r"\s*(?P<marks>`{3,}|~{3,}|:{3,})\s*(?P<info>.*)")
SHOWN_AS_IS = re.compile(r"\{?(?:code|literalinclude|math|raw|mermaid|eval-rst|toctree|bibliography)")
OPTION = re.compile(r"\s*:[\w-]+:(?:\s|$)")


def prose_lines(markdown: str) -> list[tuple[int, str]]:
    """(line number, text without what is neutral) of each line that is prose and not let through by a comment."""
    lines = markdown.splitlines()
    if lines and lines[0] == "---" and "---" in lines[1:]:  # front matter
        end = lines.index("---", 1) + 1
        lines[:end] = [""] * end
    found = []
    fences: list[tuple[str, bool]] = []  # marks, and whether the inside is prose
    maths = let_through = False
    for number, line in enumerate(lines, 1):
        bare = line.strip()
        fence, inside = FENCE.fullmatch(line), not fences or fences[-1][1]
        if fence and fences and not fence["info"] and fence["marks"].startswith(fences[-1][0]):
            fences.pop()
        elif fence and inside:
            info = fence["info"]
            fences.append((fence["marks"], info.startswith("{") and not SHOWN_AS_IS.match(info)))
        elif not inside or OPTION.match(line):
            pass
        elif bare == "$$" or (bare.startswith("$$") and bare.count("$$") == 1) or maths:
            maths = (bare.count("$$") == 1) is not maths
        elif not bare:
            let_through = False
        elif ALLOWED.fullmatch(bare):
            let_through = True
        elif not let_through and not ALLOWED.search(line):
            for pattern in NEUTRAL:
                line = pattern.sub(" ", line)
            found.append((number, line))
    return found


def typed_numbers(markdown: str) -> list[str]:
    """Typed result numbers in Markdown, as "line: kind: the words"."""
    return [
        f"{number}: {kind}: {hit[0].strip()}"
        for number, line in prose_lines(markdown)
        for kind, pattern in RESULTS.items()
        for hit in re.finditer(pattern, line)
    ]


def written() -> list:
    """Every chapter and every Markdown cell that the book shows."""
    texts = [
        pytest.param(path.read_text(encoding="utf-8"), id=path.relative_to(ROOT).as_posix())
        for path in sorted((ROOT / "chapters").rglob("*.md"))
    ]
    for path in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        for i, cell in enumerate(cells):
            if cell.cell_type == "markdown":
                texts.append(pytest.param(cell.source, id=f"{path.relative_to(ROOT).as_posix()}:{i}"))
    return texts


@pytest.mark.parametrize("markdown", written())
def test_prose_holds_no_typed_result(markdown):
    assert typed_numbers(markdown) == []


@pytest.mark.parametrize(
    ("markdown", "kind"),
    [
        ("Visits rose by 7.6 %.", "percentage"),
        ("Opt-outs fell by 12 per cent", "percentage"),
        ("a lift of 3 percentage points", "percentage"),
        ("It earns €1.2 million a year.", "money"),
        ("worth 45 euros each", "money"),
        ("(p < 0.05)", "p value"),
        ("the difference holds, p = .904", "p value"),
        ("with n = 64000", "statistic"),
        ("SE = 0.14", "statistic"),
        ("We tested 64,000 customers.", "count"),
        ("spend rose by 0.77 a head", "decimal"),
        ("between −0.3 and", "decimal"),
        ("| men | 0.7698 |", "decimal"),
        ("# Revenue up 4.2", "decimal"),
        ("```{note}\nRevenue rose by 0.77.\n```", "decimal"),
        (":::{tip}\nRevenue rose by 5 %.\n:::", "percentage"),
        ("```python\nx = 1\n```\nRevenue rose by 0.77.", "decimal"),
        ("[it rose by 5 %](page.md)", "percentage"),
        (":::{card} A\n```python\nx = 1\n```\nIt rose by 5 %.\n:::", "percentage"),
        ("````{tab} A\n```python\nx = 1\n```\nIt rose by 5 %.\n````", "percentage"),
        ("$$\nn = 100\n$$\n\nIt rose by 5 %.", "percentage"),
        ("<!-- typed: -->\nIt rose by 5 %.", "percentage"),
        ("<!-- typed: the law -->\nA limit.\n\nIt rose by 5 %.", "percentage"),
    ],
)
def test_a_typed_result_would_be_seen(markdown, kind):
    assert any(f": {kind}: " in row for row in typed_numbers(markdown)), typed_numbers(markdown)


@pytest.mark.parametrize(
    "markdown",
    [
        "Profit rose by {ev}`sales.incremental.profit`.",
        "Set `alpha: 0.05` in plan.yml.",
        "```yaml\nalpha: 0.05\n```",
        "~~~\nrose by 5 %\n~~~",
        "```{code-block} python\nalpha = 0.05\n```",
        "Let $p < 0.05$ and $n = 100$.",
        "$$ n = 100 $$ (eq)",
        "````{tab} A\n```python\nx = 0.5\n```\n````",
        "$$\nn = 16 \\sigma^2 / 0.5^2\n$$",
        "---\nmargin: 0.4\n---\n\nText.",
        "## Release of 2026-11-23",
        "You owe an answer under Art. 12(3) and Article 22(1), see Recital 71 and § 3.2.",
        "Regulation (EU) 2016/679 applies, and 29 CFR 1607.4(D).",
        "Needs Python 3.11 or newer, Jupyter Book 1.0.4.",
        "See [the text](https://example.org/v1.5/5.2).",
        "<img src='a.svg' width='50%' alt='Three arms in a row'>",
        "The 95 % interval lies above zero.",
        "Complaints are counted per 10,000 customers.",
        "Three arms, two looks, 26 weeks.",
        "Fines reach 4 % of turnover. <!-- typed: Art. 83(5) -->",
        "<!-- typed: Art. 83(5) -->\n| fine | share |\n|---|---|\n| upper | 4 % |",
        "```{figure} a.svg\n:width: 80%\nThree arms.\n```",
    ],
)
def test_what_is_no_result_passes(markdown):
    assert typed_numbers(markdown) == []
