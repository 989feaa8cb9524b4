"""A Sphinx extension: numbers in prose come from evidence, the decision and the lists of questions from their files.

    {result}`sales.incremental.profit personalised holdout estimate`    id, arm, versus, what; a segment as sex=female
    ```{decision} badge``` or ```{decision} reasons```
    ```{questions} PART```

Where there is nothing to print the text reads "not assessed"; in the published book that is a warning, which fails it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from fairlift.book.coverage import questions, read_requirements
from fairlift.book.findings import counted
from fairlift.book.record import badge_line, read_decision, reasons
from fairlift.errors import FairliftError
from fairlift.evidence import Evidence
from fairlift.format import NOT_ASSESSED, estimate, interval, number
from fairlift.study import open_study

LOG = logging.getLogger(__name__)
WHAT = ("estimate", "value", "interval", "low", "high", "n", "p", "verdict", "truth", "threshold", "statement")
RESULT, ABSENT = "fl-result", "fl-absent"  # classes by which a check tells computed words from typed ones


@dataclass(frozen=True)
class Source:
    """The evidence of a study, with its truth where it is synthetic."""

    rows: tuple[Evidence, ...]
    truth: dict[str, float]
    currency: str


@cache
def source(study: str) -> Source:
    """What the roles read: the evidence the manifest vouches for."""
    opened = open_study(Path(study))
    return Source(tuple(counted(opened.out)), dict(opened.truth), opened.settings.currency)


def tell(asked: str, found: Source) -> str | None:
    """The words for a result; None where there is none.

    Raises ValueError where the question itself makes no sense.

    >>> row = Evidence(id="sales.toy.mean", kind="exact", design="descriptive", statement="It is so.", arm="holdout", value=2.5, unit="money")
    >>> tell("sales.toy.mean holdout value", Source((row,), {}, "EUR")), tell("sales.toy.mean control value", Source((row,), {}, "EUR"))
    ('EUR 2.50', None)
    """
    words = asked.split()
    if len(words) < 2 or words[-1] not in WHAT or len(words) > 5:
        raise ValueError(f"`{asked}` is not ID [ARM [VERSUS]] [SEGMENT] WHAT, with WHAT one of {', '.join(WHAT)}")
    segment = next((word for word in words[1:-1] if "=" in word), "all")
    arms = [word for word in words[1:-1] if "=" not in word]
    arm, versus = (*arms, "", "")[:2]
    matching = [
        row for row in found.rows if (row.id, row.segment, row.arm, row.versus) == (words[0], segment, arm, versus)
    ]
    if len(matching) > 1:
        raise ValueError(f"`{asked}` fits {len(matching)} results; name the arms and the segment")
    return _words(matching[0], words[-1], found) if matching else None


def _words(row: Evidence, what: str, found: Source) -> str | None:
    unit = {"unit": row.unit, "currency": found.currency}
    signed = bool(row.versus)
    if what in ("verdict", "statement"):
        return getattr(row, what)
    if what == "estimate":
        return None if row.value is None else estimate(row.value, row.low, row.high, signed=signed, **unit)
    if what == "interval":
        return None if row.low is None and row.high is None else interval(row.low, row.high, signed=signed, **unit)
    shown = found.truth.get(row.label) if what == "truth" else getattr(row, what)
    if shown is None:
        return None
    if what in ("n", "p"):
        return number(shown, {"n": "count", "p": "p"}[what])
    return number(shown, signed=signed, **unit)


class ResultRole(SphinxRole):
    """{result}: one number, interval or verdict from the evidence."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        try:
            text = tell(self.text, source(self.config.fairlift_study))
            fault = None if text else f"no evidence for `{self.text}`"
        except (ValueError, FairliftError) as error:
            text, fault = None, str(error)
        if fault and self.config.fairlift_strict:
            LOG.warning("result: %s", fault, location=self.get_location())
        return [nodes.inline(self.text, text or NOT_ASSESSED, classes=[RESULT] if text else [RESULT, ABSENT])], []


class FromFiles(SphinxDirective):
    """A directive whose Markdown is computed from files; a fault is a warning and reads "not assessed"."""

    required_arguments = 1

    def markdown(self) -> str:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        try:
            text = self.markdown()
        except (ValueError, FairliftError) as error:
            if self.config.fairlift_strict:
                LOG.warning("%s: %s", self.name, error, location=self.get_location())
            text = NOT_ASSESSED
        block = nodes.container(classes=[RESULT])
        self.state.nested_parse(StringList(text.splitlines(), self.name), self.content_offset, block)
        return [block]


class DecisionDirective(FromFiles):
    """{decision} badge or reasons, from STUDY/out/decision.json."""

    def markdown(self) -> str:
        shown = {"badge": badge_line, "reasons": reasons}
        if self.arguments[0] not in shown:
            raise ValueError(f"{self.arguments[0]} is not one of {', '.join(shown)}")
        return shown[self.arguments[0]](read_decision(Path(self.config.fairlift_study) / "out"))


class QuestionsDirective(FromFiles):
    """{questions} PART, from data/requirements.yml."""

    def markdown(self) -> str:
        text = questions(read_requirements(Path(self.config.fairlift_requirements)), self.arguments[0])
        if not text:
            raise ValueError(f"no question belongs to {self.arguments[0]}")
        return text


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.add_config_value("fairlift_study", "", "env")
    app.add_config_value("fairlift_requirements", "", "env")
    app.add_config_value("fairlift_strict", True, "env")
    app.add_role("result", ResultRole())
    app.add_directive("decision", DecisionDirective)
    app.add_directive("questions", QuestionsDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
