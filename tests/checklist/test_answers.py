from __future__ import annotations

import itertools
import json
from datetime import UTC, date, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlift.checklist import Answer, Entry, Person, Proof, altered, answer, catalogue, fold, ingest, read_log
from fairlift.checklist.answers import WORST_FIRST, append, pending
from fairlift.errors import InputError

BOOK = catalogue()
CLOCK = datetime(2026, 4, 1, tzinfo=UTC)
DPIA, RACI = "law.dpia.signed", "governance.roles.raci"
WAIVER = {
    "reason": "the list is late",
    "expires_on": date(2026, 9, 1),
    "compensating_control": "the owner decides alone",
    "ramp_cap": 0.1,
}


def said(status: str, when: date | None = date(2026, 3, 1), name: str = "A. Person", **more) -> Answer:
    proof = [Proof(uri="https://intranet/proof")] if status == "met" else []
    return Answer(status=status, who=Person(name=name, function=f"{name}'s"), when=when, **({"evidence": proof} | more))


def entry(item: str, given: Answer, recorded: str = "1", source: str = "fairlift answer") -> Entry:
    return Entry(item, given, source, recorded)


def note(folder: Path, item: str, status: str, **more) -> Entry:
    return answer(folder, item, status, name="A. Person", function="DPO", when=date(2026, 3, 1), **more)


def state(*entries: Entry, clock: datetime = CLOCK) -> str:
    return fold(entries, BOOK, clock)[entries[0].item].status


# what may be said


def test_nobody_can_have_answered_tomorrow():
    late = said("met", date(2031, 1, 1))
    found = fold([entry(DPIA, late, "2026-04-01T00:00:00+00:00")], BOOK, CLOCK)[DPIA]
    assert found.status == "open"
    assert "`when` lies in the future" in str(found.problems[0])
    # a study read as of an earlier day takes what was answered since
    assert state(entry(DPIA, late, "2031-01-02T00:00:00+00:00")) == "met"
    assert state(entry(DPIA, said("met", date(2026, 4, 2)))) == "met"


@pytest.mark.parametrize(
    ("item", "status", "more", "word"),
    [
        ("law.dpia.sined", "met", {"evidence": ["x"]}, "did you mean `law.dpia.signed`"),
        (DPIA, "met", {}, "met lacks `evidence`"),
        (DPIA, "not_applicable", {"reason": "r", "approver": "a"}, "large_scale: false"),
        (
            "law.basis.documented",
            "not_applicable",
            {"reason": "r", "approver": "a"},
            "a blocker leaves only by a context flag",
        ),
        (RACI, "not_applicable", {"reason": "r"}, "lacks `approver`"),
        (RACI, "not_applicable", {"approver": "a"}, "lacks `reason`"),
        (DPIA, "waived", WAIVER, "this blocker cannot be waived"),
        ("risk.complaints.rate", "waived", WAIVER, "this major cannot be waived"),
        *(
            (RACI, "waived", {k: v for k, v in WAIVER.items() if k != name}, f"waived lacks `{name}`")
            for name in WAIVER
        ),
        ("sales.benefit.profit", "met", {"evidence": ["x"]}, "it is measured"),
        ("ethics.fairness.exposure", "waived", WAIVER, "covers named groups only"),
        (RACI, "waived", WAIVER | {"segments": ["sex"]}, "`segments` belongs to"),
        (RACI, "waived", WAIVER | {"ramp_cap": 1.5}, "ramp_cap"),
        (RACI, "done", {}, "status"),
        (RACI, "met", {"evidence": ["x"], "colour": "red"}, "colour"),
    ],
)
def test_an_answer_that_may_not_stand_is_refused_and_nothing_written(tmp_path, item, status, more, word):
    with pytest.raises(InputError, match=word.replace("(", r"\(")):
        note(tmp_path, item, status, book=BOOK, **more)
    assert not (tmp_path / "answers").exists()


