"""A study folder, opened: its settings, its plan, and the mart that `prepare` left in it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

import pandas as pd

from fairlift.errors import InputError, Problem
from fairlift.evidence import Look, Target
from fairlift.study.clock import moment, stamp
from fairlift.study.costs import booked
from fairlift.study.files import read_model
from fairlift.study.plan import Plan, Stage, Standing, standing
from fairlift.study.settings import Cost, Settings


@dataclass(frozen=True)
class Study:
    """A study: where it is, what its files say, and its mart (read when first asked for).

    `mart` is the content of out/mart/mart.json: fingerprint, tables and columns present, rows set aside, times.
    """

    folder: Path
    settings: Settings
    plan: Plan | None

    @classmethod
    def in_memory(
        cls,
        settings: Settings,
        plan: Plan | None,
        units: pd.DataFrame,
        standing: Standing,
        customers: int | None = None,
    ) -> Study:
        """A study without a folder, for simulations that repeat it many times; `units` are as in the mart.

        `customers` is how many the retailer has; by default those in `units`.
        """
        study = cls(Path("."), settings, plan)
        mart = {
            "as_of": stamp(settings.clock()),
            "customers": customers or len(units),
            "source_rows": {"assignments": len(units)},
            "set_aside": [],
        }
        study.__dict__.update(
            mart=mart, units=units[units["complete"]].reset_index(drop=True), standing=standing, truth={}
        )
        return study

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @cached_property
    def mart(self) -> dict:
        path = self.out / "mart" / "mart.json"
        if not path.exists():
            raise InputError(
                Problem(self.folder.name, "the tables are not prepared", f"run `fairlift run {self.folder.name}`")
            )
        return json.loads(path.read_text(encoding="utf-8"))

    @cached_property
    def units(self) -> pd.DataFrame:
        """One row a randomised unit whose outcome window is complete: arm, attributes, outcomes, covariates."""
        return self.table("units").query("complete").reset_index(drop=True)

    def table(self, name: str) -> pd.DataFrame:
        """One table of the mart, whole."""
        if name not in self.mart["tables"]:
            raise InputError(Problem("mart", f"it has no table {name}", f"known: {', '.join(self.mart['tables'])}"))
        return pd.read_parquet(self.out / "mart" / f"{name}.parquet")

    def has(self, *columns: str) -> bool:
        """Whether the study brought all these contract columns, each written table.column."""
        return set(columns) <= set(self.mart["columns"])

    def lacks(self, *columns: str) -> list[str]:
        """Which of these contract columns the study did not bring."""
        return [column for column in columns if column not in self.mart["columns"]]

    @cached_property
    def truth(self) -> dict[str, float]:
        """The true effects by evidence label where the study is simulated; empty for a real one."""
        path = self.folder / "truth.json"
        return json.loads(path.read_text(encoding="utf-8"))["population"] if path.exists() else {}

    @property
    def costs(self) -> list[Cost] | None:
        """What personalisation costs: as study.yml states it, or else as booked in the costs table; None where neither does."""
        if self.settings.costs is not None:
            return self.settings.costs
        return booked(self.mart["costs"]) if self.mart.get("costs") else None

    @property
    def contrasts(self) -> list[tuple[str, str]]:
        """The pairs of arms to compare: the plan's, or else every personalised arm with each other arm."""
        if self.plan:
            return list(dict.fromkeys((c.arm, c.versus) for c in self.plan.contrasts.values()))
        arms = sorted(set(self.settings.arms.of_variant().values()), reverse=True)
        personalised = [arm for arm in arms if arm.startswith("personalised")]
        others = [arm for arm in arms if arm not in personalised]
        return [(arm, other) for arm in personalised for other in others]

    @property
    def stages(self) -> list[Stage]:
        """The stages of the plan's ramp; empty where the arms' shares never change."""
        return self.plan.stages if self.plan else []

    @property
    def targets(self) -> dict[tuple[str, str, str], Target]:
        """What the plan asks, by (metric, arm, versus); empty without a plan."""
        if not self.plan:
            return {}
        plan, found = self.plan, {}
        for guardrail in plan.guardrails:
            pair = plan.contrasts[guardrail.contrast]
            target = Target("guardrail", guardrail.margin, guardrail.limit, plan.planned(pair))
            found[guardrail.metric, pair.arm, pair.versus] = target
        pair = plan.contrasts[plan.primary.contrast]
        found[plan.primary.metric, pair.arm, pair.versus] = Target("primary", planned_n=plan.planned(pair))
        return found

    @cached_property
    def looks(self) -> dict[tuple[str, str], Look]:
        """How each of the plan's comparisons may be read as of the study's clock, by (arm, versus).

        Empty where intervals hold at the end alone: without a plan, where the plan looks once, and on a day between its looks.
        """
        plan = self.plan
        if plan is None or plan.validity == "end":
            return {}
        pairs = {(c.arm, c.versus): plan.planned(c) for c in plan.contrasts.values()}
        if plan.validity == "always":
            arms = self.units["arm"]
            return {
                pair: Look("always", planned, (int(arms.isin(pair).sum()),), burn_in=plan.burn_in)
                for pair, planned in pairs.items()
            }
        today = self.clock().astimezone(self.settings.zone()).date()
        final = self.clock() >= plan.end_of(self.settings.timezone)
        if not final and today not in plan.look_days:
            return {}
        return {pair: self._look(pair, planned, final) for pair, planned in pairs.items()}

    def _look(self, pair: tuple[str, str], planned: int, final: bool) -> Look:
        """The present look: its customers, and those of the looks before, by the day their window was complete."""
        units = self.units[self.units["arm"].isin(pair)]
        due = pd.to_datetime(units["enrolled"]) + timedelta(days=self.settings.outcome_window_days)
        today = self.clock().astimezone(self.settings.zone()).date()
        before = [int((due <= pd.Timestamp(day)).sum()) for day in self.plan.look_days if day < today]
        seen = (*sorted({n for n in before if 0 < n < len(units)}), len(units))
        looks = len(seen) if final else len(seen) + sum(day > today for day in self.plan.look_days) + 1
        return Look("look", planned, seen, looks, self.plan.spending or "obrien_fleming")

    @cached_property
    def standing(self) -> Standing:
        """Whether the plan stood before the outcomes."""
        first = self.mart["first_outcome"]
        return standing(self.folder, moment(first) if first else None)

    def clock(self) -> datetime:
        return moment(self.mart["as_of"])


