"""The study: what a reader brings, checked, and reduced to one mart of small tables."""

from fairlift.study.contract import Column, Table, contract
from fairlift.study.folder import Study, open_study
from fairlift.study.plan import Plan, Registration, Standing, plan_hash, register, registrations, standing
from fairlift.study.settings import Settings

__all__ = [
    "Column",
    "Plan",
    "Registration",
    "Settings",
    "Standing",
    "Study",
    "Table",
    "contract",
    "open_study",
    "plan_hash",
    "register",
    "registrations",
    "standing",
]
