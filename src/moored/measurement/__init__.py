"""Judges, measures and statistics: a judge labels answers, a measure counts them, statistics say how sure that is."""

from moored.measurement._interface import EarlyJudge, Exchange, Judge, JudgeWithError, Label, Verdict
from moored.measurement.base_direction import Alignment, alignment, shuffled_cosines, update_cosines
from moored.measurement.basin import perturbation_lengths, visage
from moored.measurement.drift import any_of, kl_divergence, refusal_log_odds
from moored.measurement.exact_match import ExactMatch
from moored.measurement.measures import BROKEN, MEASURES, PROMPT_SETS, Measure, Scored, compare, estimates
from moored.measurement.reasoning import Reasoning
from moored.measurement.rules import RuleJudge
from moored.measurement.spectrum import cumulative_energy, effective_rank, overlap
from moored.measurement.statistics import (
    Agreement,
    Comparison,
    Correlation,
    Estimate,
    JudgeError,
    Mean,
    Outcome,
    Rate,
    SeededRate,
    agreement,
    compare_means,
    compare_rates,
    mean_interval,
    over_seeds,
    quartiles,
    spearman,
)
from moored.measurement.superiority import Superiority, superiority

JUDGES = {"rules": RuleJudge}
"""The judges of this room by their names; one that is put in can be named wherever a judge is."""

__all__ = [
    "BROKEN",
    "JUDGES",
    "MEASURES",
    "PROMPT_SETS",
    "Agreement",
    "Alignment",
    "Comparison",
    "Correlation",
    "EarlyJudge",
    "Estimate",
    "ExactMatch",
    "Exchange",
    "Judge",
    "JudgeError",
    "JudgeWithError",
    "Label",
    "Mean",
    "Measure",
    "Outcome",
    "Rate",
    "Reasoning",
    "RuleJudge",
    "Scored",
    "SeededRate",
    "Superiority",
    "Verdict",
    "agreement",
    "alignment",
    "any_of",
    "compare",
    "compare_means",
    "compare_rates",
    "cumulative_energy",
    "effective_rank",
    "estimates",
    "kl_divergence",
    "mean_interval",
    "over_seeds",
    "overlap",
    "perturbation_lengths",
    "quartiles",
    "refusal_log_odds",
    "shuffled_cosines",
    "spearman",
    "superiority",
    "update_cosines",
    "visage",
]
