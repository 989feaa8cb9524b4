"""The `fairlift` command: every step from a folder of tables to a launch decision."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fairlift import __version__
from fairlift.errors import FairliftError, InputError, safe_trace

if TYPE_CHECKING:
    from fairlift.study import Study

DONE, PROBLEM, USAGE, CONDITIONS, NO_GO, FAULT, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

EPILOG = (
    "Exit codes: 0 done or go · 1 a problem in the input · 2 wrong usage · 3 go with conditions · 4 no-go · "
    "5 a fault of Fairlift itself · 130 interrupted."
)

app = typer.Typer(
    name="fairlift",
    help="The launch playbook for retail personalisation: a study goes in, a launch decision comes out.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
)
out, err = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False, soft_wrap=True)

Folder = Annotated[Path, typer.Argument(help="The study's folder.", show_default=False)]


def command(function: Callable) -> Callable:
    """Register a command whose docstring is its help; the indented lines after `Examples:` stay as they are."""
    text = function.__doc__.replace("Examples:\n", "**Examples**\n\n").replace("\n        fairlift", "\n\n`fairlift")
    lines = [line + "`" if line.startswith("`fairlift") else line for line in text.splitlines()]
    app.command(help="\n".join(lines))(function)
    return function


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        out.print(__version__)
        raise typer.Exit(DONE)


@command
def new(
    study: Folder,
    from_csv: Annotated[
        list[Path] | None, typer.Option("--from", help="A CSV file to map; repeat it or list several.")
    ] = None,
    more: Annotated[list[Path] | None, typer.Argument(help="More CSV files after --from.", show_default=False)] = None,
) -> None:
    """Make a commented study folder; with --from, propose how your CSV files map to the contract.

    Examples:
        fairlift new spring-launch
        fairlift new spring-launch --from exports/customers.csv exports/sales.csv
    """
    from fairlift.study.new import new as make

    if more and not from_csv:
        raise typer.BadParameter("Only one folder can be made. To map CSV files write: fairlift new STUDY --from CSV…")
    for line in make(study, (*(from_csv or []), *(more or []))):
        out.print(line)


@command
def simulate(
    study: Folder,
    scenario: Annotated[str, typer.Option(help="A name in data/scenarios/, or a YAML file.")] = "demo",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same retailer.")] = 1,
    customers: Annotated[
        int | None, typer.Option(min=100, help="How many customers; the scenario's number by default.")
    ] = None,
) -> None:
    """Make a synthetic retailer whose true effects are known, with a plan and answers that fit.

    Examples:
        fairlift simulate practice
        fairlift simulate practice --scenario break-even --seed 7 --customers 20000
    """
    from fairlift.simulate import simulate as draw

    truth = draw(study, scenario, seed, customers)
    out.print(f"Simulated {truth['customers']:,} customers of the scenario {truth['scenario']} in {study}.")
    out.print(f"Next: fairlift run {_typed(study)}")


@command
def check(study: Folder) -> None:
    """Check the tables against the contract: every problem at once, nothing written.

    Examples:
        fairlift check spring-launch
    """
    from fairlift.study import open_study, registrations
    from fairlift.study.check import check as look

    opened = open_study(study)
    found = look(opened)
    for warning in found.warnings:
        err.print(f"note: {warning}", markup=False)
    if found.errors:
        raise InputError(found.errors)
    rows = ", ".join(f"{table} {count:,}" for table, count in found.rows.items())
    out.print(f"The tables fit the contract ({rows}).")
    for row in found.set_aside:
        rows = "row" if row.count == 1 else "rows"
        out.print(f"Set aside: {row.count:,} {rows} of {row.table}: {row.reason}.", markup=False)
    first = (
        f"fairlift register {_typed(study)} before the first outcome, then "
        if opened.plan and not registrations(opened.folder)
        else ""
    )
    out.print(f"Next: {first}fairlift run {_typed(study)}")


@command
def plan(study: Folder) -> None:
    """Check plan.yml, size it from the study's past, and write it as a document to sign.

    The past is read from customers and orders before the start; nobody needs to be assigned yet.

    Examples:
        fairlift plan spring-launch
    """
    from fairlift.study import open_study, plan_hash, registrations

    opened = open_study(study)
    if opened.plan is None:
        _refuse(
            "plan.yml",
            "there is no plan",
            "write plan.yml before any outcome is seen; `fairlift new` makes a commented one",
        )
    out.print(opened.plan.summary(), markup=False)
    sized, fault = _size(opened)
    entries = registrations(opened.folder)
    present = next((entry for entry in entries if entry.plan_hash == plan_hash(opened.folder / "plan.yml")), None)
    if present:
        out.print(f"Registered on {present.at}.")
        _late(present.latest_outcome)
    else:
        out.print("This version is not registered." + (" An earlier one is." if entries else ""))
        out.print(
            "Next: "
            + ("" if sized else "mend what keeps it from being sized, then ")
            + f"fairlift register {_typed(study)}"
        )
    if fault is not None:
        raise fault


def _size(opened: Study) -> tuple[bool, InputError | None]:
    """Size the plan and write its document; where the past is missing, the document says so.

    Returns whether the sizes could be computed, and what is wrong in the tables.
    """
    from fairlift.errors import Refusal
    from fairlift.kit.document import plan_document, write_document
    from fairlift.kit.plan import size_plan

    sizing, missing, fault = None, "", None
    try:
        sizing = size_plan(opened)
    except Refusal as refusal:
        missing = str(refusal)
    except InputError as error:
        missing, fault = "`fairlift plan` names what must be mended first.", error
    paths = write_document(plan_document(opened, sizing, missing), opened.out / "plan", "plan")
    if sizing is not None:
        out.print(str(sizing), markup=False)
    elif fault is None:
        err.print(f"Not sized. {missing}", markup=False)
    out.print("Written: " + ", ".join(str(path) for path in paths), markup=False)
    return sizing is not None and not sizing.refusal, fault


@command
def register(study: Folder) -> None:
    """Fix the plan: its hash, the time and the latest outcome present go to registrations.jsonl.

    Examples:
        fairlift register spring-launch
    """
    from fairlift.study import open_study
    from fairlift.study import register as fix
    from fairlift.study.check import latest_outcome

    opened = open_study(study)
    if opened.plan is None:
        _refuse(
            "plan.yml", "there is no plan to register", "write plan.yml first; `fairlift new` makes a commented one"
        )
    entry = fix(opened.folder, opened.plan.experiment, opened.settings.clock(), latest_outcome(opened))
    out.print(f"Registered on {entry.at}: {entry.plan_hash}")
    _late(entry.latest_outcome)
    out.print(
        "Send this hash to somebody outside the team today, or sign a tag with it: then nobody can doubt the date."
    )
    brought = {*opened.settings.tables, *(path.stem for path in (study / "tables").glob("*"))}
    if opened.plan.assignment and "assignments" not in brought:
        out.print(f"Next: fairlift assign {_typed(study)}")


@command
def assign(study: Folder) -> None:
    """Draw the customers into the arms by the plan's salted hash; a draw that is there is verified, never overwritten.

    Examples:
        fairlift assign spring-launch
    """
    from fairlift.kit.assign import assign as draw
    from fairlift.study import open_study

    found = draw(open_study(study))
    out.print(str(found), markup=False)
    if found.differing:
        raise typer.Exit(PROBLEM)


def _late(latest_outcome: str | None) -> None:
    if latest_outcome:
        out.print(
            f"Outcomes up to {latest_outcome} were already there: this test counts as exploratory, a hint and no proof. "
            "Plan the next test now, and register it before it starts."
        )


class Status(StrEnum):
    """How a checklist item may stand."""

    open = "open"
    in_progress = "in_progress"
    met = "met"
    not_met = "not_met"
    not_applicable = "not_applicable"
    waived = "waived"


@command
def answer(
    study: Folder,
    item: Annotated[str, typer.Argument(help="The checklist item.", show_default=False)],
    status: Annotated[Status, typer.Argument(help="How it stands.", show_default=False)],
    who: Annotated[str, typer.Option(help="Your name.", show_default=False)],
    function: Annotated[str, typer.Option(help="Your function, such as DPO.", show_default=False)],
    evidence: Annotated[list[str] | None, typer.Option(help="Where the proof is; repeat it for several.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why, for not applicable or waived.")] = None,
    approver: Annotated[str | None, typer.Option(help="Who approved it.")] = None,
    expires: Annotated[str | None, typer.Option(help="Until when it holds, as 2026-12-31.")] = None,
    control: Annotated[str | None, typer.Option(help="What protects customers meanwhile, for a waiver.")] = None,
    ramp_cap: Annotated[
        float | None, typer.Option(min=0, max=1, help="Largest share of customers, for a waiver.")
    ] = None,
) -> None:
    """Answer one checklist item; the answer is added to the log and nothing is overwritten.

    Examples:
        fairlift answer spring-launch law.dpia.signed met --who "A. Name" --function DPO --evidence https://intranet/dpia.pdf
    """
    from fairlift.checklist import answer as note
    from fairlift.study import open_study

    opened = open_study(study)
    details = {
        "reason": reason,
        "approver": approver,
        "expires_on": expires,
        "compensating_control": control,
        "ramp_cap": ramp_cap,
    }
    given = {name: value for name, value in details.items() if value is not None}
    at = opened.settings.clock()
    note(opened.folder, item, status.value, name=who, function=function, when=at, evidence=evidence or [], **given)
    out.print(f"Noted: {item} is {status.value.replace('_', ' ')}.")


@command
def run(
    study: Folder,
    jobs: Annotated[int, typer.Option(min=1, help="How many notebooks at a time.")] = 2,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run everything again, not only what changed.")] = False,
) -> None:
    """Check and prepare the tables, run every notebook that they allow, and keep the evidence.

    Examples:
        fairlift run spring-launch
        fairlift run spring-launch --jobs 4 --fresh
    """
    from fairlift.book import run as execute

    manifest = execute(study, jobs=jobs, fresh=fresh)
    for line in manifest.summary():
        out.print(line, markup=False)
    if manifest.failed:
        raise typer.Exit(manifest.exit_code)
    out.print(f"Next: fairlift decide {_typed(study)}, or fairlift book {_typed(study)}")


@command
def decide(
    study: Folder,
    sign: Annotated[bool, typer.Option("--sign", help="Sign the decision; needs --who and --function.")] = False,
    who: Annotated[str | None, typer.Option(help="Your name.")] = None,
    function: Annotated[str | None, typer.Option(help="Your function.")] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Show every checklist item, not only what stands in the way.")
    ] = False,
) -> None:
    """Decide from the evidence and the answers: go, go with conditions, or no-go, with reasons.

    Examples:
        fairlift decide spring-launch
        fairlift decide spring-launch --sign --who "A. Name" --function "Product owner"
    """
    from fairlift.checklist import ingest
    from fairlift.launch import decide_study, page_one, sign_record
    from fairlift.study import open_study

    if sign and not (who and function):
        raise typer.BadParameter("--sign needs --who and --function.")
    opened = open_study(study)
    ingest(opened.folder)
    decision = decide_study(opened)
    out.print(page_one(opened, decision).text(), markup=False)
    if full:
        out.print(str(decision), markup=False)
    if not (opened.out / "manifest.json").exists():
        err.print(f"Nothing was run yet. Next: fairlift run {_typed(study)}", markup=False)
    if sign:
        out.print(f"Signed: {sign_record(opened, name=who, function=function)}", markup=False)
    raise typer.Exit({"GO": DONE, "GO WITH CONDITIONS": CONDITIONS, "NO-GO": NO_GO}[decision.decision])


@command
def book(
    study: Annotated[
        Path | None, typer.Argument(help="A study's folder; without it, the published book.", show_default=False)
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="How many notebooks at a time.")] = 2,
    keep: Annotated[
        bool, typer.Option("--keep", help="For contributors: run the demo and write its key results into notebooks/.")
    ] = False,
) -> None:
    """Build the published book from the demo, or the report of a study; prints where it is.

    Examples:
        fairlift book
        fairlift book spring-launch
        fairlift book --keep
    """
    from fairlift.book import build_book, build_report, keep_results

    if keep and study:
        raise typer.BadParameter("--keep is for the notebooks of the book itself, which run on the demo.")
    if keep:
        for path in keep_results(jobs=jobs):
            out.print(f"Kept: {path}", markup=False)
        return
    out.print(str(build_report(study, jobs=jobs) if study else build_book(jobs=jobs)), markup=False)


def _typed(study: Path) -> str:
    """The folder as a shell takes it: in quotes where it holds a blank or a sign of the shell's own."""
    return str(study) if re.fullmatch(r"[\w./\\:~+-]+", str(study)) else f'"{study}"'


