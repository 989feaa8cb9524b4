from datetime import UTC, datetime

import pytest

from fairlift.errors import InputError
from fairlift.study.files import read_model
from fairlift.study.folder import open_study
from fairlift.study.plan import REGISTER, Plan, register, registrations, standing

PLAN = """\
experiment: launch
hypothesis: Personal offers raise revenue.
contrasts:
  launch: {arm: personalised, versus: holdout}
primary: {metric: sales.incremental.revenue, contrast: launch}
profit_contrast: launch
guardrails:
  - {metric: risk.complaints.rate, contrast: launch, margin: 0.002}
weights: {personalised: 0.8, holdout: 0.2}
planned_n: {personalised: 800, holdout: 200}
ends_at: 2026-03-01
decision_rule: Launch if revenue and net profit rise and no guardrail is crossed.
"""
RULE = "decision_rule: Launch"
STUDY = """\
retailer: Shop
markets: [EU]
experiment: launch
arms: {personalised: [model], holdout: [none]}
period: {start: 2026-01-05, end: 2026-03-01}
outcome_window_days: 28
"""


def day(number):
    return datetime(2026, 1, number, tzinfo=UTC)


@pytest.fixture
def study(tmp_path):
    (tmp_path / "plan.yml").write_text(PLAN)
    (tmp_path / "study.yml").write_text(STUDY)
    return tmp_path


def test_a_plan_registered_before_the_first_outcome_stands(study):
    before = (study / "plan.yml").read_bytes()
    register(study, "launch", day(1), None)
    assert (study / "plan.yml").read_bytes() == before
    assert standing(study, day(2)).status == "registered"
    assert standing(study, None).status == "registered"


@pytest.mark.parametrize("first", [1, 2])
def test_a_plan_registered_at_or_after_the_first_outcome_is_exploratory(study, first):
    register(study, "launch", day(2), day(1))
    assert standing(study, day(first)).status == "exploratory"


def test_a_clock_set_back_does_not_make_a_late_plan_stand(study):
    register(study, "launch", day(1), day(8))
    found = standing(study, day(5))
    assert found.status == "exploratory"
    assert found.reason == "The plan was registered when outcomes up to 2026-01-08T00:00:00Z were already there."


def test_registering_again_adds_nothing(study):
    first = register(study, "launch", day(1), None)
    assert register(study, "launch", day(9), day(8)) == first
    assert len(registrations(study)) == 1


def test_one_changed_letter_after_registration_shows(study):
    register(study, "launch", day(1), None)
    (study / "plan.yml").write_text(PLAN.replace("margin: 0.002", "margin: 0.02"))
    found = standing(study, day(5))
    assert (found.status, found.reason) == ("exploratory", "The plan was changed after it was registered.")
    register(study, "launch", day(6), day(5))  # an amendment after outcomes: dated, kept, and still exploratory
    found = standing(study, day(5))
    assert (found.status, found.amendments, found.first.at) == ("exploratory", 1, "2026-01-01T00:00:00Z")


def test_no_plan_and_no_register(study):
    assert standing(study, None).status == "exploratory"
    (study / "plan.yml").unlink()
    assert standing(study, None).status == "no_plan"


def test_a_damaged_register_is_refused(study):
    (study / REGISTER).write_text("{}\nnot json\n")
    with pytest.raises(InputError, match=r"registrations\.jsonl: line 1 is not a registration"):
        registrations(study)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("contrast: launch, margin", "contrast: lunch, margin", "contrast lunch is not among `contrasts`"),
        ("profit_contrast: launch", "profit_contrast: other", "contrast other is not among"),
        (
            "planned_n: {personalised: 800, holdout: 200}",
            "planned_n: {personalised: 800}",
            "`planned_n` says nothing of the arm holdout",
        ),
        ("margin: 0.002", "margin: -1", "greater than 0"),
        ("ends_at: 2026-03-01\n", "ends_at: soon\n", "`ends_at`, line 11"),
        ("hypothesis", "hypotesis", "did you mean `hypothesis`?"),
        (RULE, "looks: [daily]\n" + RULE, "'daily' is no look; write days such as 2026-07-20"),
        (RULE, "looks: 2026-02-01\n" + RULE, "is no look"),
        (RULE, "looks: []\n" + RULE, "the last of the `looks` must be `end`"),
        (RULE, "looks: [2026-02-01]\n" + RULE, "the last of the `looks` must be `end`"),
        (RULE, "looks: [end, end]\n" + RULE, "the last of the `looks` must be `end`, and only the last"),
        (RULE, "looks: [always, end]\n" + RULE, "`looks: [always]` stands alone"),
        (RULE, "looks: [2026-02-15, 2026-02-01, end]\n" + RULE, "must follow each other"),
        (RULE, "looks: [2026-03-01, end]\n" + RULE, "lie before `ends_at`"),
        (RULE, "spending: pocock\n" + RULE, "`spending` belongs to looks on days before the end"),
        (RULE, "looks: [2026-02-01, end]\nspending: even\n" + RULE, "obrien_fleming"),
        (RULE, "burn_in: 400\n" + RULE, "`burn_in` belongs to `looks: [always]`"),
        (RULE, "looks: [always, end]\n" + RULE, "plan.yml: line 12: `looks: [always]`"),
        (RULE, "looks: [2026-02-15, 2026-02-01, end]\n" + RULE, "2026-02-15, 2026-02-01, must follow each other"),
        ("contrast: launch, margin", "contrast: launch, mde: 1, margin", "unknown key"),
        ("margin: 0.002", "margin: -1", "it is -1, and it should be greater than 0"),
        ("margin: 0.002", "margin: .inf", "it is no finite number"),
        ("versus: holdout", "versus: personalised", "it compares the arm personalised with itself"),
        ("ends_at: 2026-03-01\n", "ends_at: 31.03.2026\n", "it is no date. To mend: write it as 2026-03-29"),
        (RULE, "kpis: sales.value.order\n" + RULE, "it is no list"),
        (RULE, "assignment: {salt: 2026}\n" + RULE, "a number that is meant as a word stands in quotes"),
        (RULE, "assignment: {salt: ''}\n" + RULE, "it is empty"),
        (RULE, "assignment: {salt: a/b}\n" + RULE, "it holds `/`"),
        (RULE, "assignment: {salt: a, holdout: {share: 0.1, salt: b}}\n" + RULE, "give both the same share"),
        (RULE, "assignment: {salt: a, holdout: {share: 0.2, salt: a}}\n" + RULE, "has the experiment's salt"),
    ],
)
def test_plans_that_contradict_themselves(study, old, new, said):
    (study / "plan.yml").write_text(PLAN.replace(old, new))
    with pytest.raises(InputError) as caught:
        read_model(study / "plan.yml", Plan)
    assert any(said in str(problem) for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("looks", "validity", "said"),
    [
        ("", "end", "read once, at the end"),
        ("looks: [end]\n", "end", "read once, at the end"),
        (
            "looks: [2026-02-01, 2026-02-15, end]\n",
            "look",
            "on 2026-02-01, 2026-02-15 and at the end, and on no other day",
        ),
        ("looks: [2026-02-01, end]\nspending: pocock\n", "look", "alpha is spread as by Pocock"),
        ("looks: [always]\n", "always", "on any day, by a confidence sequence"),
        ("looks: [always]\nburn_in: 400\n", "always", "from 400 customers in the smaller arm on"),
    ],
)
def test_a_plan_says_when_results_are_read(study, looks, validity, said):
    (study / "plan.yml").write_text(PLAN.replace(RULE, looks + RULE))
    plan = read_model(study / "plan.yml", Plan)
    assert plan.validity == validity
    assert said in plan.summary()
    assert ("No look" in plan.stopping_rule) == (validity == "end")


