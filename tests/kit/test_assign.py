"""`assign` draws by the plan alone, leaves out who did not agree, and counts whoever is elsewhere than the hash says."""

from datetime import date

import numpy as np
import pandas as pd
import pytest
import yaml

from fairlift.errors import InputError
from fairlift.kit.assign import assign
from fairlift.method.assignment import HELD, Holdout, arm_of, hold_out
from fairlift.study import open_study
from fairlift.study.check import check

SETTINGS = {
    "retailer": "Corner shop",
    "markets": ["DE"],
    "experiment": "spring",
    "arms": {"personalised": ["ranker"], "control": ["bestsellers"], "holdout": ["none"]},
    "period": {"start": date(2026, 3, 1), "end": date(2026, 6, 30)},
    "outcome_window_days": 28,
    "timezone": "Europe/Berlin",
    "as_of": date(2026, 3, 2),
}
PLAN = {
    "experiment": "spring",
    "hypothesis": "Offers sell.",
    "primary": {"metric": "sales.incremental.revenue", "contrast": "worth"},
    "contrasts": {
        "worth": {"arm": "personalised", "versus": "holdout"},
        "model": {"arm": "personalised", "versus": "control"},
    },
    "profit_contrast": "worth",
    "weights": {"personalised": 0.5, "control": 0.3, "holdout": 0.2},
    "planned_n": {"personalised": 1000, "control": 600, "holdout": 400},
    "ends_at": date(2026, 6, 30),
    "decision_rule": "Launch if GO.",
}
HOW = {"salt": "spring-1", "holdout": {"share": 0.2, "salt": "held-2026"}}
BEFORE, AFTER = pd.Timestamp("2026-01-01", tz="UTC"), pd.Timestamp("2026-03-20", tz="UTC")


def customers(n=4000):
    draws = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "customer_id": [f"C{place:06d}" for place in range(n)],
            "household_id": [None if place % 10 == 0 else f"H{place // 3}" for place in range(n)],
            "store_id": draws.choice([f"S{place}" for place in range(40)], n),
            "region": draws.choice(["north", "south", None], n, p=[0.5, 0.4, 0.1]),
            "loyalty_member": draws.random(n) < 0.5,
            "pre_spend": draws.gamma(2, 20, n),
        }
    )


def choices(people: pd.DataFrame) -> pd.DataFrame:
    """Every fifth never agreed, every seventh withdrew before, every eleventh will withdraw after the draw."""
    place = np.arange(len(people))
    rows = [people.loc[place % 5 > 0, ["customer_id"]].assign(given=True, recorded_at=BEFORE)]
    rows.append(people.loc[place % 7 == 0, ["customer_id"]].assign(given=False, recorded_at=BEFORE))
    found = pd.concat(rows, ignore_index=True).assign(purpose="personalisation")
    other = people[["customer_id"]].assign(given=True, recorded_at=BEFORE, purpose="email")
    found = pd.concat([found, other], ignore_index=True)
    return found.assign(consent_id=[f"A{place}" for place in range(len(found))])


@pytest.fixture
def study_of(tmp_path):
    """`study_of(how, **tables)` writes a study with this `assignment` in its plan and opens it."""

    def make(how=None, plan=None, settings=None, **tables):
        folder = tmp_path / "spring"
        (folder / "tables").mkdir(parents=True, exist_ok=True)
        (folder / "study.yml").write_text(yaml.safe_dump(SETTINGS | (settings or {})), encoding="utf-8")
        whole = PLAN | (plan or {}) | ({"assignment": how} if how else {})
        (folder / "plan.yml").write_text(yaml.safe_dump(whole), encoding="utf-8")
        for name, frame in ({"customers": customers()} | tables).items():
            frame.to_parquet(folder / "tables" / f"{name}.parquet")
        return open_study(folder)

    return make


def written(study) -> pd.DataFrame:
    return pd.read_parquet(study.out / "assignments.parquet")


