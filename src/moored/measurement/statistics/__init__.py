"""Rates, differences and means with their uncertainty.

Every number carries its n and a 95 % interval, and what was not scored is None, never zero.
"""

from moored.measurement.statistics.agreement import Agreement, agreement
from moored.measurement.statistics.comparison import (
    Better,
    Comparison,
    Outcome,
    compare_means,
    compare_rates,
    mcnemar_exact,
    smallest_detectable_difference,
)
from moored.measurement.statistics.correlation import Correlation, spearman
from moored.measurement.statistics.intervals import CONFIDENCE, Z_CONFIDENCE, Estimate, Mean, Rate, mean_interval
from moored.measurement.statistics.judge_error import JudgeError, refused_interval
from moored.measurement.statistics.quartiles import quartiles
from moored.measurement.statistics.seeds import SeededDifference, SeededRate, over_seeds, seeded_difference

__all__ = [
    "CONFIDENCE",
    "Z_CONFIDENCE",
    "Agreement",
    "Better",
    "Comparison",
    "Correlation",
    "Estimate",
    "JudgeError",
    "Mean",
    "Outcome",
    "Rate",
    "SeededDifference",
    "SeededRate",
    "agreement",
    "compare_means",
    "compare_rates",
    "mcnemar_exact",
    "mean_interval",
    "over_seeds",
    "quartiles",
    "refused_interval",
    "seeded_difference",
    "smallest_detectable_difference",
    "spearman",
]
