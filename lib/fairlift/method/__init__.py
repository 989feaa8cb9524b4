"""Statistics on pandas frames and Ibis tables: moments, effects, sample ratio, intervals.  Usable alone."""

from fairlift.method.effect import Effect, Lift, default_interval, effect, lift
from fairlift.method.interval import benjamini_hochberg, clopper_pearson, holm, newcombe, wilson
from fairlift.method.metric import Covariates, Mean, Metric, Proportion, Ratio
from fairlift.method.moments import Moments, Sample, cumulate, moments
from fairlift.method.srm import Balance, Srm, balance, srm

__all__ = [
    "Balance",
    "Covariates",
    "Effect",
    "Lift",
    "Mean",
    "Metric",
    "Moments",
    "Proportion",
    "Ratio",
    "Sample",
    "Srm",
    "balance",
    "benjamini_hochberg",
    "clopper_pearson",
    "cumulate",
    "default_interval",
    "effect",
    "holm",
    "lift",
    "moments",
    "newcombe",
    "srm",
    "wilson",
]