def test_all_problems_of_the_file_come_at_once_and_it_is_never_written(tmp_path):
    text = f"{DPIA}:\n  status: met\n{RACI}: {{status: done}}\nlaw.nothing.here: {{status: open}}\n"
    (tmp_path / "answers.yml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        ingest(tmp_path, BOOK)
    assert "status" in str(caught.value)
    (tmp_path / "answers.yml").write_text(text.replace("done", "open"), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        ingest(tmp_path, BOOK)
    assert len(caught.value.problems) == 4  # who, when, evidence, and an item that is not there
    assert (tmp_path / "answers.yml").read_text(encoding="utf-8") == text.replace("done", "open")
    assert not (tmp_path / "answers").exists()


@pytest.mark.parametrize("text", ["", "# nothing yet\n", None])
def test_no_answers_are_no_answers(tmp_path, text):
    if text is not None:
        (tmp_path / "answers.yml").write_text(text, encoding="utf-8")
    assert ingest(tmp_path, BOOK) == []


# the log


def _write(folder: str, writer: int, times: int) -> None:
    for number in range(times):
        answer(
            Path(folder),
            RACI,
            "in_progress",
            name=f"W{writer}",
            function="DPO",
            when=date(2026, 3, 1),
            reason=str(number),
            book=BOOK,
        )


def test_eight_writers_lose_nothing(tmp_path):
    context = get_context("fork")
    writers = [context.Process(target=_write, args=(str(tmp_path), writer, 100)) for writer in range(8)]
    for process in writers:
        process.start()
    for process in writers:
        process.join(60)
        assert process.exitcode == 0
    found = {(e.answer.who.name, e.answer.reason) for e in read_log(tmp_path)}
    assert found == {(f"W{writer}", str(number)) for writer in range(8) for number in range(100)}
    assert len(read_log(tmp_path)) == 800


def test_the_log_is_only_added_to(tmp_path):
    note(tmp_path, RACI, "in_progress")
    (path,) = (tmp_path / "answers").glob("*.jsonl")
    before = path.read_bytes()
    note(tmp_path, RACI, "met", evidence=["https://intranet/raci"])
    assert path.read_bytes().startswith(before)
    assert state(*read_log(tmp_path)) == "met"


def test_a_line_cut_off_is_named_and_spoils_no_other(tmp_path):
    note(tmp_path, RACI, "in_progress")
    (path,) = (tmp_path / "answers").glob("*.jsonl")
    with path.open("a", encoding="utf-8") as file:
        file.write('{"item": "governance.ro')
    note(tmp_path, DPIA, "in_progress")
    with pytest.raises(InputError, match="line 2 is not an answer"):
        read_log(tmp_path)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([lines[0], lines[2]]) + "\n", encoding="utf-8")
    assert {e.item for e in read_log(tmp_path)} == {RACI, DPIA}


def test_changes_of_the_file_are_taken_in_once(tmp_path):
    path = tmp_path / "answers.yml"
    path.write_text(f"{RACI}: {{status: in_progress}}\n", encoding="utf-8")
    assert [e.item for e in pending(tmp_path, BOOK)] == [RACI]
    assert [e.item for e in ingest(tmp_path, BOOK)] == [RACI]
    assert ingest(tmp_path, BOOK) == []
    who = "{name: A. Person, function: DPO}"
    path.write_text(
        f"{RACI}: {{status: met, who: {who}, when: 2026-03-01, evidence: [https://intranet/raci]}}\n", encoding="utf-8"
    )
    assert len(ingest(tmp_path, BOOK)) == 1
    assert state(*read_log(tmp_path)) == "met"
    path.write_text("# taken back\n", encoding="utf-8")
    assert len(ingest(tmp_path, BOOK)) == 1
    assert ingest(tmp_path, BOOK) == []
    assert state(*read_log(tmp_path)) == "open"


def test_an_entry_survives_its_line(tmp_path):
    given = entry(RACI, said("waived", **WAIVER), "2026-03-01T00:00:00.000000+00:00")
    append(tmp_path, [given])
    assert read_log(tmp_path) == [given]


def test_a_file_that_serves_as_proof_is_hashed_and_watched(tmp_path):
    (tmp_path / "raci.txt").write_text("one accountable each", encoding="utf-8")
    written = note(tmp_path, RACI, "met", evidence=["raci.txt"])
    assert len(written.answer.evidence[0].sha256) == 64
    assert altered(tmp_path, read_log(tmp_path)) == frozenset()
    (tmp_path / "raci.txt").write_text("two accountable each", encoding="utf-8")
    gone = altered(tmp_path, read_log(tmp_path))
    assert gone == {"raci.txt"}
    assert fold(read_log(tmp_path), BOOK, CLOCK, gone)[RACI].status == "altered"


# the fold


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (said("met"), "met"),
        (said("met", evidence=[Proof(uri="x", expires_on=date(2026, 3, 31))]), "expired"),
        (said("met", evidence=[Proof(uri="x", expires_on=date(2026, 4, 1))]), "met"),
        (said("met", evidence=[Proof(uri="x"), Proof(uri="y", expires_on=date(2026, 1, 1))]), "expired"),
        (said("met", evidence=[]), "open"),
        (said("waived", **WAIVER), "waived"),
        (said("waived", **WAIVER | {"expires_on": date(2026, 3, 31)}), "expired"),
        (said("not_applicable", reason="r", approver="a"), "not_applicable"),
        (said("not_met"), "not_met"),
        (said("in_progress"), "in_progress"),
    ],
)
def test_what_one_answer_comes_to(given, status):
    assert state(entry(RACI, given)) == status


