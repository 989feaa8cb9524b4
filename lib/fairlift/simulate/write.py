"""Write a synthetic study: tables, the YAML that fits them, the plan's registration, and the truth."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from fairlift.errors import InputError, Problem
from fairlift.simulate.calendar import calendar
from fairlift.simulate.chunk import chunks
from fairlift.simulate.scenario import ARMS, VARIANTS, Scenario, read_scenario
from fairlift.simulate.tables import chunk_tables, experiment, whole_tables
from fairlift.simulate.truth import Tally, costs_of, effects, leaked_share, lost_share, population
from fairlift.study.clock import moment
from fairlift.study.contract import contract
from fairlift.study.files import read_model
from fairlift.study.plan import register
from fairlift.study.settings import Settings

# what git should not hold of a synthetic study; the file leaves itself out too
IGNORED = "# Everything here can be simulated again.\n.gitignore\ntables/\nout/\ntruth.json\nregistrations.jsonl\n"
# what a kept study.yml may not change, because the tables are made for it
FIXED = ("experiment", "arms", "outcome_window_days", "pre_period_days", "timezone", "as_of")

NOTES = {
    "markets": "Markets choose the duties that apply.",
    "arms": "Which variants of the assignments belong to which arm.",
    "period": "First night of assignment, and the day the last outcome window closes. Days and weeks are local, times in tables UTC.",
    "costs": "What personalisation costs. `per` is a year, a customer_year, an exposure, or once (spread over `years`).",
    "protected": "Attributes by which fairness is measured; never shown one by one.",
    "caps": "Messages a customer may get in a week.",
    "context": "What is not true here lifts the duties that hang on it; what is left out counts as true.",
    "primary": "The one metric the benefit is judged by, and the arms it compares.",
    "weights": "The share of customers drawn into each arm, and how many complete ones the plan waits for.",
    "stages": "The ramp: from each day on, these shares; the last are the weights above, and the holdout's never changes.",
    "guardrails": "What must not get worse by more than `margin`, in the metric's own unit.",
    "decision_rule": "What follows from which result.",
}


def simulate(folder: str | Path, scenario: str | Path = "demo", seed: int = 1, customers: int | None = None) -> dict:
    """Make a synthetic study in `folder` and return its truth, which also stands in truth.json.

    Writes every table of the contract to tables/, and study.yml, plan.yml and answers.yml where they do not exist; YAML that is
    there is kept, and the truth uses its costs.  The plan is registered a week before the first assignment, by the simulated
    clock.  The same scenario, seed and number of customers give the same tables to the byte.  Raises `InputError` for a
    scenario that is not sound, and for a kept study.yml that the tables would not fit.

    >>> import tempfile
    >>> truth = simulate(Path(tempfile.mkdtemp()) / "study", "clean-win", customers=300)
    >>> truth["decision"], truth["population"]["sales.incremental.revenue@all:personalised-vs-holdout"] > 0
    ('go', True)
    """
    folder, s = Path(folder), read_scenario(scenario)
    customers = s.customers if customers is None else customers
    problems = [
        Problem(name, f"{name} is {value}", f"give a whole number, {least} or more")
        for name, value, least in (("customers", customers, 1), ("seed", seed, 0))
        if value < least
    ]
    if problems:
        raise InputError(problems)
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    settings = _settings(folder, s, customers)
    _keep(folder / "plan.yml", plan_yaml(s, customers))
    _keep(folder / "answers.yml", answers_yaml(s))
    _keep(folder / ".gitignore", IGNORED)
    tally = _write_tables(folder / "tables", s, seed, customers, settings)
    register(folder, settings.experiment, moment(s.start, s.timezone) - timedelta(days=7), None)
    truth = {
        "scenario": s.name,
        "seed": seed,
        "customers": customers,
        "decision": s.truth.decision,
        "reasons": s.truth.reasons,
    }
    rollout = settings.rollout_customers or customers
    for name, means in (("population", population(s)), ("sample", tally.means())):
        truth[name] = effects(means, settings.costs or [], s.window_days, rollout, settings.protected)
        truth[name] |= lost_share(s) | leaked_share(s)
    _replace(folder / "truth.json", json.dumps(truth, indent=1, allow_nan=False) + "\n")
    return truth


def _write_tables(folder: Path, s: Scenario, seed: int, customers: int, settings: Settings) -> Tally:
    """Write every table beside the old ones, and put them in place when all are whole."""
    tally, writers = Tally(s), {}
    drafts = {name: folder / f"{name}.parquet.part" for name in contract()}
    try:
        try:
            for chunk in chunks(s, seed, customers):
                tally.add(chunk)
                for name, table in chunk_tables(s, seed, chunk).items():
                    if name not in writers:
                        # without the Arrow schema, readers see plain text where the writer had a dictionary
                        options = {"use_dictionary": _few(table), "store_schema": False, "compression": "snappy"}
                        writers[name] = pq.ParquetWriter(drafts[name], table.schema, **options)
                    writers[name].write_table(table)
        finally:
            for writer in writers.values():
                writer.close()
        for name, table in whole_tables(s, seed, calendar(s), settings.costs or [], customers).items():
            pq.write_table(table, drafts[name], store_schema=False)
        for name, draft in drafts.items():
            (folder / f"{name}.csv").unlink(missing_ok=True)
            os.replace(draft, folder / f"{name}.parquet")
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
    return tally


def _few(table: pa.Table) -> list[str]:
    """The columns of few values, which Parquet writes as a dictionary."""
    return [column.name for column in table.schema if pa.types.is_dictionary(column.type)]


def _settings(folder: Path, s: Scenario, customers: int) -> Settings:
    """The study's settings: those that stand, if the tables fit them, else those of the scenario."""
    made = Settings.model_validate(study_dict(s, customers))
    _keep(folder / "study.yml", study_yaml(s, customers))
    found = read_model(folder / "study.yml", Settings)
    wrong = [name for name in FIXED if getattr(found, name) != getattr(made, name)]
    if wrong:
        mend = "simulate into another folder, or delete that study.yml to have it written"
        raise InputError([Problem("study.yml", f"`{name}` does not fit the scenario {s.name}", mend) for name in wrong])
    return found


