"""A synthetic retailer with a known truth.

Customers differ by attributes, a gamma factor on orders and a lognormal one on prices.  Orders are a Poisson process that moves
with hour, weekday and season; the treatment a customer really receives (none, bestsellers or personal offers) multiplies it in
her own outcome window, and changes baskets, discounts, returns, visits, complaints and withdrawals.  Possible orders are drawn
once at the highest rate and thinned by treatment, so every customer's outcome in every arm is known: sample effects are exact,
population effects have a closed form.  Every scenario is one YAML file under data/scenarios, where README.md states the model.
"""

from fairlift.simulate.scenario import Scenario, read_scenario, scenarios
from fairlift.simulate.truth import costs_of, effects, holds, population
from fairlift.simulate.units import draw_unit_days, draw_units
from fairlift.simulate.write import simulate

__all__ = [
    "Scenario",
    "costs_of",
    "draw_unit_days",
    "draw_units",
    "effects",
    "holds",
    "population",
    "read_scenario",
    "scenarios",
    "simulate",
]
