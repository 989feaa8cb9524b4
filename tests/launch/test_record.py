"""The decision of a study folder: what is read, what no longer counts, the record, the signatures and page one."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from fairlift.checklist import catalogue, ingest
from fairlift.errors import InputError
from fairlift.format import NOT_ASSESSED, number
from fairlift.launch import CONDITIONS, GO, NO_GO, decide_study, page_one, sign_record, signatures
from fairlift.study import Study, open_study, register
from fairlift.study.clock import moment
from fairlift.study.leave import code_version, leave, study_files

STATISTICS = re.compile(
    r"p-value|\bp [=<]|significan|confidence|interval|standard error|varianc|standard deviation|hypothes|statistic|"
    r"sample ratio|\bsrm\b|randomis|\bnull\b|\bpower\b|estimat|percentile|welch|holm|95 ?%",
    re.IGNORECASE,
)


def write_study(folder: Path, world, rows=None) -> Study:
    """A study folder as a run would leave it, from a world of rows."""
    folder.mkdir(exist_ok=True)
    dump = {"sort_keys": False, "allow_unicode": True}
    (folder / "study.yml").write_text(yaml.safe_dump(world.settings.model_dump(mode="json"), **dump), encoding="utf-8")
    if world.plan:
        (folder / "plan.yml").write_text(yaml.safe_dump(world.plan.model_dump(mode="json"), **dump), encoding="utf-8")
        register(folder, "spring", moment("2026-01-01"), None)
    answers = {item: json.loads(given.text()) for item, given in world.answers}
    (folder / "answers.yml").write_text(yaml.safe_dump(answers, **dump), encoding="utf-8")
    mart = {
        "fingerprint": "m" * 64,
        "as_of": "2026-03-29T21:59:59Z",
        "first_outcome": "2026-01-06T00:00:00Z",
        "customers": 25_000,
        "arms": {"personalised": {"assigned": 18_900}, "holdout": {"assigned": 2_100}},
        "tables": {},
        "columns": [],
    }
    (folder / "out" / "mart").mkdir(parents=True, exist_ok=True)
    (folder / "out" / "mart" / "mart.json").write_text(json.dumps(mart), encoding="utf-8")
    run(open_study(folder), world.rows if rows is None else rows)
    return open_study(folder)


def run(study: Study, rows) -> None:
    """Leave evidence and a manifest, as the executor does."""
    notebooks = {}
    for part in sorted({row.id.split(".")[0] for row in rows}):
        name = f"{part}/topic"
        mine = [replace(row, status="exploratory") for row in rows if row.id.startswith(f"{part}.")]
        path = leave(study, name, mine)
        entry = {"status": "done", "evidence": path.name, "evidence_sha": hashlib.sha256(path.read_bytes()).hexdigest()}
        notebooks[name] = entry | {"labels": [row.label for row in mine], "missing": []}
    found = {
        "study": study_files(study.folder),
        "mart": study.mart["fingerprint"],
        "code": code_version(),
        "lock": "l",
        "run": "r",
    }
    write_manifest(study, found | {"notebooks": notebooks})


def read_manifest(study: Study) -> dict:
    return json.loads((study.out / "manifest.json").read_text(encoding="utf-8"))


def write_manifest(study: Study, found: dict) -> None:
    (study.out / "manifest.json").write_text(json.dumps(found), encoding="utf-8")


@pytest.fixture
def study(tmp_path, world) -> Study:
    return write_study(tmp_path / "spring", world)


def again(study: Study) -> Study:
    return open_study(study.folder)


# what is read


def test_a_run_that_is_whole_decides(study):
    decision = decide_study(study)
    assert decision.decision == GO
    assert {"catalogue", "mart", "code", "study.yml", "plan.yml", "sales/topic"} <= set(decision.hashes)


@pytest.mark.parametrize("part", ["sales", "method", "risk", "ethics", "study"])
def test_a_file_that_is_gone_or_changed_does_not_count(study, part):
    path = study.out / "evidence" / f"{part}.topic.json"
    text = path.read_text(encoding="utf-8")
    for changed in (text.replace('"run"', '"run" '), "not json", None):
        path.unlink() if changed is None else path.write_text(changed, encoding="utf-8")
        decision = decide_study(again(study))
        assert (decision.decision, decision.kind) == (NO_GO, "missing")
        path.write_text(text, encoding="utf-8")
    assert decide_study(again(study)).decision == GO


def test_a_row_cut_out_of_a_file_is_noticed_even_with_a_new_hash(study):
    path = study.out / "evidence" / "ethics.topic.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(rows[1:]), encoding="utf-8")
    found = read_manifest(study)
    found["notebooks"]["ethics/topic"]["evidence_sha"] = hashlib.sha256(path.read_bytes()).hexdigest()
    write_manifest(study, found)
    assert decide_study(study).reasons[0].item == "ethics.fairness.exposure"


@pytest.mark.parametrize("name", ["mart", "code"])
def test_evidence_of_other_data_or_another_version_is_stale(study, name):
    write_manifest(study, read_manifest(study) | {name: "0" * 12})
    decision = decide_study(study)
    assert (decision.decision, decision.kind) == (NO_GO, "missing")
    assert {reason.state for reason in decision.reasons} == {"stale"}


@pytest.mark.parametrize("name", ["study.yml", "plan.yml"])
def test_settings_or_a_plan_changed_since_the_run_make_it_stale(study, name):
    path = study.folder / name
    path.write_text(path.read_text(encoding="utf-8") + "# a word more\n", encoding="utf-8")
    decision = decide_study(again(study))
    assert decision.decision == NO_GO
    assert any(f"{name} changed since the run" in reason.technical for reason in decision.reasons)


def test_without_a_run_or_tables_all_is_missing_and_nothing_breaks(study):
    (study.out / "manifest.json").unlink()
    assert decide_study(again(study)).kind == "missing"
    (study.out / "mart" / "mart.json").unlink()
    decision = decide_study(again(study))
    assert (decision.decision, decision.kind) == (NO_GO, "missing")
    assert NOT_ASSESSED in page_one(again(study), decision).text()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"notebooks": 3}'])
def test_a_manifest_that_is_none_counts_as_none(study, text):
    (study.out / "manifest.json").write_text(text, encoding="utf-8")
    assert decide_study(study).kind == "missing"


def test_what_a_notebook_could_not_assess_is_named(study):
    found = read_manifest(study)
    lacking = {
        "status": "not_assessed",
        "evidence": None,
        "labels": [],
        "missing": [["orders.cost_of_goods", "study.yml:margin"]],
    }
    del found["notebooks"]["sales/topic"]
    found["notebooks"]["sales/incremental"] = lacking
    write_manifest(study, found)
    decision = decide_study(study)
    profit = next(reason for reason in decision.reasons if reason.item == "sales.benefit.profit")
    assert profit.state == "not_assessed"
    assert "lacks orders.cost_of_goods or study.yml:margin" in profit.technical


def test_a_late_registration_is_exploratory(tmp_path, world):
    study = write_study(tmp_path / "spring", world)
    (study.folder / "registrations.jsonl").unlink()
    register(study.folder, "spring", moment("2026-02-01"), None)
    run(again(study), world.rows)
    decision = decide_study(again(study))
    assert (decision.decision, decision.kind) == (NO_GO, "missing")
    assert "method.plan.registered" in {reason.item for reason in decision.reasons}


def test_answers_are_read_from_the_file_and_it_is_left_as_it_is(study):
    before = (study.folder / "answers.yml").read_bytes()
    assert decide_study(study).decision == GO
    assert not (study.folder / "answers").exists()  # reading is not logging
    ingest(study.folder)
    assert decide_study(study).decision == GO
    assert (study.folder / "answers.yml").read_bytes() == before


def test_wrong_answers_are_refused_all_at_once(study):
    (study.folder / "answers.yml").write_text(
        "law.dpia.signed: {status: met}\nno.such.item: {status: open}\n", encoding="utf-8"
    )
    with pytest.raises(InputError) as caught:
        decide_study(study)
    assert len(caught.value.problems) == 4


def test_customers_gone_missing_after_the_plan_was_reached_are_a_fail(study, world):
    assert decide_study(study).decision == GO
    fewer = tuple(replace(row, n=19_000) if row.id == "sales.incremental.profit" else row for row in world.rows)
    run(study, fewer)
    decision = decide_study(again(study))
    assert (decision.kind, [reason.state for reason in decision.reasons]) == ("harm", ["fail"])


# the record


def test_the_record_is_written_whole_and_the_history_grows_only_with_news(study):
    first = decide_study(study)
    decide_study(study)
    history = (study.out / "decisions.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(history) == 1
    assert json.loads(history[0])["hash"] == first.hash
    (study.folder / "answers.yml").write_text("# none\n", encoding="utf-8")
    second = decide_study(study)
    assert second.decision == NO_GO
    assert len((study.out / "decisions.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    stored = json.loads((study.out / "decision.json").read_text(encoding="utf-8"))
    assert (stored["hash"], stored["record"]["decision"]) == (second.hash, NO_GO)
    assert not list(study.out.glob("*.part"))


def test_a_signature_holds_for_its_record_alone(study):
    decision = decide_study(study)
    signature = sign_record(study, name="A. Person", function="Product owner")
    assert signature.record == decision.hash
    again_decided = decide_study(study)
    assert [s.name for s in signatures(study, again_decided)] == ["A. Person"]
    stored = json.loads((study.out / "decision.json").read_text(encoding="utf-8"))
    assert stored["signatures"][0]["function"] == "Product owner"
    assert "Product owner: A. Person" in page_one(study, again_decided).text()
    sign_record(study, name="B. Person", function="legal")
    assert "Legal: B. Person" in page_one(study, again_decided).text()
    (study.folder / "answers.yml").write_text("# none\n", encoding="utf-8")
    assert signatures(study, decide_study(study)) == []


def test_nothing_undecided_or_edited_is_signed(study):
    with pytest.raises(InputError, match="no decision to sign"):
        sign_record(study, name="A. Person", function="DPO")
    decide_study(study)
    path = study.out / "decision.json"
    path.write_text(
        path.read_text(encoding="utf-8").replace('"decision": "GO"', '"decision": "NO-GO"'), encoding="utf-8"
    )
    with pytest.raises(InputError, match="hash"):
        sign_record(study, name="A. Person", function="DPO")
    decide_study(study)
    with pytest.raises(InputError, match="name or a function"):
        sign_record(study, name=" ", function="DPO")
    assert not (study.folder / "signatures.jsonl").exists()


# page one


def test_page_one_says_what_was_computed(study):
    page = page_one(study, decide_study(study))
    a_year = 100_000 * 365 / 28  # full roll-out, a year of windows
    assert page.profit_a_year.likely == pytest.approx(0.4 * a_year)
    assert page.profit_a_year.low == pytest.approx(0.1 * a_year)
    text = page.text()
    assert number(0.4 * a_year, "money_round", "EUR", signed=True) in text
    assert "28 days and 21,000 customers to a year and 100,000 customers" in text
    assert page.extra_per_10k["customers who complained"].likely == pytest.approx(2.0)
    assert "likely +2.0 per 10,000, between −8.0 per 10,000 and +12.0 per 10,000" in text
    assert (
        number(0.4 * a_year * 0.1, "money_round", "EUR") in page.holdout.lines[0]
    )  # a tenth of the customers is kept out
    assert "DPO: not signed" in text


def test_what_stands_in_the_way_has_an_owner_and_a_day(tmp_path, world):
    study = write_study(
        tmp_path / "spring", world.answer("law.dpia.signed", None).moved("sales.incremental.profit", 0.4, 0.5)
    )
    page = page_one(study, decide_study(study))
    assert [gap.item for gap in page.gaps] == ["law.dpia.signed", "sales.benefit.profit"]
    assert (page.gaps[0].owner, page.gaps[0].due) == ("DPO", "2026-04-26")
    assert "more customers" in page.gaps[1].to_do
    assert page.next_decision.lines[0].startswith("In about 13 weeks")
    assert "no costs" in page.next_decision.lines[1]


def test_the_cost_of_waiting_follows_from_the_costs(tmp_path, world):
    costs = [
        {"line": "licence", "kind": "licences", "amount": 36_500.0, "per": "year"},
        {"line": "data", "kind": "compute", "amount": 1.0, "per": "customer_year"},
        {"line": "set-up", "kind": "one_off", "amount": 10_950.0, "per": "once", "years": 3},
    ]
    settings = world.settings.model_validate(world.settings.model_dump() | {"costs": costs})
    study = write_study(tmp_path / "spring", world.but(settings=settings).answer("law.dpia.signed", None))
    page = page_one(study, decide_study(study))
    weekly = (36_500 + 18_900 + 3_650) * 7 / 365
    assert number(4 * weekly, "money_round", "EUR") in page.next_decision.lines[1]


def test_groups_that_cannot_be_compared_show_no_effect(tmp_path, world):
    study = write_study(tmp_path / "spring", world.row("method.srm.share", p=1e-9))
    page = page_one(study, decide_study(study))
    assert page.profit_a_year is None
    assert set(page.extra_per_10k.values()) == {None}
    assert "cannot be compared" in page.effect.lines[0]


def test_the_effect_is_shown_where_the_decision_is_missing(tmp_path, world):
    """No costs, no plan, no answers: the effect on sales stands there, and the launch does not go."""
    rows = tuple(row for row in world.rows if row.id != "sales.incremental.profit")
    study = write_study(tmp_path / "spring", world.but(plan=None, answers=()), rows)
    decision = decide_study(study)
    assert (decision.decision, decision.kind) == (NO_GO, "missing")
    text = page_one(study, decision).text()
    assert f"Net profit a year at full roll-out: {NOT_ASSESSED}" in text
    assert "before any cost: likely +EUR 1.20, between +EUR 0.70 and +EUR 1.70" in text
    assert "hint and not as proof" in text


@pytest.mark.parametrize(
    ("item", "change", "said"),
    [
        ("method.srm.share", {"p": 1e-9}, "customers did not land in the groups as planned"),
        ("method.contamination.share", {"value": 0.2, "low": 0.18, "high": 0.22}, "compares mixed groups"),
    ],
)
def test_page_one_tells_a_broken_test_from_harm(tmp_path, world, item, change, said):
    study = write_study(tmp_path / "broken", world.row(item, **change))
    page = page_one(study, decide_study(study))
    assert page.headline == "NO-GO, because the test itself cannot be trusted"
    assert any(said in line for line in page.effect.lines)
    both = world.row(item, **change).moved("sales.incremental.profit", -3, 0.3)
    study = write_study(tmp_path / "both", both)
    assert page_one(study, decide_study(study)).headline == "NO-GO, because harm was shown"


def cases(world, answers):
    yield "go", world
    yield (
        "conditions",
        world.moved("risk.complaints.rate", 0.001, 0.002).answer("governance.roles.raci", answers["waived"]()),
    )
    yield (
        "harm",
        world.row("method.srm.share", p=1e-9).row(
            "ethics.fairness.exposure", "sex=female", value=-0.3, low=-0.4, high=-0.2
        ),
    )
    yield "not shown", world.moved("sales.incremental.profit", 0.1, 0.3).moved("sales.incremental.revenue", -0.1, 0.3)
    yield "missing", world.but(plan=None, answers=())
    yield "quasi", world.row("sales.incremental.profit", design="quasi")
    yield "minor", world.moved("risk.optout.unsubscribed", 0.09, 0.01)
    yield "nothing", world.but(rows=())


def test_page_one_uses_no_word_of_statistics(tmp_path, world, answers):
    seen = set()
    for place, (name, case) in enumerate(cases(world, answers)):
        study = write_study(tmp_path / str(place), case)
        decision = decide_study(study)
        seen.add(decision.decision)
        text = page_one(study, decision).text()
        assert not STATISTICS.findall(text), f"{name}: {STATISTICS.findall(text)}"
    assert seen == {GO, CONDITIONS, NO_GO}


def test_no_sentence_of_the_checklist_meant_for_page_one_uses_statistics():
    for item in catalogue().assessed:
        for text in (item.title, item.if_fails, item.to_do, item.evidence_wanted):
            assert not STATISTICS.findall(text), f"{item.id}: {text}"


def test_conditions_say_what_they_ask(tmp_path, world, answers):
    case = world.moved("risk.complaints.rate", 0.001, 0.002).answer("governance.roles.raci", answers["waived"]())
    study = write_study(tmp_path / "spring", case)
    decision = decide_study(study)
    text = page_one(study, decision).text()
    assert decision.decision == CONDITIONS
    assert "at most 25.00 % of customers" in text and "at most 10.00 % of customers" in text
    assert "waived because no table yet; meanwhile care reports weekly" in text
