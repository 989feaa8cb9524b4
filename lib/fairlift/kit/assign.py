"""Draw a study's customers into the arms of its plan, or verify a draw that is there: counted, never named."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fairlift.errors import InputError, Problem, Refusal
from fairlift.format import number
from fairlift.method.assignment import (
    HELD,
    Allocation,
    Holdout,
    allocate,
    cluster_label,
    draw,
    draw_factors,
    stratum_label,
)
from fairlift.method.metric import Covariates
from fairlift.method.moments import moments
from fairlift.method.ramp import srm_stages, stage_of, within_stages
from fairlift.method.srm import Balance, Srm, balance, srm
from fairlift.study.check import Checked, check
from fairlift.study.clock import stamp
from fairlift.study.folder import Study
from fairlift.study.plan import Assignment, Plan, plan_hash, registrations
from fairlift.study.source import open_source, reading

if TYPE_CHECKING:
    import ibis

CONSENT = "personalisation"
OFF = "off"
STRATUM, CLUSTER, HELD_BY = "stratum", "cluster", "held_by"  # what customers are drawn by, as columns of ours
READ = ("customers", "consents", "assignments", "study.yml")
UNITS = {None: "customers", "household_id": "households", "store_id": "stores"}


@dataclass(frozen=True)
class Assigned:
    """What a draw came to, or what a draw that was there comes to; holds counts alone.

    `customers` are all there are, `without_consent` those left out before the draw (in a draw that was there: those who had
    not agreed when they were assigned; None without a consents table).  `counts` are customers by arm; `differing` is how
    many have another variant than the hash gives them, None for a new draw and where the plan states no `assignment`.
    `unread` says which test could not be made, and why.
    """

    experiment: str
    customers: int
    without_consent: int | None
    counts: dict[str, int]
    factors: dict[str, tuple[int, int]]
    units: str
    ratio: Srm | None
    balances: tuple[Balance, ...]
    unread: tuple[str, ...]
    differing: int | None
    found: str | None
    written: Path | None
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [self._head()]
        width = max([len(arm) for arm in self.counts] + [4])
        lines += [f"  {arm:<{width}}  {n:>12,}" for arm, n in self.counts.items()]
        for name, (on, off) in self.factors.items():
            lines.append(f"Channel {name}: on for {number(on, 'count')}, off for {number(off, 'count')}.")
        lines += [*self.notes, ""]
        if self.units != "customers":
            lines.append(f"Tested by {self.units}, which were drawn as wholes:")
        lines += [str(test) for test in (self.ratio, *self.balances) if test]
        return "\n".join([*lines, *self.unread, "", self._end()])

    def _head(self) -> str:
        drawn = f"{number(sum(self.counts.values()), 'count')} of {number(self.customers, 'count')} customers"
        if self.found:
            lacking = f" {number(self.without_consent, 'count')} of them had not agreed to personalisation then."
            return f"{self.experiment}: {drawn} are assigned in {self.found}.{lacking if self.without_consent else ''}"
        left = "there is no consents table, so consent was not looked at"
        if self.without_consent is not None:
            left = f"{number(self.without_consent, 'count')} without consent to personalisation are left out"
        return f"{self.experiment}: {drawn} are assigned; {left}."

    def _end(self) -> str:
        if self.written:
            return (
                f"Written: {self.written.parent.name}/{self.written.name}. It is never drawn anew: put it into tables/, and the same "
                "command verifies it."
            )
        if self.differing is None:
            return "Nothing was written, and nothing can be verified: plan.yml has no `assignment:` with the salt."
        if self.differing:
            said = "1 differs from what the hash gives it"
            if self.differing > 1:
                said = f"{number(self.differing, 'count')} differ from what the hash gives them"
            return f"Nothing was written. {said}: find out who changed that, before anything is read."
        return "Nothing was written. Everyone is where the hash puts them."


def assign(study: Study) -> Assigned:
    """Draw the study's customers by its plan into STUDY/out/assignments.parquet, or verify the draw that is there.

    Who has not agreed to personalisation at the study's present moment is left out before the draw, where a consents table
    tells.  A draw is never overwritten: where tables/ or out/ hold one, it is computed again and the differences counted.

    Raises `InputError` without a plan, where customers or consents are refused, and where the plan's `assignment` does not
    fit its weights.
    """
    given, there = study.out / "assignments.parquet", _there(study)
    plan = _plan(study, there or given.exists())
    checked = check(study, assigned=there)
    with closing(checked.source):
        wrong = [problem for problem in checked.errors if problem.where in READ]
        if wrong:
            raise InputError(wrong)
        with reading(checked.source, "customers"):
            customers = _customers(checked, plan)
            drawn = _drawn_before(checked, given) if there or given.exists() else None
            consenting = _consenting(checked, study, drawn)
    if drawn is not None:
        origin = checked.source.tables["assignments"].origin if there else "out/assignments.parquet"
        return _verified(study, plan, customers, consenting, drawn, origin)
    return _new(study, plan, customers, consenting, given)


def _new(study: Study, plan: Plan, customers: pd.DataFrame, consenting: pd.Series | None, path: Path) -> Assigned:
    at = pd.Timestamp(study.settings.clock().replace(microsecond=0))
    people = customers if consenting is None else customers[customers["customer_id"].isin(consenting)]
    if people.empty:
        found = "nobody may be assigned" if len(customers) else "there is nobody"
        raise InputError(Problem("customers", found, "see the consents: nobody has agreed to personalisation"))
    people = people.assign(assigned_at=at)
    drawn = people.assign(variant=_variants(study, plan, people))
    factors = _factors(study, plan, drawn)
    rows = [_rows(plan.experiment, drawn, drawn["variant"])]
    for name, on in factors.items():
        experiment, said = _channel(study, name)
        rows.append(_rows(experiment, drawn.loc[on.index], on.map({1: said[0], 0: OFF})))
    _write(pd.concat(rows, ignore_index=True), path)
    today = at.astimezone(study.settings.zone()).date()
    period, notes = study.settings.period, []
    if not period.start <= today <= period.end:
        notes.append(
            f"The study's present day, {today}, lies outside of the period in study.yml, and everybody's outcome window begins "
            "with the draw: if that is not meant, remove out/assignments.parquet and draw on the first day."
        )
    if plan_hash(study.folder / "plan.yml") not in {entry.plan_hash for entry in registrations(study.folder)}:
        notes.append("This version of plan.yml is not registered: do it before the first outcome.")
    lacking = None if consenting is None else len(customers) - len(people)
    return _told(study, plan, customers, drawn, factors, lacking, written=path, notes=notes)


def _verified(
    study: Study, plan: Plan, customers: pd.DataFrame, consenting: pd.Series | None, there: pd.DataFrame, found: str
) -> Assigned:
    mine = there[there["experiment"] == plan.experiment].drop(columns="experiment")
    people = mine.merge(customers, on="customer_id", how="inner")
    if people.empty:
        raise InputError(
            Problem(
                "assignments", f"nobody is assigned in `{plan.experiment}`", "correct `experiment`, or remove the rows"
            )
        )
    factors, differing = {}, None
    if plan.assignment:
        differing = int((people["variant"] != _variants(study, plan, people)).sum())
        for name, on in _factors(study, plan, people).items():
            experiment, said = _channel(study, name)
            rows = there[there["experiment"] == experiment]
            if rows.empty:
                continue
            wanted = pd.DataFrame({"customer_id": people.loc[on.index, "customer_id"], "on": on == 1})
            both = wanted.merge(rows.assign(was=rows["variant"].isin(said)), on="customer_id", how="outer")
            differing += int((both["on"].astype("boolean") != both["was"].astype("boolean")).fillna(True).sum())
            factors[name] = on
    lacking = None if consenting is None else int((~people["customer_id"].isin(consenting)).sum())
    return _told(study, plan, customers, people, factors, lacking, differing=differing, found=found)


def _told(
    study, plan, customers, drawn, factors, lacking, *, differing=None, found=None, written=None, notes=()
) -> Assigned:
    cluster = plan.assignment.cluster if plan.assignment else None
    arms = study.settings.arms.of_variant()
    people = drawn.assign(
        arm=drawn["variant"].map(arms),
        enrolled=pd.to_datetime(drawn["assigned_at"]).dt.tz_convert(study.settings.timezone).dt.date,
    )
    counts = {arm: int((people["arm"] == arm).sum()) for arm in arms.values()}
    ratio, balances, unread = _tests(study, plan, people, cluster)
    if not any(arm.startswith(HELD) for arm in plan.weights):
        notes = [*notes, "No arm is a holdout: what personalisation is worth at all cannot be read from this draw."]
    elif plan.assignment and not plan.assignment.holdout:
        notes = [*notes, "The holdout is drawn for this experiment alone; another experiment may treat it."]
    switched = {name: (int((on == 1).sum()), int((on == 0).sum())) for name, on in factors.items()}
    return Assigned(
        experiment=plan.experiment,
        customers=len(customers),
        without_consent=lacking,
        counts=counts,
        factors=switched,
        units=UNITS[cluster],
        ratio=ratio,
        balances=balances,
        unread=unread,
        differing=differing,
        found=found,
        written=written,
        notes=tuple(notes),
    )


def _tests(study: Study, plan: Plan, people: pd.DataFrame, cluster: str | None):
    """The sample ratio and the balance of what was known before, over whatever was drawn as a whole."""
    covariates = [name for name in people if name.startswith("pre_") and people[name].notna().any()]
    weights, unread = dict(plan.weights), []
    if cluster:
        held = plan.assignment.holdout
        if held and held.cluster != cluster:  # held out one by one, so they are in no cluster's count
            people, weights = people[people["arm"] != HELD], {arm: w for arm, w in weights.items() if arm != HELD}
        each = people.groupby(CLUSTER)
        people = each[covariates].mean().assign(arm=each["arm"].first(), enrolled=each["enrolled"].min()).reset_index()
    try:
        counts = {arm: int((people["arm"] == arm).sum()) for arm in weights}
        ratio = srm_stages(people, plan.stages) if plan.stages else srm(counts, weights)
    except (Refusal, InputError) as refusal:
        ratio, unread = None, [str(refusal)]
    balances = []
    if covariates:
        compared, entry = within_stages(people, plan.stages)
        known = moments(compared, [Covariates(*covariates)], arm="arm", day=entry) if len(compared) else None
        for arm, versus in study.contrasts if known else []:
            try:
                balances.append(balance(known, covariates, arm, versus, by=("day",) if entry else ()))
            except Refusal as refusal:
                unread.append(str(refusal))
    return ratio, tuple(balances), tuple(unread)


# --- the draw --------------------------------------------------------------------------------------------------------


def _variants(study: Study, plan: Plan, people: pd.DataFrame) -> pd.Series:
    """The variant of each customer, by the allocation of the stage in which each was assigned."""
    how, allocations = plan.assignment, _allocations(study, plan)
    days = pd.to_datetime(people["assigned_at"]).dt.tz_convert(study.settings.timezone)
    enrolled = pd.DataFrame({"enrolled": days.dt.date})
    stage = stage_of(enrolled, plan.stages) if plan.stages else np.zeros(len(people), dtype=int)
    held = study.settings.arms.holdout
    # An exact draw depends on who is drawn together, so each batch is one; a draw without strata does not.
    batch = people["assigned_at"].map({at: stamp(at) for at in people["assigned_at"].unique()})
    found = pd.Series(None, index=people.index, dtype=object)
    for place, arms in enumerate(allocations):
        here = people.assign(batch=batch)[stage == place].drop(columns="variant", errors="ignore")
        if here.empty:
            continue
        drawn = draw(
            here,
            "customer_id",
            arms,
            salt=how.salt,
            namespace=how.namespace or plan.experiment,
            holdout=Holdout(how.holdout.share, how.holdout.salt, cluster=HELD_BY) if how.holdout else None,
            strata=[STRATUM, "batch"] if how.strata else (),
            cluster=CLUSTER if how.cluster else None,
        )["variant"]
        found[here.index] = drawn.replace({HELD: held[0]}) if how.holdout else drawn
    return found


def _allocations(study: Study, plan: Plan) -> list[Allocation]:
    """One allocation a stage, each moving no more than it must; the universal holdout is not in them."""
    variant = {arm: one for one, arm in study.settings.arms.of_variant().items()}
    found: list[Allocation] = []
    for weights in [stage.weights for stage in plan.stages] or [plan.weights]:
        named = {
            variant[arm]: weight for arm, weight in weights.items() if not (plan.assignment.holdout and arm == HELD)
        }
        found.append(allocate(named, before=found[-1] if found else None))
    return found


def _factors(study: Study, plan: Plan, people: pd.DataFrame) -> dict[str, pd.Series]:
    """Which channels are on (1) or off (0) for whoever is not held out."""
    how = plan.assignment
    if not how.factors:
        return {}
    others = people[~people["variant"].isin(study.settings.arms.holdout)]
    drawn = draw_factors(
        others,
        "customer_id",
        how.factors,
        salt=how.salt,
        namespace=how.namespace or plan.experiment,
        cluster=CLUSTER if how.cluster else None,
    )
    return {name: drawn[name] for name in how.factors}


def _channel(study: Study, name: str) -> tuple[str, Sequence[str]]:
    """The experiment under which a channel stands in the assignments, and its variants that are on."""
    stated = study.settings.factors.get(name)
    return (stated.experiment, stated.on) if stated else (f"{study.settings.experiment}.{name}", ["on"])


def _plan(study: Study, there: bool) -> Plan:
    """The plan, with what must hold before anybody is drawn."""
    plan = study.plan
    if plan is None:
        mend = "write plan.yml: its weights say how to draw; `fairlift new` makes a commented one"
        raise InputError(Problem("plan.yml", "there is no plan to draw by", mend))
    if plan.assignment is None and not there:
        mend = "add `assignment: {salt: …}` with a word that no other experiment has, and keep it"
        raise InputError(Problem("plan.yml", "it does not say by which salt to draw", mend))
    return plan


# --- the tables ------------------------------------------------------------------------------------------------------


def _there(study: Study) -> bool:
    """Whether the study brings an assignments table; one that cannot be read is there too."""
    source = open_source(study.settings, study.folder, need=False)
    with closing(source):
        return "assignments" in source.tables or any(problem.where == "assignments" for problem in source.problems)


def _customers(checked: Checked, plan: Plan) -> pd.DataFrame:
    table, how = checked.tables["customers"], plan.assignment or Assignment(salt="none")
    wanted = [*how.strata, how.cluster, how.holdout.cluster if how.holdout else None]
    absent = [name for name in dict.fromkeys(wanted) if name and name not in table.columns]
    if absent:
        raise InputError(
            [
                Problem(
                    "customers",
                    "plan.yml draws by it, and it is not there",
                    "bring the column, or take it out of `assignment` in plan.yml",
                    column=name,
                )
                for name in absent
            ]
        )
    before = [name for name in table.columns if name.startswith("pre_")]
    by = {STRATUM: stratum_label(table, how.strata)} if how.strata else {}
    by |= {CLUSTER: cluster_label(table, "customer_id", how.cluster)} if how.cluster else {}
    by |= {HELD_BY: cluster_label(table, "customer_id", how.holdout.cluster)} if how.holdout else {}
    return _frame(table.select("customer_id", *before, **by).order_by("customer_id"))


def _drawn_before(checked: Checked, path: Path) -> pd.DataFrame:
    columns = ["experiment", "customer_id", "variant", "assigned_at"]
    if "assignments" in checked.tables:
        return _frame(checked.tables["assignments"].select(*columns)).assign(
            assigned_at=lambda f: pd.to_datetime(f["assigned_at"]).dt.tz_localize("UTC")
        )
    return pd.read_parquet(path, columns=columns)


def _consenting(checked: Checked, study: Study, drawn: pd.DataFrame | None) -> pd.Series | None:
    """Who had agreed to personalisation, by the last choice before the draw; None without a consents table."""
    if "consents" not in checked.tables:
        return None
    table = checked.tables["consents"]
    rows = _frame(table.filter(table.purpose == CONSENT).select("customer_id", "given", "recorded_at"))
    if rows.empty:
        found = f"no row is about the purpose `{CONSENT}`"
        raise InputError(
            Problem("consents", found, "name the purpose so, or remove the table where consent is not asked for")
        )
    rows["recorded_at"] = pd.to_datetime(rows["recorded_at"]).dt.tz_localize("UTC")
    if drawn is None:
        rows = rows[rows["recorded_at"] <= pd.Timestamp(study.settings.clock())]
    else:
        mine = drawn[drawn["experiment"] == study.settings.experiment][["customer_id", "assigned_at"]]
        rows = rows.merge(mine, on="customer_id")
        rows = rows[rows["recorded_at"] <= rows["assigned_at"]]
    last = rows[rows["recorded_at"] == rows.groupby("customer_id")["recorded_at"].transform("max")]
    agreed = last.groupby("customer_id")["given"].all()  # of two choices at one moment the refusal counts
    return agreed[agreed].index.to_series()


def _frame(expr: ibis.Table) -> pd.DataFrame:
    return expr.to_pyarrow().to_pandas()


def _rows(experiment: str, people: pd.DataFrame, variant: pd.Series) -> pd.DataFrame:
    """Rows of the contract's assignments table."""
    drawn_by = [name for name in (STRATUM, CLUSTER) if name in people]
    rows = pd.DataFrame({"experiment": experiment, "customer_id": people["customer_id"], "variant": variant})
    return rows.assign(**{name: people[name] for name in (*drawn_by, "assigned_at")})


def _write(rows: pd.DataFrame, path: Path) -> None:
    """All of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}")
    try:
        rows.to_parquet(draft, index=False)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