def test_the_draw_follows_from_the_plan_alone(study_of):
    study = study_of(HOW)
    found = assign(study)
    rows = written(study).set_index("customer_id")
    arms = {"ranker": 0.5, "bestsellers": 0.3}
    for one in customers()["customer_id"].head(300):
        arm = arm_of(one, arms, salt="spring-1", namespace="spring", holdout=Holdout(0.2, "held-2026"))
        assert rows.loc[one, "variant"] == {HELD: "none"}.get(arm, arm)
    assert found.counts == {
        "personalised": (rows["variant"] == "ranker").sum(),
        "control": (rows["variant"] == "bestsellers").sum(),
        "holdout": (rows["variant"] == "none").sum(),
    }
    assert sum(found.counts.values()) == 4000 and found.without_consent is None
    assert not found.ratio.failed and {one.versus for one in found.balances} == {"holdout", "control"}
    assert (rows["assigned_at"] == pd.Timestamp("2026-03-02 22:59:59", tz="UTC")).all()


def test_the_holdout_is_the_one_of_every_other_experiment(study_of):
    study = study_of(HOW)
    assign(study)
    rows = written(study).set_index("customer_id")
    held = hold_out(customers(), "customer_id", Holdout(0.2, "held-2026")).set_index("customer_id")["holdout"]
    assert (rows["variant"] == "none").equals(held[rows.index])


def test_it_never_prints_an_id_and_says_what_it_did(study_of):
    study = study_of(HOW | {"strata": ["region"], "factors": {"email": 0.5}})
    first, second = str(assign(study)), str(assign(study))
    for said in (first, second):
        assert "C0000" not in said and "held-2026" not in said
        assert "sample ratio" in said and "pre_spend" in said and "Channel email: on for" in said
    assert "Written: out/assignments.parquet" in first and "Everyone is where the hash puts them" in second
    assert "not registered" in first


def test_the_file_fits_the_contract(study_of):
    study = study_of(HOW | {"strata": ["region", "loyalty_member"], "cluster": None, "factors": {"email": 0.5}})
    assign(study)
    (study.folder / "tables" / "assignments.parquet").write_bytes((study.out / "assignments.parquet").read_bytes())
    found = check(open_study(study.folder))
    found.source.close()
    assert [problem for problem in found.problems if problem.where == "assignments"] == [
        problem for problem in found.problems if problem.where == "assignments" and "window" in problem.found
    ]
    assert {"assignments.stratum", "assignments.assigned_at"} <= set(found.columns)


def test_a_new_draw_is_the_same_draw(study_of):
    study = study_of(HOW | {"strata": ["region"]})
    assign(study)
    first = (study.out / "assignments.parquet").read_bytes()
    (study.out / "assignments.parquet").unlink()
    assign(study_of(HOW | {"strata": ["region"]}, customers=customers().sample(frac=1, random_state=2)))
    assert (study.out / "assignments.parquet").read_bytes() == first


# --- who may be drawn -----------------------------------------------------------------------------------------------


def test_who_did_not_agree_is_left_out_before_the_draw(study_of):
    people = customers()
    study = study_of(HOW, consents=choices(people))
    found, rows = assign(study), None
    rows = set(written(study)["customer_id"])
    place = np.arange(len(people))
    agreed = set(people.loc[(place % 5 > 0) & (place % 7 > 0), "customer_id"])
    assert rows == agreed
    assert found.without_consent == len(people) - len(agreed)


def test_a_later_choice_counts_and_a_future_one_does_not(study_of):
    people = customers(2000)
    ids = people["customer_id"]
    rows = pd.DataFrame(
        [
            *((one, True, BEFORE) for one in ids),
            *((one, False, BEFORE + pd.Timedelta(days=1)) for one in ids[:100]),
            *((one, True, BEFORE + pd.Timedelta(days=2)) for one in ids[:50]),
        ],
        columns=["customer_id", "given", "recorded_at"],
    ).assign(purpose="personalisation", consent_id=lambda f: [f"A{n}" for n in range(len(f))])
    study = study_of(HOW, customers=people, consents=rows)
    assert assign(study).without_consent == 50
    assert set(ids) - set(written(study)["customer_id"]) == set(ids[50:100])


