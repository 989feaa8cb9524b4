"""The command as a reader meets it: what it prints, what it returns, and that no fault of the input shows a traceback."""

import errno
import importlib
import json
import shutil

import pytest

from fairlift import cli


@pytest.fixture(scope="module")
def practice(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies") / "practice"
    assert cli._run(["simulate", str(folder), "--scenario", "clean-win", "--customers", "1500"]) == cli.DONE
    return folder


@pytest.fixture
def study(practice, tmp_path):
    return shutil.copytree(practice, tmp_path / "practice")


@pytest.fixture
def fairlift(capsys, monkeypatch, tmp_path):
    """Call the command; returns its exit code and what it printed, which never holds a traceback or a home path."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = cli._run([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        assert "C0000" not in said.out + said.err
        return code, said.out + said.err

    return call


COMMANDS = ["new", "simulate", "check", "plan", "register", "assign", "answer", "run", "decide", "book"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(fairlift, name):
    code, said = fairlift(name, "--help")
    assert code == cli.DONE
    assert f"fairlift {name}" in said.split("Examples")[1]


def test_help_states_the_exit_codes(fairlift):
    code, said = fairlift("--help")
    assert code == cli.DONE and "4 no-go" in said
    assert all(f" {name} " in said for name in COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuch"],
        ["run"],
        ["simulate", "x", "--seed", "-1"],
        ["answer", "x", "y", "maybe"],
        ["decide", "x", "--sign"],
        ["run", "x", "--jobs", "0"],
    ],
)
def test_wrong_usage(fairlift, arguments):
    code, said = fairlift(*arguments)
    assert (code == cli.USAGE and "Usage" in said) or "--sign needs" in said


@pytest.mark.parametrize("name", ["check", "plan", "register", "assign", "run", "decide", "book"])
def test_a_folder_that_is_not_there(fairlift, name):
    code, said = fairlift(name, "nowhere")
    assert code == cli.PROBLEM
    assert "nowhere" in said and "To mend" in said


def test_check_says_what_was_found_and_what_comes_next(fairlift, study):
    code, said = fairlift("check", study)
    assert code == cli.DONE and "fit the contract" in said and "fairlift run" in said
    assert "fairlift register" not in said
    (study / "registrations.jsonl").unlink()
    assert "Next: fairlift register" in fairlift("check", study)[1]


def test_check_names_every_problem_at_once(fairlift, study):
    (study / "tables" / "orders.parquet").unlink()
    (study / "tables" / "customers.parquet").write_bytes(b"\x00not parquet")
    code, said = fairlift("check", study)
    assert code == cli.PROBLEM
    assert "2 problems" in said and "orders" in said and "customers" in said
    assert not (study / "out" / "mart").exists()


def test_broken_yaml_of_both_files_comes_together(fairlift, study):
    (study / "study.yml").write_text("retailer: [")
    (study / "plan.yml").write_text("experiment: x\n")
    code, said = fairlift("run", study)
    assert code == cli.PROBLEM and "not YAML" in said and "`primary` is missing" in said


def test_a_password_is_refused_and_not_repeated(fairlift, study):
    with (study / "study.yml").open("a") as file:
        file.write("\nconnect: postgres://me:hunter2@db/shop\n")
    for name in ("check", "run", "decide"):
        code, said = fairlift(name, study)
        assert code == cli.PROBLEM and "hunter2" not in said


def test_plan_and_register(fairlift, study):
    code, said = fairlift("plan", study)
    assert code == cli.DONE and "Registered on" in said
    plan = study / "plan.yml"
    plan.write_text(plan.read_text() + "\n# changed\n")
    code, said = fairlift("plan", study)
    assert "not registered" in said
    before = plan.read_bytes()
    code, said = fairlift("register", study)
    assert code == cli.DONE and plan.read_bytes() == before
    assert "were already there: this test counts as exploratory" in said
    lines = (study / "registrations.jsonl").read_text().splitlines()
    assert (
        len(lines) == 2 and json.loads(lines[1])["latest_outcome"]
    )  # the outcomes were there, and the register says so
    plan.unlink()
    assert fairlift("register", study)[0] == cli.PROBLEM


def test_assign_draws_once_then_verifies(fairlift, study):
    (study / "tables" / "assignments.parquet").unlink()
    code, said = fairlift("assign", study)
    assert code == cli.PROBLEM and "by which salt" in said
    with (study / "plan.yml").open("a") as file:
        file.write("\nassignment: {salt: autumn}\n")
    code, said = fairlift("assign", study)
    assert code == cli.DONE and "Written: out/assignments.parquet" in said and "sample ratio" in said
    (study / "out" / "assignments.parquet").rename(study / "tables" / "assignments.parquet")
    code, said = fairlift("assign", study)
    assert code == cli.DONE and "Everyone is where the hash puts them" in said
    (study / "plan.yml").write_text((study / "plan.yml").read_text().replace("salt: autumn", "salt: spring"))
    code, said = fairlift("assign", study)
    assert code == cli.PROBLEM and "differ from what the hash gives them" in said


def test_a_plan_is_sized_and_written_before_anybody_is_assigned(fairlift, study):
    code, said = fairlift("plan", study)
    assert code == cli.DONE and "Sized from the 56 days" in said and "customers" in said
    documents = [study / "out" / "plan" / name for name in ("plan.md", "plan.docx")]
    assert all(path.exists() and str(path) in said for path in documents)
    first = documents[1].read_bytes()
    (study / "tables" / "assignments.parquet").unlink()
    code, said = fairlift("plan", study)
    assert code == cli.DONE and "Sized from the 56 days" in said and documents[1].read_bytes() == first


def test_a_plan_without_a_past_is_read_back_all_the_same(fairlift, study):
    (study / "tables" / "orders.parquet").unlink()
    code, said = fairlift("plan", study)
    assert code == cli.DONE and "Judged by sales.incremental.revenue" in said and "Registered on" in said
    assert "Not sized. There is no table of orders yet" in said
    assert "There is no table of orders yet" in (study / "out" / "plan" / "plan.md").read_text(encoding="utf-8")
    (study / "tables" / "orders.csv").write_text("order_id,customer_id,ordered_at,revenue\nO1,X1,not a day,1\n")
    code, said = fairlift("plan", study)
    assert code == cli.PROBLEM and "not a time" in said and "Registered on" in said
    (study / "plan.yml").unlink()
    assert fairlift("plan", study)[0] == cli.PROBLEM


def test_answers_are_added_and_bad_ones_refused(fairlift, study):
    who = ["--who", "A. Name", "--function", "DPO"]
    code, said = fairlift("answer", study, "law.dpia.signed", "met", *who, "--evidence", "dpia.pdf")
    assert code == cli.DONE and "met" in said
    code, said = fairlift("answer", study, "law.dpia.singed", "met", *who, "--evidence", "dpia.pdf")
    assert code == cli.PROBLEM and "law.dpia.signed" in said
    code, said = fairlift("answer", study, "law.dpia.signed", "waived", *who)
    assert code == cli.PROBLEM and "cannot be waived" in said and "state --ramp-cap" in said
    lines = [line for path in (study / "answers").glob("*.jsonl") for line in path.read_text().splitlines()]
    assert len(lines) == 1


def test_deciding_before_a_run_is_no_go_because_everything_is_missing(fairlift, study):
    code, said = fairlift("decide", study)
    assert code == cli.NO_GO and "NO-GO" in said and "missing" in said
    assert f"Nothing was run yet. Next: fairlift run {study}" in said


def test_simulate_refuses_what_it_does_not_know(fairlift):
    code, said = fairlift("simulate", "s", "--scenario", "clean-wim")
    assert code == cli.PROBLEM and "clean-win" in said
    assert fairlift("simulate", "s", "--customers", "5")[0] == cli.USAGE


def test_new_makes_a_folder_once(fairlift, tmp_path):
    code, _ = fairlift("new", "mine")
    assert code == cli.DONE and (tmp_path / "mine" / "study.yml").exists()
    text = (tmp_path / "mine" / "study.yml").read_text()
    code, said = fairlift("new", "mine")
    assert code == cli.PROBLEM and "To mend" in said
    assert (tmp_path / "mine" / "study.yml").read_text() == text


def test_a_fault_of_ours_is_one_line_and_a_log_without_data(fairlift, study, tmp_path, monkeypatch):
    def broken(*_):
        raise KeyError("C0000123 secret")

    monkeypatch.setattr(importlib.import_module("fairlift.study.check"), "check", broken)
    code, said = fairlift("check", study)
    log = (tmp_path / "fairlift-fault.log").read_text()
    assert code == cli.FAULT and "KeyError" in said and "fairlift-fault.log" in said
    assert "C0000123" not in log and "test_cli.py" in log


def test_an_interrupt_returns_130(fairlift, study, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("fairlift.study.check"), "check", interrupted)
    code, said = fairlift("check", study)
    assert code == cli.INTERRUPTED and "Interrupted" in said


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.ENOTDIR, "orders.parquet: a file stands where a folder"),
        (errno.EACCES, "orders.parquet may not be read or written"),
    ],
)
def test_a_machine_that_refuses_is_told_in_words(fairlift, study, monkeypatch, code, said):
    def refused(*_):
        raise OSError(code, "refused", "/home/somebody/tables/orders.parquet")

    monkeypatch.setattr(importlib.import_module("fairlift.study.check"), "check", refused)
    found, text = fairlift("check", study)
    assert found == cli.PROBLEM and said in text and "/home/somebody" not in text


def test_the_next_command_can_be_pasted(fairlift, study):
    there = study.parent / "Frühling und Sommer"
    study.rename(there)
    code, said = fairlift("check", there)
    assert code == cli.DONE and f'Next: fairlift run "{there}"' in said


def test_a_file_where_a_folder_is_needed(fairlift, study):
    shutil.rmtree(study / "out", ignore_errors=True)
    (study / "out").write_text("mine")
    for name in ("check", "run", "decide"):
        code, said = fairlift(name, study)
        assert code == cli.PROBLEM and "out: a file stands where a folder is needed" in said
    assert (study / "out").read_text() == "mine"
