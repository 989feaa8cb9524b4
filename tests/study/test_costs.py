"""Costs as booked say the same as costs as stated."""

import pytest
import yaml

from fairlift.simulate import simulate
from fairlift.study import open_study, prepare
from fairlift.study.costs import cost_per_customer


def test_a_study_without_stated_costs_takes_those_booked(tmp_path):
    simulate(tmp_path, "demo", customers=1_500)
    stated = open_study(tmp_path)
    prepare(stated)
    text = yaml.safe_load((tmp_path / "study.yml").read_text())
    del text["costs"]
    (tmp_path / "study.yml").write_text(yaml.safe_dump(text))
    booked = open_study(tmp_path)
    assert booked.settings.costs is None
    fixed = [cost_per_customer(study.costs, 56, 1_500)[0] for study in (stated, booked)]
    assert fixed[1] == pytest.approx(fixed[0], rel=1e-5)
    (tmp_path / "tables" / "costs.parquet").unlink()
    prepare(booked)
    assert open_study(tmp_path).costs is None