def test_in_a_draw_that_is_there_consent_is_read_as_it_was_then(study_of):
    people = customers(2000)
    ids = people["customer_id"]
    study = study_of(HOW, customers=people)
    assign(study)
    late = pd.DataFrame({"customer_id": ids, "given": True, "recorded_at": BEFORE})
    late = pd.concat([late, late.head(300).assign(given=False, recorded_at=AFTER)])
    late = late.assign(purpose="personalisation", consent_id=[f"A{n}" for n in range(len(late))])
    later = study_of(HOW, customers=people, consents=late, settings={"as_of": date(2026, 5, 1)})
    found = assign(later)
    assert (found.without_consent, found.differing) == (0, 0)


def test_a_consents_table_without_the_purpose_is_refused(study_of):
    rows = choices(customers()).assign(purpose="email")
    with pytest.raises(InputError, match="purpose `personalisation`"):
        assign(study_of(HOW, consents=rows))


# --- verifying ------------------------------------------------------------------------------------------------------


def moved(study, change) -> None:
    rows = written(study)
    change(rows).to_parquet(study.folder / "tables" / "assignments.parquet")
    (study.out / "assignments.parquet").unlink()


@pytest.mark.parametrize("how", [HOW, HOW | {"strata": ["region"]}, HOW | {"cluster": "store_id"}])
def test_customers_moved_by_hand_are_counted(study_of, how):
    study = study_of(how)
    assign(study)

    def move(rows):
        some = rows.index[rows["variant"] == "bestsellers"][:7]
        rows.loc[some, "variant"] = "ranker"
        return rows

    moved(study, move)
    before = (study.folder / "tables" / "assignments.parquet").read_bytes()
    found = assign(open_study(study.folder))
    assert found.differing == 7 and "7 differ" in str(found)
    assert not (study.out / "assignments.parquet").exists()
    assert (study.folder / "tables" / "assignments.parquet").read_bytes() == before


def test_a_channel_switched_by_hand_and_one_lost_are_counted(study_of):
    study = study_of(HOW | {"factors": {"email": 0.5, "push": 0.3}})
    drawn = assign(study)
    assert set(drawn.factors) == {"email", "push"}
    rows = written(study)
    assert (
        not (rows[rows["experiment"] == "spring.email"]["customer_id"])
        .isin(rows[rows["variant"] == "none"]["customer_id"])
        .any()
    )  # the holdout gets no channel

    def change(rows):
        email = rows.index[(rows["experiment"] == "spring.email") & (rows["variant"] == "on")]
        rows.loc[email[:3], "variant"] = "off"
        return rows.drop(index=rows.index[rows["experiment"] == "spring.push"][:2])

    moved(study, change)
    assert assign(open_study(study.folder)).differing == 5


def test_a_draw_by_somebody_else_is_told_and_not_verified(study_of):
    people = customers()
    rows = people[["customer_id"]].assign(experiment="spring", assigned_at=BEFORE + pd.Timedelta(days=60))
    rows["variant"] = np.random.default_rng(1).choice(["ranker", "bestsellers", "none"], len(rows), p=[0.5, 0.3, 0.2])
    found = assign(study_of(None, assignments=rows))
    assert found.differing is None and found.ratio.n == 4000 and "nothing can be verified" in str(found)
    found = assign(study_of(HOW, assignments=rows))
    assert 0.4 < found.differing / 4000 < 0.8


def test_customers_who_come_later_leave_the_others_where_they_are(study_of):
    study = study_of(HOW, customers=customers(3000))
    assign(study)
    found = assign(study_of(HOW, customers=customers(4000)))
    assert (found.differing, sum(found.counts.values()), found.customers) == (0, 3000, 4000)


