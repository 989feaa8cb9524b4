from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from fairlift.checklist import DATA, catalogue, requirements
from fairlift.checklist.items import Applies
from fairlift.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DATA / "checklists", tmp_path / "checklists"))


def edit(path: Path, change) -> None:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(found)
    path.write_text(yaml.safe_dump(found, allow_unicode=True, sort_keys=False), encoding="utf-8")


def problems(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        catalogue(folder)
    return "\n".join(map(str, caught.value.problems))


def test_every_requirement_named_exists_and_every_gate_row_has_an_item():
    known = {row["id"] for row in requirements()}
    named = {name for item in catalogue().items.values() for name in item.requirements}
    assert named <= known
    assert {row["id"] for row in requirements() if "gate" in row["shows"]} <= named


def test_every_requirement_has_a_part_a_status_and_links():
    parts = {"study", "ethics", "law", "governance", "privacy", "method", "sales", "loyalty", "risk", "launch"}
    for row in requirements():
        assert row["part"] in parts
        assert row["status"] in ("planned", "answered")
        assert isinstance(row["links"], dict)


def test_blockers_are_never_waivable_and_the_benefit_is_blocking():
    book = catalogue()
    assert not [item.id for item in book.assessed if item.severity == "blocker" and item.waivable]
    rules = {item.verification.rule: item.severity for item in book.assessed}
    assert {rules["registered"], rules["primary"], rules["profit"]} == {"blocker"}


def test_every_legal_source_has_a_date_and_a_confidence():
    sources = [source for item in catalogue().items.values() for source in item.legal]
    assert len(sources) > 20
    assert all(source.as_of and source.confidence for source in sources)


def test_the_hash_follows_the_files(folder):
    before = catalogue(folder).hash
    assert before == catalogue().hash
    edit(folder / "sales.yml", lambda found: found["items"][0].update(title="Another title"))
    assert catalogue(folder).hash != before


def test_all_problems_come_at_once(folder):
    edit(folder / "law.yml", lambda found: found["items"][0].update(severity="fatal"))
    edit(folder / "risk.yml", lambda found: found["items"][0].pop("question"))
    edit(folder / "ethics.yml", lambda found: found["items"][0].update(colour="red"))
    told = problems(folder)
    assert all(word in told for word in ("severity", "question", "colour"))


@pytest.mark.parametrize(
    ("file", "change", "word"),
    [
        ("law.yml", lambda item: item.update(waivable=True), "never waivable"),
        ("law.yml", lambda item: item.update(applies={"when": "full_moon"}), "full_moon"),
        ("law.yml", lambda item: item.update(applies={"markets": ["Atlantis"]}), "Atlantis"),
        ("law.yml", lambda item: item.pop("why"), "needs why"),
        ("law.yml", lambda item: item["legal"][0].update(as_of=yaml.safe_load("2026-11-23")), "as_of"),
        ("sales.yml", lambda item: item.update(severity="major"), "stands on a blocker"),
        ("sales.yml", lambda item: item.update(applies={"when": "vendors"}), "stands on a blocker"),
        ("ethics.yml", lambda item: item.update(severity="blocker", waivable=False), "make it major"),
        ("ethics.yml", lambda item: item["verification"].pop("min_n"), "min_n"),
    ],
)
def test_an_item_that_may_not_stand_is_refused(folder, file, change, word):
    edit(folder / file, lambda found: change(found["items"][0]))
    assert word in problems(folder)


def test_an_id_may_not_stand_twice(folder):
    edit(folder / "sales.yml", lambda found: found["items"].append(found["items"][0]))
    assert "`sales.benefit.primary` stands twice" in problems(folder)


@pytest.mark.parametrize("rule", ["primary", "profit", "registered"])
def test_a_catalogue_without_a_benefit_rule_is_refused(folder, rule):
    for path in folder.glob("*.yml"):
        if path.name != "catalogue.yml":
            edit(path, lambda found: found.update(items=[i for i in found["items"] if not _holds(i, rule)]))
    assert f"0 items hold the rule `{rule}`" in problems(folder)


def _holds(item: dict, rule: str) -> bool:
    found = item.get("verification")
    return isinstance(found, dict) and found["rule"] == rule


def test_dates_are_quoted_in_every_file():
    for path in (DATA / "checklists").glob("*.yml"):
        dates = [node for node in _scalars(yaml.compose(path.read_text(encoding="utf-8"))) if "timestamp" in node.tag]
        assert not dates, f"{path.name}, line {dates[0].start_mark.line + 1}: quote the date"


def _scalars(node):
    if isinstance(node, yaml.ScalarNode):
        yield node
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _scalars(child)
    elif isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            yield from _scalars(key)
            yield from _scalars(child)


@pytest.mark.parametrize(
    ("when", "context", "holds"),
    [
        (None, {}, True),
        ("vendors", {}, True),
        ("vendors", {"vendors": True}, True),
        ("vendors", {"vendors": False}, False),
    ],
)
def test_an_item_leaves_only_by_a_flag_that_says_no(when, context, holds):
    assert Applies(when=when).holds(["EU"], context) is holds


@pytest.mark.parametrize(
    ("markets", "study", "holds"),
    [
        ([], ["EU"], True),
        (["US-CA"], ["EU"], False),
        (["US-CA"], ["US"], True),
        (["US"], ["EU", "US-NY"], True),
        (["EU"], ["DE"], True),
    ],
)
def test_a_market_that_is_unknown_counts_as_every_market(markets, study, holds):
    assert Applies(markets=markets).holds(study, {}) is holds
