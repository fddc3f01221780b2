"""Judges, measures and statistics: a judge labels answers, a measure counts them, statistics say how sure that is."""

from moored.measurement._interface import EarlyJudge, Exchange, Judge, Label
from moored.measurement.base_direction import Alignment, alignment, shuffled_cosines, update_cosines
from moored.measurement.basin import perturbation_lengths, visage
from moored.measurement.drift import any_of, kl_divergence, refusal_log_odds
from moored.measurement.exact_match import ExactMatch
from moored.measurement.measures import BROKEN, MEASURES, PROMPT_SETS, Measure, Scored, compare, estimates
from moored.measurement.reasoning import Reasoning
from moored.measurement.refusal import RefusalJudge
from moored.measurement.spectrum import cumulative_energy, effective_rank, overlap
from moored.measurement.statistics import (
    Comparison,
    Correlation,
    Estimate,
    Mean,
    Outcome,
    Rate,
    SeededRate,
    compare_means,
    compare_rates,
    mean_interval,
    over_seeds,
    quartiles,
    spearman,
)
from moored.measurement.superiority import Superiority, superiority
from moored.settings import require_known

JUDGES = {"refusal": RefusalJudge}
"""The judges by the name that the command line takes."""


def judge_named(name: str) -> Judge:
    """Makes the judge of a name.

    Raises:
        InputError: there is none of that name; the sentence names the nearest.
    """
    require_known([name], JUDGES, what="judge")
    return JUDGES[name]()


def default_judge() -> Judge:
    """Makes the judge that is used wherever none is named."""
    return judge_named("refusal")


__all__ = [
    "BROKEN",
    "JUDGES",
    "MEASURES",
    "PROMPT_SETS",
    "Alignment",
    "Comparison",
    "Correlation",
    "EarlyJudge",
    "Estimate",
    "ExactMatch",
    "Exchange",
    "Judge",
    "Label",
    "Mean",
    "Measure",
    "Outcome",
    "Rate",
    "Reasoning",
    "RefusalJudge",
    "Scored",
    "SeededRate",
    "Superiority",
    "alignment",
    "any_of",
    "compare",
    "compare_means",
    "compare_rates",
    "cumulative_energy",
    "default_judge",
    "effective_rank",
    "estimates",
    "judge_named",
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
