"""A synthetic retailer with a known truth.

Every scenario is one YAML file under data/scenarios, where README.md states the model.
"""

from fairlift.simulate.scenario import Scenario, read_scenario, scenarios
from fairlift.simulate.truth import costs_of, effects, holds, population
from fairlift.simulate.units import draw_units
from fairlift.simulate.write import simulate

__all__ = [
    "Scenario",
    "costs_of",
    "draw_units",
    "effects",
    "holds",
    "population",
    "read_scenario",
    "scenarios",
    "simulate",
]
