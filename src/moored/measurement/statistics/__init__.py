"""Rates, differences and means with their uncertainty.

Every number carries its n and a 95 % interval, and what was not scored is None, never zero.
"""

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
from moored.measurement.statistics.quartiles import quartiles
from moored.measurement.statistics.seeds import SeededDifference, SeededRate, over_seeds, seeded_difference

__all__ = [
    "CONFIDENCE",
    "Z_CONFIDENCE",
    "Better",
    "Comparison",
    "Correlation",
    "Estimate",
    "Mean",
    "Outcome",
    "Rate",
    "SeededDifference",
    "SeededRate",
    "compare_means",
    "compare_rates",
    "mcnemar_exact",
    "mean_interval",
    "over_seeds",
    "quartiles",
    "seeded_difference",
    "smallest_detectable_difference",
    "spearman",
]
