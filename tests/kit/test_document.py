"""The plan as a document: one content, written twice, the same every time, and nothing of the machine in it."""

import io
import shutil
import time
import zipfile
from dataclasses import replace

import pytest
from docx import Document as read_word

from fairlift.kit.document import (
    Bullets,
    Document,
    Grid,
    Heading,
    Paragraph,
    markdown,
    plan_document,
    word,
    write_document,
)
from fairlift.kit.plan import size_plan
from fairlift.simulate import simulate
from fairlift.study import open_study, register
from fairlift.study.clock import moment
from fairlift.study.plan import Assignment, Stage, UniversalHoldout

AT = moment("2026-03-01T10:00:00+01:00")
PAGE = Document(
    "A plan",
    "Corner shop",
    AT,
    (
        Heading("Arms"),
        Paragraph("Two of\nthem, | so far."),
        Bullets(("one", "two")),
        Grid(("arm", "n"), (("new | old", "10"), ("idle", "20"))),
    ),
)


@pytest.fixture(scope="module")
def practice(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies") / "practice"
    simulate(folder, "demo", customers=1_500)
    return folder


@pytest.fixture
def study(practice, tmp_path):
    opened = open_study(shutil.copytree(practice, tmp_path / "practice"))
    primary = opened.plan.primary.model_copy(update={"mde": 12.0})
    plan = opened.plan.model_copy(update={"primary": primary, "kpis": ["sales.conversion.rate", "x"]})
    settings = opened.settings.model_copy(update={"rollout_customers": 40_000})
    return replace(opened, plan=plan, settings=settings)


def texts(packed: bytes) -> list[str]:
    """Everything a Word file says, in order."""
    made = read_word(io.BytesIO(packed))
    found = []
    for block in made.iter_inner_content():
        found += [cell.text for row in block.rows for cell in row.cells] if hasattr(block, "rows") else [block.text]
    return [text for text in found if text]


def test_markdown_and_word_say_the_same():
    page, made = markdown(PAGE), texts(word(PAGE))
    assert made == [
        "A plan",
        "Corner shop, 2026-03-01",
        "Arms",
        "Two of\nthem, | so far.",
        "one",
        "two",
        "arm",
        "n",
        "new | old",
        "10",
        "idle",
        "20",
    ]
    assert page.startswith("# A plan\n\nCorner shop, 2026-03-01\n\n## Arms\n\nTwo of them, | so far.\n")
    assert "- one\n- two\n" in page and "| new \\| old | 10 |" in page


def test_word_has_real_headings_and_tables():
    made = read_word(io.BytesIO(word(PAGE)))
    assert [p.style.name for p in made.paragraphs if p.text][:3] == ["Title", "Normal", "Heading 1"]
    assert [p.style.name for p in made.paragraphs if p.text in ("one", "two")] == ["List Bullet"] * 2
    (table,) = made.tables
    assert table.rows[0].cells[0].paragraphs[0].runs[0].bold
    assert "tblHeader" in table.rows[0]._tr.xml  # repeated at the top of every page


def test_the_same_document_gives_the_same_bytes_and_nothing_of_the_machine():
    first = word(PAGE)
    time.sleep(2.1)  # ZIP counts time in steps of two seconds
    assert word(PAGE) == first
    about = read_word(io.BytesIO(first)).core_properties
    assert (about.title, about.author, about.last_modified_by) == ("A plan", "Corner shop", "Corner shop")
    assert about.created == about.modified and str(about.created).startswith("2026-03-01 09:00:00")
    assert "python-docx" not in (about.comments or "") and about.revision == 1
    with zipfile.ZipFile(io.BytesIO(first)) as packed:
        assert {member.date_time for member in packed.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_the_plan_of_a_study(study, tmp_path):
    document = plan_document(study, size_plan(study))
    page, made = markdown(document), " ".join(texts(word(document)))
    assert document.title == "Plan of the experiment personal-offers" and document.at == study.settings.clock()
    for said in (
        study.plan.hypothesis,
        "above 0; sized for a gain of EUR 12.00",
        "not worse by 0.30 points",
        "0.60 points",
        "Customers who bought (sales.conversion.rate)",
        "A launch needs every gate.",
        "For 80.00 % together",
        "Customers who opted out of personalisation (no data before the start",
        "The smallest difference in Revenue per customer shown alone",
        study.plan.decision_rule,
        study.plan.stopping_rule,
        "Registered on",
        "Product owner",
        "Compliance",
    ):
        assert said in page and said in made, said
    headings = [line for line in page.splitlines() if line.startswith("## ")]
    assert headings.index("## What decides") < headings.index("## Size and power") < headings.index("## Signatures")
    paths = write_document(document, tmp_path / "out", "plan")
    assert [path.name for path in paths] == ["plan.md", "plan.docx"] and paths[0].read_text(encoding="utf-8") == page
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["plan.docx", "plan.md"]


def test_a_plan_that_cannot_be_sized_is_a_document_all_the_same(study):
    page = markdown(plan_document(study, None, "There are no orders."))
    assert "Not computed. There are no orders." in page and "not computed" in page
    assert study.plan.decision_rule in page and "What the test costs" not in page


def test_the_document_says_how_customers_are_drawn_and_when_results_are_read(study):
    drawn = Assignment(
        salt="s",
        holdout=UniversalHoldout(share=0.1, salt="h"),
        strata=["region"],
        cluster="household_id",
        factors={"email": 0.5},
    )
    first, weights = study.settings.period.start, study.plan.weights
    stages = [Stage(**{"from": first, "weights": weights})]
    plan = study.plan.model_copy(
        update={"assignment": drawn, "stages": stages, "looks": [first, "end"], "ends_at": study.settings.period.end}
    )
    page = markdown(plan_document(replace(study, plan=plan), None))
    assert (
        "draws whole households, evenly within region" in page and "10.00 % of all customers are held out first" in page
    )
    assert "The channel email is on for 50.00 %" in page and f"- From {first}: " in page
    assert f"Results are read on {first} and at the end" in page and "and not before" not in page
    assert "days are over by then" in page
    assert "salted hash" not in markdown(plan_document(study, None))


def test_what_stands_of_the_registration(study):
    path = study.folder / "plan.yml"
    path.write_text(path.read_text() + "\n# changed\n")
    page = markdown(plan_document(study, None))
    assert "This version is not registered. An earlier version was, on" in page
    register(study.folder, "personal-offers", AT, None)
    assert "Registered on 2026-03-01T09:00:00Z under the hash" in markdown(plan_document(study, None))
