"""The coverage page is honest: an answered row shows all it promises, and every link leads somewhere."""

from __future__ import annotations

import pytest

from fairlift.book.checklists import checklist_page
from fairlift.book.coverage import Project, Row, coverage_page, gaps, questions, read_requirements
from fairlift.book.dictionary import dictionary_page, outcome_needs
from fairlift.book.project import PARTS, ROOT
from fairlift.checklist import catalogue
from fairlift.errors import InputError
from fairlift.sales.kpis import KPIS


@pytest.fixture
def project(tmp_path) -> Project:
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "money.md").write_text("# Money")
    return Project(tmp_path, frozenset({"sales.incremental.profit"}))


def row(**given) -> Row:
    return Row(id="sales.profit", part="sales", ask="What profit?", shows=["page", "lib", "gate"], **given)


GOOD = {"page": "chapters/money.md", "lib": "fairlift.book.coverage.gaps", "gate": "sales.incremental.profit"}


def test_a_planned_row_needs_no_link(project):
    assert gaps([row()], project) == []


def test_an_answered_row_with_all_its_links_passes(project):
    assert gaps([row(status="answered", links=GOOD)], project) == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"page": None}, "`sales.profit` is answered but links no page"),
        ({"page": "chapters/gone.md"}, "`sales.profit` links the page chapters/gone.md, which is not there"),
        ({"lib": "fairlift.book.coverage.gone"}, "links the lib fairlift.book.coverage.gone, which is not there"),
        ({"lib": "fairlift.gone"}, "links the lib fairlift.gone, which is not there"),
        ({"gate": "sales.gone.profit"}, "links the gate sales.gone.profit, which is not there"),
        ({"page": ["chapters/money.md", "chapters/gone.md"]}, "links the page chapters/gone.md, which is not there"),
    ],
)
def test_an_answered_row_that_is_not_fails(project, change, found):
    links = {word: link for word, link in (GOOD | change).items() if link}
    (problem,) = gaps([row(status="answered", links=links)], project)
    assert found in problem.found


def test_a_faulty_file_is_refused_with_all_its_rows(tmp_path):
    path = tmp_path / "requirements.yml"
    path.write_text("- {id: a, part: sales, ask: x, shows: [pages]}\n- {id: b, part: nowhere, ask: x, shows: [page]}\n")
    with pytest.raises(InputError) as caught:
        read_requirements(path)
    assert {problem.found.split("`")[1] for problem in caught.value.problems} == {"a", "b"}


def test_our_own_rows_hold():
    rows = read_requirements(ROOT / "data" / "requirements.yml")
    assert gaps(rows, Project(ROOT, frozenset(item.id for item in catalogue().assessed))) == []
    assert {found.part for found in rows} >= set(PARTS) - {"study"}


def test_the_pages_show_gaps_and_links():
    rows = [
        row(status="answered", links=GOOD),
        Row(id="sales.ltv", part="sales", ask="What in a | year?", shows=["page"]),
    ]
    text = coverage_page(rows)
    assert "Answered: 1 of 2 questions." in text
    assert (
        "| What profit? | answered | [page](money.md), `fairlift.book.coverage.gaps`, [sales.incremental.profit](#sales-incremental-profit) |"
        in text
    )
    assert r"| What in a \| year? | planned |   |" in text
    assert "[page](../money.md)" in questions(rows, "sales") and "*Planned.*" in questions(rows, "sales")
    assert questions(rows, "risk") == ""


def test_the_dictionary_holds_every_column_and_what_each_result_needs():
    text = dictionary_page(KPIS)
    assert "| `refund` | optional | money | money; 0 or more | Money paid back for returned goods. |" in text
    assert "`customers` (required)" in text
    assert "orders.revenue" in " ".join(outcome_needs()["revenue"])
    for kpi in KPIS:
        assert set(kpi.metric.outcomes) <= set(outcome_needs()), kpi.id


def test_the_checklist_page_holds_every_item():
    found = catalogue()
    text = checklist_page(found)
    assert all(f"`{item.id}`" in text for item in found.assessed)
    assert all(f"| {item.title} |" in text for item in found.planned)
    assert "(law-dpia-signed)=" in text


# A question once answered stays answered; whoever takes one back takes it out of this list, and says why.
ONCE_ANSWERED = {
    *("design.channels", "design.holdout", "design.horizons", "design.spillover"),
    *("method.ab", "method.control", "method.power", "method.prereg"),
    *("sales.incremental", "sales.profit", "sales.roi"),
}


def test_answered_never_goes_back_silently(root):
    answered = {row.id for row in read_requirements(root / "data" / "requirements.yml") if row.status == "answered"}
    assert answered >= ONCE_ANSWERED