def test_a_plan_names_no_arm_that_the_study_lacks(study):
    (study / "plan.yml").write_text(PLAN.replace("weights: {", "weights: {absent: 0.3, "))
    with pytest.raises(InputError, match=r"plan.yml: `weights` names the arm absent. To mend: remove it"):
        open_study(study)


def test_study_and_plan_must_agree_and_faults_of_both_come_together(study):
    (study / "plan.yml").write_text(
        PLAN.replace("experiment: launch", "experiment: lunch")
        .replace("versus: holdout", "versus: control")
        .replace("holdout: ", "control: ")
    )
    with pytest.raises(InputError) as caught:
        open_study(study)
    text = str(caught.value)
    assert "it plans `lunch`, study.yml runs `launch`" in text and "names the arm control" in text
    (study / "study.yml").write_text(STUDY.replace("retailer", "retialer"))
    (study / "plan.yml").write_text(PLAN.replace("alpha", "alfa").replace("margin: 0.002", "margin: 0"))
    with pytest.raises(InputError) as caught:
        open_study(study)
    assert {problem.where for problem in caught.value.problems} == {"study.yml", "plan.yml"}


def test_targets_come_from_the_plan(study):
    opened = open_study(study)
    target = opened.targets["risk.complaints.rate", "personalised", "holdout"]
    assert (target.role, target.margin, target.limit, target.planned_n) == ("guardrail", 0.002, 0.004, 1000)
    assert opened.targets["sales.incremental.revenue", "personalised", "holdout"].role == "primary"
    assert opened.contrasts == [("personalised", "holdout")]


RAMP = """\
stages:
  - {from: 2026-01-05, weights: {personalised: 0.2, control: 0.6, holdout: 0.2}}
  - {from: 2026-01-19, weights: {personalised: 0.7, control: 0.1, holdout: 0.2}}
"""
RAMPED = PLAN.replace(
    "weights: {personalised: 0.8, holdout: 0.2}", "weights: {personalised: 0.7, control: 0.1, holdout: 0.2}"
)


def test_a_ramp_is_read_in_stages(study):
    (study / "plan.yml").write_text(RAMPED + RAMP)
    (study / "study.yml").write_text(STUDY.replace("holdout: [none]", "holdout: [none], control: [best]"))
    stages = open_study(study).stages
    assert [str(stage.start) for stage in stages] == ["2026-01-05", "2026-01-19"]
    assert "stage and week of entry" in open_study(study).plan.summary()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("2026-01-19", "2026-01-05", "follow each other"),
        ("2026-01-19", "2026-04-05", "before `ends_at`"),
        ("control: 0.6, holdout: 0.2", "control: 0.5, holdout: 0.3", "holdout's share changes"),
        ("control: 0.6, ", "", "other arms"),
        ("personalised: 0.7, control: 0.1", "personalised: 0.6, control: 0.2", "those of the last"),
        ("2026-01-05", "2026-01-12", "begins on 2026-01-12, the experiment on 2026-01-05"),
    ],
)
def test_a_ramp_that_cannot_be_read_is_refused(study, old, new, said):
    (study / "plan.yml").write_text(RAMPED + RAMP.replace(old, new))
    (study / "study.yml").write_text(STUDY.replace("holdout: [none]", "holdout: [none], control: [best]"))
    with pytest.raises(InputError, match=said):
        open_study(study)


def test_without_a_ramp_there_are_no_stages(study):
    assert open_study(study).stages == []
