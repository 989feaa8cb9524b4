"""Does the gate decide rightly?  Every scenario is drawn many times, and each draw goes through evidence and gate.

Writes benchmarks/results/decisions.json: per scenario its truth, the number of seeds, how often the gate said go, conditions
and no_go, and how often a NO-GO named a reason that the scenario allows.  A wrong GO is GO or CONDITIONS where the truth is
no_go.  The whole run takes about half an hour on two cores; `--seeds 20` gives a first look.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path

from record import write_results

from fairlift.checklist.answers import Entry, fold, read_file
from fairlift.checklist.items import catalogue
from fairlift.ethics.fairness import fairness_evidence
from fairlift.evidence import Evidence
from fairlift.kit.plan import planned_evidence, size_plan
from fairlift.launch import CONDITIONS, GO, NO_GO, Decision, Manifest, decide
from fairlift.method.contamination import contamination_evidence
from fairlift.method.validity import validity_evidence
from fairlift.risk.complaints import complaints_evidence
from fairlift.sales.incremental import incremental_evidence
from fairlift.simulate import Scenario, draw_units, read_scenario, scenarios, simulate
from fairlift.simulate.write import answers_yaml, plan_yaml, study_yaml
from fairlift.study import Standing, Study, open_study
from fairlift.study.quality import quality_evidence

WORDS = {GO: "go", CONDITIONS: "conditions", NO_GO: "no_go"}
SEEDS = {"break-even": 2000}
STANDARD = 200


checklist = cache(catalogue)


@cache
def prepared(name: str) -> tuple[Scenario, Study, dict]:
    """A scenario with its settings, plan and answers, read as a study's files are."""
    scenario = read_scenario(name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "study.yml").write_text(study_yaml(scenario, scenario.customers))
        (path / "plan.yml").write_text(plan_yaml(scenario, scenario.customers))
        (path / "answers.yml").write_text(answers_yaml(scenario))
        study = open_study(path)
        entries = [Entry(item, given, "answers.yml", "") for item, given in read_file(path).items()]
    return scenario, study, fold(entries, checklist(), study.settings.clock())


@cache
def planned(name: str) -> list[Evidence]:
    """The size of the scenario's plan, computed once from a past of its customers, as before the experiment."""
    with tempfile.TemporaryDirectory() as folder:
        simulate(Path(folder), name, seed=0)
        return planned_evidence(size_plan(open_study(folder)))


def evidence_of(study: Study, units) -> list[Evidence]:
    """What the notebooks would leave."""
    settings = study.settings
    covariates = [name for name in units if name.startswith("pre_")]
    window = settings.outcome_window_days
    return [
        *quality_evidence(study),
        *validity_evidence(units, study.plan.weights, covariates, study.contrasts, window, study.stages),
        *incremental_evidence(study),
        *complaints_evidence(study),
        *fairness_evidence(study.units, settings.protected, window, look=study.looks.get(study.contrasts[0])),
        *contamination_evidence(study.units, window),
    ]


def one(name: str, seed: int) -> tuple[str, bool]:
    """The decision on one draw, and whether a reason that the scenario allows is among its reasons."""
    decision = decision_on(name, seed)
    allowed = set(prepared(name)[0].truth.reasons)
    return WORDS[decision.decision], bool(allowed & {reason.item for reason in decision.reasons})


def decision_on(name: str, seed: int) -> Decision:
    """The gate's decision on one draw of a scenario; its plan counts as registered before the outcomes."""
    scenario, template, answers = prepared(name)
    units = draw_units(scenario, seed)
    standing = Standing("registered", "registered by the simulation")
    study = Study.in_memory(template.settings, template.plan, units, standing, scenario.customers)
    rows = [_registered(row) for row in (*evidence_of(study, units), *planned(name))]
    clock = study.settings.clock()
    return decide(
        checklist(), rows, answers, study.settings, study.plan, standing, clock=clock, manifest=Manifest.of(rows, clock)
    )


def _registered(row: Evidence) -> Evidence:
    from dataclasses import replace

    return replace(row, status="registered") if row.design == "randomised" else row


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, help="how many for every scenario")
    options.add_argument("--scenario", action="append", help="only these")
    options.add_argument("--jobs", type=int, default=2)
    chosen = options.parse_args()
    rows = []
    with ProcessPoolExecutor(chosen.jobs) as pool:
        for name in chosen.scenario or [name for name in scenarios() if name != "demo"]:
            seeds = chosen.seeds or SEEDS.get(name, STANDARD)
            found = list(pool.map(partial(one, name), range(1, seeds + 1), chunksize=5))
            said = Counter(word for word, _ in found)
            right = sum(hit for word, hit in found if word == "no_go")
            truth = read_scenario(name).truth.decision
            rows.append(
                {
                    "scenario": name,
                    "truth": truth,
                    "seeds": seeds,
                    "go": said["go"],
                    "conditions": said["conditions"],
                    "no_go": said["no_go"],
                    "right_reason": right,
                    "wrong": said["go"] + said["conditions"] if truth == "no_go" else said["no_go"],
                }
            )
            print(rows[-1], flush=True)
    if not chosen.seeds and not chosen.scenario:
        write_results("decisions", rows)


if __name__ == "__main__":
    main()
