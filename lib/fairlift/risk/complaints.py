"""Extra complaints, opt-outs and requests that personalisation causes, arm against arm."""

from __future__ import annotations

from fairlift.evidence import Evidence
from fairlift.method.kpi import kpi_evidence, read_kpis
from fairlift.method.ramp import within_stages
from fairlift.risk.kpis import KPIS
from fairlift.study import Study


def complaints_evidence(study: Study) -> list[Evidence]:
    """Every risk KPI the study's tables allow, per customer assigned, later opt-outs included."""
    alpha = study.plan.alpha if study.plan else 0.05
    units, entry = within_stages(study.units, study.stages)
    readings = read_kpis(units, KPIS, study.contrasts, alpha, entry, study.looks)
    tables = ("assignments", "complaints", "consents", "privacy_requests")
    return kpi_evidence(readings, study.targets, study.settings.outcome_window_days, study.settings.currency, tables)
