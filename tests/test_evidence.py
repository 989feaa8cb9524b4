import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlift import evidence
from fairlift.errors import InputError
from fairlift.evidence import Evidence, Target, suppress


def row(**given):
    base = {"id": "sales.incremental.revenue", "statement": "s", "kind": "interval", "design": "randomised"}
    return Evidence(**(base | given))


@pytest.mark.parametrize(
    ("low", "high", "better", "threshold", "verdict"),
    [
        (0.1, 1.0, "up", 0.0, "pass"),
        (0.0, 1.0, "up", 0.0, "inconclusive"),  # touching is not passing
        (-1.0, -0.1, "up", 0.0, "fail"),
        (-0.4, 1.0, "up", -0.5, "pass"),
        (-0.6, 1.0, "up", -0.5, "inconclusive"),
        (-0.1, 0.4, "down", 0.5, "pass"),
        (0.6, 0.9, "down", 0.5, "fail"),
        (0.4, 0.6, "down", 0.5, "inconclusive"),
        (-5.0, 5.0, "up", None, "reported"),
        (None, None, "up", 0.0, "inconclusive"),
    ],
)
def test_interval_passes_only_when_whole_on_the_right_side(low, high, better, threshold, verdict):
    assert row(low=low, high=high, better=better, threshold=threshold).verdict == verdict


@pytest.mark.parametrize(
    ("p", "detectable", "tolerance", "verdict"),
    [
        (0.0005, 0.01, 0.02, "fail"),
        (0.5, 0.01, 0.02, "pass"),
        (0.5, 0.03, 0.02, "inconclusive"),
        (None, 0.01, 0.02, "inconclusive"),
    ],
)
def test_a_test_that_could_not_have_seen_the_fault_does_not_pass(p, detectable, tolerance, verdict):
    assert row(kind="test", p=p, high=detectable, hard_limit=tolerance, threshold=0.001).verdict == verdict


def test_exact_value_at_the_threshold_passes():
    assert row(kind="exact", value=0.001, better="down", threshold=0.001).verdict == "pass"
    assert row(kind="exact", value=0.0011, better="down", threshold=0.001).verdict == "fail"


def test_too_few_people_is_inconclusive_whatever_the_numbers_say():
    assert row(low=5, high=6, threshold=0, n=40, min_n=50).verdict == "inconclusive"


numbers = st.floats(-100, 100)


@given(numbers, st.floats(0, 50), st.floats(0.001, 50), st.floats(0, 50), st.sampled_from(["up", "down"]))
def test_a_worse_or_wider_interval_never_reads_better(value, half, wider, worse, better):
    def rank(low, high):
        return ["fail", "inconclusive", "pass"].index(row(low=low, high=high, threshold=0.0, better=better).verdict)

    shift = -worse if better == "up" else worse
    low, high = value - half, value + half
    assert rank(low + shift, high + shift) <= rank(low, high)
    widened = rank(low - wider, high + wider)
    assert widened <= rank(low, high) or rank(low, high) == 0  # a certain failure may become doubt, never a pass
    assert widened < 2 or rank(low, high) == 2


def test_threshold_of_a_guardrail_lies_on_the_side_that_harms():
    assert Target("guardrail", 0.5, 1.0).signed("up") == (-0.5, -1.0)
    assert Target("primary").signed("up")[0] == 0.0


def test_small_cells_keep_no_number():
    kept = suppress(row(value=1.0, se=0.1, low=0.8, high=1.2, p=0.01, n=7, threshold=0.0), 10)
    assert (kept.value, kept.se, kept.low, kept.high, kept.p, kept.n) == (None,) * 6
    assert kept.verdict == "inconclusive"
    assert suppress(row(value=1.0, n=10), 10).value == 1.0


def test_round_trip_keeps_every_row_and_writes_whole_files(tmp_path):
    rows = [row(value=np.float64(1.5), n=np.int64(3), low=1, high=2, threshold=0), row(segment="sex=f", value=None)]
    path = evidence.write(tmp_path / "e" / "sales.incremental.json", rows)
    assert evidence.read(path.parent) == rows
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_an_edited_verdict_is_found(tmp_path):
    path = evidence.write(tmp_path / "a.json", [row(low=-1, high=1, threshold=0)])
    listed = json.loads(path.read_text())
    listed[0]["verdict"] = "pass"
    path.write_text(json.dumps(listed))
    with pytest.raises(InputError, match=r"a\.json.*states 'pass' but its numbers say 'inconclusive'"):
        evidence.read(tmp_path)


def test_the_same_key_twice_is_refused(tmp_path):
    with pytest.raises(InputError, match="stands 2 times"):
        evidence.write(tmp_path / "a.json", [row(), row()])
    evidence.write(tmp_path / "a.json", [row()])
    evidence.write(tmp_path / "b.json", [row()])
    with pytest.raises(InputError, match="stands 2 times"):
        evidence.read(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[1]", "\x00\x01", '[{"id": "a.b.c"}]', '[{"id":"a.b.c","statment":"x"}]'])
def test_files_that_are_not_evidence_are_refused(text):
    with pytest.raises(InputError, match="evidence"):
        evidence.from_json(text)


def test_a_file_from_before_looks_reads_as_read_at_the_end():
    listed = json.loads(evidence.to_json([row(low=1, high=2, threshold=0, validity="always")]))
    assert evidence.from_json(json.dumps(listed))[0].validity == "always"
    del listed[0]["validity"]
    assert evidence.from_json(json.dumps(listed))[0].validity == "end"


def test_every_fault_of_a_row_is_named_at_once():
    with pytest.raises(InputError) as caught:
        row(id="revenue", kind="guess", design="magic", validity="often", value=float("nan"))
    assert len(caught.value.problems) == 5


def test_frame_puts_the_truth_beside_the_estimate_and_leaves_out_what_says_nothing():
    rows = [row(arm="a", versus=b, value=1.5, low=1, high=2, unit="money") for b in "bc"]
    shown = evidence.frame(rows, {rows[0].label: 1.4})
    assert (shown.columns.name, *shown.columns) == ("comparison", "estimate", "interval", "truth")
    assert shown.loc["a − b", "truth"].split() == ["+EUR", "1.40"]
    assert shown.loc["a − c", "truth"] == ""
    assert " " not in shown.loc["a − b", "interval"]