def open_study(folder: str | Path) -> Study:
    """Open a study folder; every problem in study.yml and plan.yml at once."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            Problem(
                folder.name or str(folder), "there is no such folder", f"make one with `fairlift new {folder.name}`"
            )
        )
    problems: list[Problem] = []
    settings = plan = None
    try:
        settings = read_model(folder / "study.yml", Settings)
    except InputError as error:
        problems += error.problems
    if (folder / "plan.yml").exists():
        try:
            plan = read_model(folder / "plan.yml", Plan)
        except InputError as error:
            problems += error.problems
    if settings and plan:
        problems += _disagreements(settings, plan)
    if problems:
        raise InputError(problems)
    return Study(folder, settings, plan)


def _disagreements(settings: Settings, plan: Plan) -> list[Problem]:
    problems = []
    if plan.experiment != settings.experiment:
        found = f"it plans `{plan.experiment}`, study.yml runs `{settings.experiment}`"
        problems.append(Problem("plan.yml", found, "write the same `experiment` in both"))
    arms = set(settings.arms.of_variant().values())
    for name, contrast in plan.contrasts.items():
        unknown = sorted({contrast.arm, contrast.versus} - arms)
        if unknown:
            found = f"contrast `{name}` names the arm {', '.join(unknown)}"
            problems.append(Problem("plan.yml", found, f"study.yml has: {', '.join(sorted(arms))}"))
    for name, listed in (("weights", plan.weights), ("planned_n", plan.planned_n)):
        # A weight for an arm that cannot be there would make every draw look broken.
        unknown = sorted(set(listed) - arms)
        if unknown:
            found = f"`{name}` names the arm {', '.join(unknown)}"
            problems.append(Problem("plan.yml", found, f"remove it; study.yml has: {', '.join(sorted(arms))}"))
    if plan.stages and plan.stages[0].start > settings.period.start:
        found = f"the first of the `stages` begins on {plan.stages[0].start}, the experiment on {settings.period.start}"
        problems.append(Problem("plan.yml", found, "let the first stage begin with the experiment"))
    return problems
