"""How steadily a run trained: spikes and spread of its loss and of its gradient norm, step by step."""

import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from _trial_table import average, student

Row = dict[str, Any]
SETTLED = 1 / 3
"""The share of the steps that is left out at the start, where any run learns fast."""
MEASURES = ("loss spikes", "loss spread", "gradient spikes", "gradient spread")


def steadiness(log: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The four measures of one run, without unit (our choice).

    Spikes are the largest value over the median; spread is the standard deviation of the change from one step to the
    next, over the median. The gradient norm is that of the whole step, penalties included, before clipping.
    """
    found = {}
    for name, key in (("loss", "loss"), ("gradient", "grad_norm")):
        values = log[key][round(SETTLED * len(log[key])) :]
        middle = statistics.median(values)
        changes = [after - before for before, after in pairwise(values)]
        found[f"{name} spikes"] = max(values) / middle
        found[f"{name} spread"] = statistics.stdev(changes) / middle
    return found


def against_plain(arm: Mapping[Any, Mapping[str, float]], plain: Mapping[Any, Mapping[str, float]]) -> Row:
    """Each measure of an arm's runs, and by how much it lies above that of plain runs on the same rows.

    Args:
        arm: the measures by what tells runs apart, the data set and the seed.
        plain: likewise.

    Returns:
        The number of runs, and for each measure its mean, the mean difference over the common runs and Student's 95 %
        interval of that, None where there are fewer than two.
    """
    common = sorted(arm.keys() & plain.keys())
    found: Row = {"runs": len(arm), "pairs": len(common)}
    for name in MEASURES:
        changes = [arm[run][name] - plain[run][name] for run in common]
        low, high = student(changes) if len(changes) > 1 else (None, None)
        found[name] = {
            "mean": average([run[name] for run in arm.values()]),
            "difference": average(changes) if changes else None,
            "low": low,
            "high": high,
        }
    return found


def over_seeds(values: Sequence[float]) -> float | None:
    """The standard deviation of a number over seeds; None for a single one."""
    return statistics.stdev(values) if len(values) > 1 else None
