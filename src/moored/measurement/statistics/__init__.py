"""Rates, differences and means with their uncertainty.

Every number carries its n and a 95 % interval, and what was not scored is None, never zero.
"""

from moored.measurement.statistics.comparison import (
    PairedDifference,
    mcnemar_exact,
    paired_difference,
    smallest_detectable_difference,
    verdict,
)
from moored.measurement.statistics.correlation import Correlation, spearman
from moored.measurement.statistics.intervals import CONFIDENCE, Z_CONFIDENCE, Mean, Rate, mean_interval
from moored.measurement.statistics.quartiles import quartiles
from moored.measurement.statistics.seeds import SeededDifference, SeededRate, over_seeds, seeded_difference

__all__ = [
    "CONFIDENCE",
    "Z_CONFIDENCE",
    "Correlation",
    "Mean",
    "PairedDifference",
    "Rate",
    "SeededDifference",
    "SeededRate",
    "mcnemar_exact",
    "mean_interval",
    "over_seeds",
    "paired_difference",
    "quartiles",
    "seeded_difference",
    "smallest_detectable_difference",
    "spearman",
    "verdict",
]