def study_dict(s: Scenario, customers: int) -> dict:
    """What study.yml states for a scenario."""
    made = {
        "retailer": "Practice retailer (synthetic)",
        "markets": ["EU"],
        "experiment": experiment(s),
        "arms": {arm: [VARIANTS[arm]] for arm in ARMS},
        "period": {"start": s.start, "end": s.ends},
        "outcome_window_days": s.window_days,
        "pre_period_days": 7 * s.pre_weeks,
        "timezone": s.timezone,
        "as_of": s.as_of,
        "costs": [cost.model_dump(exclude_defaults=True) for cost in costs_of(s, customers)],
    }
    return made | s.study


def study_yaml(s: Scenario, customers: int) -> str:
    """study.yml of a scenario, as text."""
    return _yaml("# A synthetic study: nobody in it exists.", study_dict(s, customers))


def plan_yaml(s: Scenario, customers: int) -> str:
    """plan.yml of a scenario, as text: planned sizes leave room for customers who may not be personalised."""
    shares = s.mean_weights
    planned = {arm: max(1, int(customers * s.offers.eligible * shares[arm] * s.planned_share)) for arm in ARMS}
    made = {
        "experiment": experiment(s),
        "hypothesis": "Personal offers raise revenue per customer, against no offers at all.",
        "primary": {"metric": "sales.incremental.revenue", "contrast": "against holdout"},
        "contrasts": {
            "against holdout": {"arm": "personalised", "versus": "holdout"},
            "against bestsellers": {"arm": "personalised", "versus": "control"},
            "bestsellers alone": {"arm": "control", "versus": "holdout"},
        },
        "profit_contrast": "against holdout",
        "weights": {arm: s.weights[arm] for arm in ARMS},
        **({"stages": _stages(s)} if s.ramp else {}),
        "planned_n": planned,
        "ends_at": s.ends,
        "alpha": 0.05,
        "power": 0.9,
        "decision_rule": "Launch if revenue and net profit per customer rise and no guardrail is crossed.",
    }
    return _yaml(
        "# What was decided before any outcome was seen. It is registered by its hash: a change counts as an amendment.",
        made | s.plan,
    )


def _stages(s: Scenario) -> list[dict]:
    """The stages of the ramp as the plan states them."""
    return [
        {"from": s.start + timedelta(days=stage.from_day), "weights": {arm: stage.weights[arm] for arm in ARMS}}
        for stage in s.ramp
    ]


def answers_yaml(s: Scenario) -> str:
    """answers.yml of a scenario, as text."""
    return _yaml(
        "# What people vouch for, item by item. Change it freely: every change is logged under answers/.", s.answers
    )


def _yaml(comment: str, content: dict) -> str:
    """The content as YAML, with a comment at the top and one before each part that needs a word."""
    text = comment + "\n"
    for key, value in content.items():
        text += f"\n# {NOTES[key]}\n" if key in NOTES else ""
        text += yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=110)
    return text


def _keep(path: Path, text: str) -> None:
    if not path.exists():
        _replace(path, text)


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(path.name + ".part")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
