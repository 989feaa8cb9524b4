"""The recorded calibration: every method within the bounds of its kind, the naive ones beside them, shown as they are."""

import json

import pytest

from fairlift.book.trust import trust_page
from fairlift.method.calibration import Row, faults


@pytest.fixture
def recorded(root):
    return root / "benchmarks" / "results" / "calibration.json"


def rows_of(recorded) -> list[Row]:
    listed = json.loads(recorded.read_text(encoding="utf-8"))["rows"]
    return [Row(**{name: value for name, value in row.items() if name != "topic"}) for row in listed]


def test_every_method_kept_its_promise(recorded):
    rows = rows_of(recorded)
    assert [(row.method, row.case, faults(row)) for row in rows if faults(row)] == []
    assert any(row.refused == 1 for row in rows)  # some questions cannot be answered, and the method says so


def test_the_naive_methods_break_what_ours_keep(recorded):
    """A table in which the naive method did as well would prove nothing."""
    naive = [row for row in rows_of(recorded) if row.naive]
    broken = [row for row in naive if faults(Row(**{**row.__dict__, "naive": False}))]
    assert len(naive) >= 20
    assert len(broken) >= 0.8 * len(naive)


def test_every_topic_is_there(recorded, root):
    found = json.loads(recorded.read_text(encoding="utf-8"))
    modules = {path.stem for path in (root / "benchmarks" / "calibration").glob("[a-z]*.py")}
    assert {row["topic"] for row in found["rows"]} == modules == set(found["topics"])


def test_the_page_shows_every_row(recorded):
    text, rows = trust_page(recorded), rows_of(recorded)
    assert text.count("<em>naive:</em>") == sum(row.naive for row in rows)
    assert text.count("<tr><td>") == len(rows)
    assert text.count("refuses, every time") == sum(row.refused == 1 for row in rows)
