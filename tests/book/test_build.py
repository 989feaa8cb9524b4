"""Small books built from a toy study whose run was written by hand: what is strict fails, what is missing is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairlift.book.build import BuildError, assemble, html
from fairlift.book.findings import counted, evidence_page, missing_page
from fairlift.book.manifest import Entry, Manifest, sha
from fairlift.errors import InputError
from fairlift.evidence import Evidence, write

STUDY = """
retailer: Toy
markets: [DE]
experiment: toy
arms: {personalised: [a], holdout: [b]}
period: {start: 2026-01-01, end: 2026-02-01}
outcome_window_days: 28
as_of: 2026-04-01
currency: USD
"""
ROW = Evidence(
    id="sales.toy.mean",
    kind="interval",
    design="randomised",
    statement="Revenue per customer, personalised against holdout: difference.",
    arm="personalised",
    versus="holdout",
    value=0.77,
    low=0.48,
    high=1.05,
    unit="money",
    n=42000,
    threshold=0,
)
RECORD = {
    "decision": "NO-GO",
    "kind": "missing",
    "items": [
        {
            "item": "law.dpia.signed",
            "title": "Impact assessment",
            "severity": "blocker",
            "state": "missing",
            "stops": True,
            "plain": "The impact assessment is not done.",
            "technical": "no answer",
            "to_do": "Do the assessment.",
            "owner": "DPO",
        }
    ],
}
TOC = {"format": "jb-book", "root": "chapters/index"}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("toy") / "study"
    (folder / "out" / "mart").mkdir(parents=True)
    (folder / "study.yml").write_text(STUDY)
    (folder / "out" / "mart" / "mart.json").write_text(json.dumps({"fingerprint": "f", "columns": [], "tables": {}}))
    path = write(folder / "out" / "evidence" / "sales.toy.json", [ROW])
    done = Entry("k", "done", "How much?", evidence=path.name, evidence_sha=sha(path), labels=(ROW.label,))
    lacking = Entry(
        "k", "not_assessed", "What profit?", missing=(("orders.refund", "study.yml:margin"), ("complaints.topic",))
    )
    failed = Entry("k", "failed", "What breaks?", reason="cell 3 (Why?): ValueError", internal=True)
    entries = {"sales/toy": done, "sales/profit": lacking, "sales/broken": failed}
    Manifest({}, "f", "c", "l", "r", entries).write(folder / "out")
    (folder / "out" / "decision.json").write_text(json.dumps({"record": RECORD}))
    return folder


def built(study: Path, place: Path, text: str, strict: bool = True) -> str:
    rows = study.parent / "requirements.yml"
    rows.write_text("- {id: sales.toy, part: sales, ask: What a toy brings, shows: [page], status: planned}\n")
    pages = {"chapters/index.md": text}
    index = html(assemble(place / "src", study, pages, TOC, strict=strict, requirements=rows), place)
    return (index.parent / "chapters" / "index.html").read_text()


GOOD = """# A toy

It rose by {result}`sales.toy.mean personalised holdout estimate`.

| who | how much |
|---|---|
| all | {result}`sales.toy.mean personalised holdout value` of {result}`sales.toy.mean personalised holdout n` |

```{decision} badge
```

```{decision} reasons
```

```{questions} sales
```
"""


def test_a_page_shows_what_the_files_say(study, tmp_path):
    page = built(study, tmp_path, GOOD)
    assert '<span class="fl-result">+USD 0.77 (+USD 0.48 to +USD 1.05)</span>' in page
    assert '<span class="fl-result">+USD 0.77</span> of <span class="fl-result">42,000</span>' in page
    assert '<span class="fl-badge fl-no-go">NO-GO</span> something is missing' in page
    assert "The impact assessment is not done." in page and "Do the assessment." in page
    assert "What a toy brings" in page and "fl-absent" not in page
    assert str(study) not in page


def test_a_result_that_is_not_there_fails_the_published_book(study, tmp_path):
    (tmp_path / "html").mkdir()
    (tmp_path / "html" / "index.html").write_text("an old book")
    text = "# A toy\n\n{result}`sales.toy.gone personalised holdout value` and {result}`sales.toy.mean personalised holdout colour`"
    with pytest.raises(BuildError) as caught:
        built(study, tmp_path, text)
    assert "chapters/index.md:3: WARNING: result: no evidence for `sales.toy.gone personalised holdout value`" in str(
        caught.value
    )
    assert "with WHAT one of" in str(caught.value) and str(tmp_path) not in str(caught.value)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_in_a_report_it_reads_not_assessed(study, tmp_path):
    page = built(study, tmp_path, "# A toy\n\n{result}`sales.toy.gone holdout value`", strict=False)
    assert '<span class="fl-result fl-absent">not assessed</span>' in page


def test_a_dead_link_fails_the_book(study, tmp_path):
    with pytest.raises(BuildError, match=r"nowhere\.md"):
        built(study, tmp_path, "# A toy\n\n[there](nowhere.md)")


def test_changed_evidence_is_refused(study):
    path = study / "out" / "evidence" / "sales.toy.json"
    text = path.read_text()
    path.write_text(text.replace("0.77", "0.97"))
    try:
        with pytest.raises(InputError, match="evidence of sales/toy: it was changed or removed after the run"):
            counted(study / "out")
    finally:
        path.write_text(text)


def test_the_evidence_page_holds_every_row(study):
    text = evidence_page(counted(study / "out"), "USD")
    assert "| Verdict | In words |" in text  # what counts stands first, where no screen cuts it off
    assert "sales.<wbr>toy.<wbr>mean@<wbr>all" in text and "42,000" in text and "USD 0.00" in text
    assert '<span class="fl-badge fl-go">pass</span>' in text


def test_what_is_missing_is_named_with_the_way_to_supply_it(study):
    from fairlift.book.manifest import require_manifest

    text = missing_page(require_manifest(study / "out"))
    assert "| What profit? | `orders.refund` or `study.yml:margin`; `complaints.topic` |" in text
    assert (
        "Add the column `refund` to the table `orders` (money paid back for returned goods) or write `margin` in study.yml."
        in text
    )
    assert "Bring the table `complaints` (one row a complaint, through any channel), with the column `topic`." in text
    assert "cell 3 (Why?): ValueError" in text
