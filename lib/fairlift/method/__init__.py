"""Statistics on pandas frames and Ibis tables, usable alone.

Before: power and sizes, assignment.  After: moments, sample ratio, effects, families and segments.  Meanwhile: sequences and
looks.  Where customers are not the unit, or not alone: clusters, pairs of stores, channels, spillover, ramps, horizons.
"""

from fairlift.method.assignment import Allocation, Holdout, allocate, arm_of, draw, draw_factors, hold_out
from fairlift.method.cluster_means import by_cluster
from fairlift.method.clusters import ClusterEffect, cluster_effect
from fairlift.method.compliance import Compliance, cace
from fairlift.method.contamination import contamination, separated, worst_case
from fairlift.method.effect import Capped, Effect, Lift, capped, default_interval, effect, lift
from fairlift.method.factorial import Factorial, factorial
from fairlift.method.family import Asked, Dunnett, Family, NonInferiority, dunnett, noninferior, read_family
from fairlift.method.geo import draw_pairs, match_pairs, placebo
from fairlift.method.horizon import by_horizon, by_week, fading, long_term, panel
from fairlift.method.icc import Icc, icc
from fairlift.method.interval import benjamini_hochberg, clopper_pearson, holm, newcombe, wilson
from fairlift.method.looks import Design, at_look, boundaries, design
from fairlift.method.match import MatchRate, bounds, correct, match_rate
from fairlift.method.metric import Covariates, Mean, Metric, Proportion, Ratio
from fairlift.method.moments import Moments, Sample, cumulate, moments
from fairlift.method.power import (
    Gate,
    Joint,
    Size,
    Spread,
    detectable,
    duration,
    joint_power,
    mean_spread,
    power_of,
    sample_size,
    share_spread,
    size_together,
)
from fairlift.method.ramp import srm_stages, within_stages
from fairlift.method.segment import Segments, by_segment
from fairlift.method.sequence import running, sequence
from fairlift.method.sequential_srm import SequentialSrm, sequential_srm
from fairlift.method.spillover import draw_saturation, household_spillover, saturation
from fairlift.method.srm import Balance, Srm, balance, srm

__all__ = [
    "Allocation",
    "Asked",
    "Balance",
    "Capped",
    "ClusterEffect",
    "Compliance",
    "Covariates",
    "Design",
    "Dunnett",
    "Effect",
    "Factorial",
    "Family",
    "Gate",
    "Holdout",
    "Icc",
    "Joint",
    "Lift",
    "MatchRate",
    "Mean",
    "Metric",
    "Moments",
    "NonInferiority",
    "Proportion",
    "Ratio",
    "Sample",
    "Segments",
    "SequentialSrm",
    "Size",
    "Spread",
    "Srm",
    "allocate",
    "arm_of",
    "at_look",
    "balance",
    "benjamini_hochberg",
    "boundaries",
    "bounds",
    "by_cluster",
    "by_horizon",
    "by_segment",
    "by_week",
    "cace",
    "capped",
    "clopper_pearson",
    "cluster_effect",
    "contamination",
    "correct",
    "cumulate",
    "default_interval",
    "design",
    "detectable",
    "draw",
    "draw_factors",
    "draw_pairs",
    "draw_saturation",
    "dunnett",
    "duration",
    "effect",
    "factorial",
    "fading",
    "hold_out",
    "holm",
    "household_spillover",
    "icc",
    "joint_power",
    "lift",
    "long_term",
    "match_pairs",
    "match_rate",
    "mean_spread",
    "moments",
    "newcombe",
    "noninferior",
    "panel",
    "placebo",
    "power_of",
    "read_family",
    "running",
    "sample_size",
    "saturation",
    "separated",
    "sequence",
    "sequential_srm",
    "share_spread",
    "size_together",
    "srm",
    "srm_stages",
    "wilson",
    "within_stages",
    "worst_case",
]