def test_the_latest_day_counts_among_people():
    old, new = said("met", date(2026, 3, 1)), said("not_met", date(2026, 3, 2), "B. Person")
    assert state(entry(RACI, old, "2"), entry(RACI, new, "1")) == "not_met"


def test_a_person_may_correct_themselves_on_the_same_day():
    assert state(entry(RACI, said("in_progress"), "1"), entry(RACI, said("met"), "2")) == "met"


def test_contradictions_of_one_day_are_both_kept_and_the_worse_counts():
    found = fold([entry(RACI, said("met"), "1"), entry(RACI, said("not_met", name="B. Person"), "2")], BOOK, CLOCK)[
        RACI
    ]
    assert found.status == "not_met"
    assert [other.status for other in found.conflicts] == ["met"]


def test_the_file_and_the_log_can_contradict_each_other():
    entries = [entry(RACI, said("met"), "1", "answers.yml"), entry(RACI, said("in_progress"), "2")]
    found = fold(entries, BOOK, CLOCK)[RACI]
    assert found.status == "in_progress"
    assert found.conflicts


def test_the_file_taken_back_is_taken_back():
    met, later = said("met", date(2026, 3, 1)), said("not_met", date(2026, 3, 5))
    entries = [entry(RACI, given, str(n), "answers.yml") for n, given in enumerate([met, later, met])]
    assert state(*entries) == "met"


def test_an_answer_that_no_longer_may_stand_counts_as_open_and_says_why():
    found = fold([entry(DPIA, said("waived", **WAIVER))], BOOK, CLOCK)[DPIA]
    assert found.status == "open"
    assert "cannot be waived" in str(found.problems[0])


ENTRIES = st.lists(
    st.builds(
        lambda status, day, who, recorded, source: entry(
            RACI,
            said(
                status, date(2026, 3, day), who, **(WAIVER if status == "waived" else {"reason": "r", "approver": "a"})
            ),
            str(recorded),
            source,
        ),
        st.sampled_from(["open", "in_progress", "met", "not_met", "not_applicable", "waived"]),
        st.integers(1, 3),
        st.sampled_from(["A", "B"]),
        st.integers(1, 4),
        st.sampled_from(["answers.yml", "fairlift answer"]),
    ),
    min_size=1,
    max_size=5,
)


@given(ENTRIES)
def test_the_order_of_the_lines_does_not_matter_nor_does_a_line_twice(entries):
    expected = fold(entries, BOOK, CLOCK)
    for order in itertools.islice(itertools.permutations(entries), 24):
        assert fold(order, BOOK, CLOCK) == expected
    assert fold([*entries, *entries], BOOK, CLOCK) == expected


@given(ENTRIES, st.integers(0, 900))
def test_time_makes_no_answer_better(entries, days):
    now, later = (fold(entries, BOOK, CLOCK + timedelta(days=d))[RACI].status for d in (0, days))
    assert later == now or later == "expired" or WORST_FIRST.index(later) < WORST_FIRST.index(now)


def test_no_line_of_the_log_holds_more_than_was_said(tmp_path):
    note(tmp_path, RACI, "in_progress")
    (path,) = (tmp_path / "answers").glob("*.jsonl")
    row = json.loads(path.read_text(encoding="utf-8"))
    assert set(row) == {"item", "source", "recorded", "answer"}
    assert set(row["answer"]) == {"status", "who", "when"}