# --- clusters, stages -----------------------------------------------------------------------------------------------


def test_households_are_drawn_and_tested_as_wholes(study_of):
    how = {"salt": "a", "cluster": "household_id", "holdout": {"share": 0.2, "salt": "b", "cluster": "household_id"}}
    study = study_of(how)
    found = assign(study)
    rows = written(study).merge(customers()[["customer_id", "household_id"]], on="customer_id")
    assert rows.groupby("cluster")["variant"].nunique().max() == 1
    assert (rows["cluster"] == rows["household_id"].fillna(rows["customer_id"])).all()
    assert found.ratio.n == rows["cluster"].nunique() and "Tested by households" in str(found)
    assert not found.ratio.failed


def test_customers_are_drawn_with_the_weights_of_their_stage(study_of):
    small, large = {"personalised": 1, "control": 7, "holdout": 2}, {"personalised": 5, "control": 3, "holdout": 2}
    plan = {
        "weights": large,
        "stages": [{"from": date(2026, 3, 1), "weights": small}, {"from": date(2026, 4, 1), "weights": large}],
    }
    study = study_of(HOW, plan, customers=customers(3000))
    early = assign(study)
    assert early.counts["personalised"] / 3000 == pytest.approx(0.1, abs=0.03) and not early.ratio.failed
    first = written(study)
    (study.out / "assignments.parquet").unlink()
    late = study_of(HOW, plan, settings={"as_of": date(2026, 4, 2)})
    assert assign(late).counts["personalised"] / 4000 == pytest.approx(0.5, abs=0.04)
    second = written(late)
    # who was personalised in the first stage would be so in the second, and the holdout never changes
    both = first.merge(second, on="customer_id")
    assert (both[both["variant_x"] == "ranker"]["variant_y"] == "ranker").all()
    assert ((both["variant_x"] == "none") == (both["variant_y"] == "none")).all()
    # the study keeps the first stage's customers and adds those who came in the second
    newcomers = second[~second["customer_id"].isin(first["customer_id"])]
    moved(late, lambda rows: pd.concat([first, newcomers], ignore_index=True))
    found = assign(open_study(late.folder))
    assert found.differing == 0 and not found.ratio.failed and found.ratio.df == 4


# --- refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (None, "by which salt"),
        (HOW | {"holdout": {"share": 0.1, "salt": "x"}}, "the same share"),
        (HOW | {"holdout": {"share": 0.2, "salt": "spring-1"}}, "experiment's salt"),
        (HOW | {"salt": "a/b"}, "assignment.salt"),
        (HOW | {"strata": ["customer_id"]}, "strata can be"),
        (HOW | {"strata": ["segment"]}, "it is not there"),
        (HOW | {"cluster": "region"}, "assignment.cluster"),
        (HOW | {"factors": {"email": 1}}, "assignment.factors"),
    ],
)
def test_refused(study_of, how, said):
    with pytest.raises(InputError, match=said):
        assign(study_of(how))


def test_no_plan_and_customers_twice(study_of, tmp_path):
    with pytest.raises(InputError, match="stand more than once"):
        assign(study_of(HOW, customers=pd.concat([customers(50)] * 2)))
    (tmp_path / "spring" / "plan.yml").unlink()
    with pytest.raises(InputError, match="no plan"):
        assign(open_study(tmp_path / "spring"))


def test_an_assignments_table_that_cannot_be_read_is_not_taken_for_none(study_of):
    study = study_of(HOW)
    (study.folder / "tables" / "assignments.parquet").write_bytes(b"broken")
    with pytest.raises(InputError, match="not a Parquet file"):
        assign(study)
    assert not (study.out / "assignments.parquet").exists()


def test_orders_that_are_wrong_or_absent_do_not_matter_yet(study_of):
    broken = pd.DataFrame({"order_id": ["1"], "customer_id": ["nobody"], "ordered_at": [BEFORE], "revenue": [-1.0]})
    assert assign(study_of(HOW, orders=broken)).written
