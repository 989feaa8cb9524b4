"""The recorded trials of the gate: within the bounds that a working gate keeps, and shown as they are."""

import json

import pytest

from fairlift.book.trials import trials_page
from fairlift.simulate import read_scenario, scenarios


@pytest.fixture
def recorded(root):
    return root / "benchmarks" / "results" / "decisions.json"


def test_the_gate_kept_its_promise(recorded):
    rows = {row["scenario"]: row for row in json.loads(recorded.read_text())["rows"]}
    assert set(rows) == set(scenarios()) - {"demo"}
    for name, row in rows.items():
        assert row["truth"] == read_scenario(name).truth.decision
        assert row["go"] + row["conditions"] + row["no_go"] == row["seeds"] >= (2000 if name == "break-even" else 200)
    assert rows["break-even"]["wrong"] <= 67  # 2.5 % of 2,000 is 50; more than 67 has probability below .01
    assert rows["broken-randomisation"]["wrong"] == 0
    assert all(row["wrong"] <= 5 for name, row in rows.items() if name != "break-even")
    assert rows["break-even"]["wrong"] >= 20  # a gate that never passes a true zero asks for more than it says


def test_the_page_shows_every_scenario_and_its_count(recorded):
    lines = trials_page(recorded).splitlines()
    for row in json.loads(recorded.read_text())["rows"]:
        (line,) = [line for line in lines if line.startswith(f"| `{row['scenario']}` |")]
        assert line.split(" | ")[2:6] == [f"{row[word]:,}" for word in ("go", "conditions", "no_go", "wrong")]
