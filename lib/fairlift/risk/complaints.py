"""Extra complaints, opt-outs and requests that personalisation causes, arm against arm."""

from __future__ import annotations

from fairlift.evidence import Evidence
from fairlift.method.kpi import kpi_evidence, read_kpis
from fairlift.risk.kpis import KPIS
from fairlift.study import Study


def complaints_evidence(study: Study) -> list[Evidence]:
    """Every risk KPI the study's tables allow, per customer assigned, later opt-outs included."""
    alpha = study.plan.alpha if study.plan else 0.05
    readings = read_kpis(study.units, KPIS, study.contrasts, alpha)
    tables = ("assignments", "complaints", "consents", "privacy_requests")
    return kpi_evidence(readings, study.targets, study.settings.outcome_window_days, study.settings.currency, tables)
