"""From a newcomer's CSV to a decision: Hillstrom's e-mail test through the command, against its published answers."""

import shutil

import pytest
import yaml

from fairlift import cli, evidence
from fairlift.checklist import catalogue
from fairlift.launch import NO_GO, decide_study
from fairlift.study import open_study

pytestmark = pytest.mark.real

MEN, WOMEN, NONE = "personalised/Mens E-Mail", "personalised/Womens E-Mail", "holdout"


@pytest.fixture(scope="module")
def study(root, real_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hillstrom") / "hillstrom"
    shutil.copytree(root / "examples" / "hillstrom", folder, ignore=shutil.ignore_patterns("exports", "out"))
    (folder / "exports").mkdir()
    shutil.copy(real_data("hillstrom/hillstrom.csv.gz"), folder / "exports")
    assert cli._run(["check", str(folder)]) == cli.DONE
    assert cli._run(["run", str(folder)]) == cli.DONE
    return folder


@pytest.fixture(scope="module")
def rows(study):
    return {(row.id, row.arm, row.versus): row for row in evidence.read(study / "out" / "evidence")}


@pytest.mark.parametrize(
    ("metric", "arm", "value", "se"),
    [
        ("sales.incremental.revenue", MEN, 0.7698, 0.1452),
        ("sales.incremental.revenue", WOMEN, 0.4244, 0.1303),
        ("sales.incremental.revenue_adjusted", MEN, 0.7675, 0.1452),
        ("sales.incremental.revenue_adjusted", WOMEN, 0.4227, 0.1303),
    ],
)
def test_effects_are_the_published_ones(rows, metric, arm, value, se):
    row = rows[metric, arm, NONE]
    assert (round(row.value, 4), round(row.se, 4)) == (value, se)
    assert (row.design, row.status, row.n) == ("randomised", "exploratory", 42_613 if arm == MEN else 42_693)


def test_lift_and_no_word_on_the_sample_ratio(rows):
    """No plan states the shares, so the sizes of the arms are not judged; with equal ones tests/method holds p .904."""
    lift = rows["sales.incremental.lift", MEN, NONE]
    assert [round(100 * limit, 1) for limit in (lift.value, lift.low, lift.high)] == [117.9, 64.4, 197.7]
    ratio = rows["method.srm.share", "", ""]
    assert (ratio.p, ratio.verdict) == (None, "inconclusive")
    assert "no planned shares are known" in ratio.statement


def test_what_the_tables_cannot_answer_is_not_assessed(study, capsys):
    cli._run(["run", str(study)])
    said = capsys.readouterr().out
    assert "13 done, 0 failed, 2 not assessed" in said
    assert "ethics/fairness" in said and "exposures.personalised" in said


def test_the_decision_is_no_go_because_things_are_missing_and_the_effect_is_shown(study, capsys):
    assert cli._run(["decide", str(study)]) == cli.NO_GO
    said = capsys.readouterr().out
    decision = decide_study(open_study(study))
    assert (decision.decision, decision.kind) == (NO_GO, "missing")
    stops = {reason.item: reason.state for reason in decision.reasons}
    assert stops["sales.benefit.profit"] in ("missing", "not_assessed")
    assert {"method.plan.registered", "law.dpia.signed", "law.basis.documented"} <= set(stops)
    assert "USD 0.77" in said and "NO-GO" in said
    assert stops["method.srm.share"] == "inconclusive"
    assert "method.balance.omnibus" not in stops


def test_no_answer_can_make_it_go(study, tmp_path):
    """With every attestation met and every waiver granted, the missing plan and profit still stop it."""
    copy = shutil.copytree(study, tmp_path / "hillstrom")
    who = {"who": {"name": "A. Name", "function": "DPO"}, "when": "2008-03-10"}
    met = {**who, "status": "met", "evidence": ["https://intranet.example/proof"]}
    waived = {**who, "status": "waived", "reason": "r", "expires_on": "2030-01-01", "compensating_control": "c"}
    answers = {}
    for item in catalogue().assessed:
        if item.verification.rule == "attested":
            answers[item.id] = met
        elif item.waivable and item.verification.rule != "segments":
            answers[item.id] = {**waived, "ramp_cap": 0.1}
    (copy / "answers.yml").write_text(yaml.safe_dump(answers))
    decision = decide_study(open_study(copy))
    assert decision.decision == NO_GO
    stops = {reason.item for reason in decision.reasons}
    assert {"method.plan.registered", "sales.benefit.primary", "sales.benefit.profit"} <= stops
    assert "law.dpia.signed" not in stops