def _refuse(where: str, found: str, mend: str) -> None:
    from fairlift.errors import Problem

    raise InputError(Problem(where, found, mend))


def main() -> None:
    """Run the command; whatever happens, the reader sees text and a documented exit code."""
    sys.exit(_run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    try:
        code = app(arguments, standalone_mode=False) or DONE
        if code == INTERRUPTED:
            err.print("Interrupted. What was finished is kept; the same command goes on from there.")
        return code
    except InputError as error:
        count = len(error.problems)
        err.print(f"{count} problem{'s' if count > 1 else ''}:")
        for problem in error.problems:
            err.print(f"  - {problem}", markup=False)
        return error.exit_code
    except FairliftError as error:
        err.print(str(error), markup=False)
        return error.exit_code
    except typer.TyperException as error:
        error.show()
        return USAGE
    except Exception as error:  # the one place where a fault of ours becomes a message
        said = _of_the_machine(error) if isinstance(error, OSError) else None
        err.print(said or _fault(error), markup=False)
        return PROBLEM if said else FAULT


def _of_the_machine(error: OSError) -> str | None:
    """What to do about a disk that is full or may not be written; None where the fault is ours."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "There is no space left on the disk. To mend: make room and give the same command again."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        name = Path(error.filename).name if isinstance(error.filename, str) else "a file"
        return f"{name} may not be read or written. To mend: change its rights, or use another folder."
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        name = Path(error.filename).name if isinstance(error.filename, str) else "something"
        return f"{name}: a file stands where a folder is needed. To mend: move it away, or use another folder."
    return None


def _fault(error: Exception) -> str:
    """Leave a log that holds no data; returns what to tell the reader."""
    log = Path("fairlift-fault.log")
    try:
        log.write_text(safe_trace(error), encoding="utf-8")
    except OSError:
        return f"A fault of Fairlift itself.\n{safe_trace(error)}"
    return f"A fault of Fairlift itself ({type(error).__name__}). Please report it with {log}, which holds no data."
