"""The study: what a reader brings, checked, and reduced to one mart of small tables."""

from fairlift.study.check import Checked, check, latest_outcome
from fairlift.study.contract import Column, Table, contract
from fairlift.study.folder import Study, open_study
from fairlift.study.outcomes import data_dictionary, outcomes
from fairlift.study.plan import Plan, Registration, Standing, plan_hash, register, registrations, standing
from fairlift.study.prepare import prepare
from fairlift.study.settings import Settings

__all__ = [
    "Checked",
    "Column",
    "Plan",
    "Registration",
    "Settings",
    "Standing",
    "Study",
    "Table",
    "check",
    "contract",
    "data_dictionary",
    "latest_outcome",
    "open_study",
    "outcomes",
    "plan_hash",
    "prepare",
    "register",
    "registrations",
    "standing",
]
