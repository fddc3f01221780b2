"""Judges, metrics and statistics: a judge labels one answer, statistics summarize many."""

from moored.measurement._interface import Judge, Label
from moored.measurement.base_direction import Alignment, alignment, shuffled_cosines, update_cosines
from moored.measurement.basin import perturbation_lengths, visage
from moored.measurement.drift import any_of, kl_divergence, refusal_log_odds
from moored.measurement.exact_match import ExactMatch
from moored.measurement.refusal import RefusalJudge
from moored.measurement.spectrum import cumulative_energy, effective_rank, overlap
from moored.measurement.statistics import (
    Correlation,
    Mean,
    PairedDifference,
    Rate,
    SeededRate,
    mean_interval,
    over_seeds,
    paired_difference,
    quartiles,
    spearman,
    verdict,
)
from moored.measurement.summary import share, summarize
from moored.measurement.superiority import Superiority, superiority

JUDGES = {"refusal": RefusalJudge}
"""The judges by the name that the command line takes."""

__all__ = [
    "JUDGES",
    "Alignment",
    "Correlation",
    "ExactMatch",
    "Judge",
    "Label",
    "Mean",
    "PairedDifference",
    "Rate",
    "RefusalJudge",
    "SeededRate",
    "Superiority",
    "alignment",
    "any_of",
    "cumulative_energy",
    "effective_rank",
    "kl_divergence",
    "mean_interval",
    "over_seeds",
    "overlap",
    "paired_difference",
    "perturbation_lengths",
    "quartiles",
    "refusal_log_odds",
    "share",
    "shuffled_cosines",
    "spearman",
    "summarize",
    "superiority",
    "update_cosines",
    "verdict",
    "visage",
]
