"""How steadily a run trained: spikes and spread of its loss and of its gradient norm, step by step."""

import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from benchmarks.trials.table_parts import average, student

Row = dict[str, Any]
SETTLED = 1 / 3
"""The share of the steps that is left out of the loss's at the start, where any run learns fast."""
CLIPPED = 1.0
"""The norm above which the Trainer shortens a gradient."""
MEASURES = ("loss spikes", "loss spread", "largest gradient", "gradient spread", "clipped steps")
Found = Mapping[tuple[str, int], Mapping[str, float]]
"""The measures of an arm's runs, by data set and seed."""


def steadiness(log: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The measures of one run (our choice).

    Spikes are how far the largest loss, the task's alone, lies above the median, after the first third of the steps;
    spread is the standard deviation of the change from one step to the next. Gradients are those of the whole step,
    penalties included, before clipping, of all steps: penalties are largest early. Their spread is a share of the
    median, for arms have gradients of unlike size.
    """
    losses, norms = log["loss"][round(SETTLED * len(log["loss"])) :], log["grad_norm"]
    return {
        "loss spikes": max(losses) - statistics.median(losses),
        "loss spread": _spread(losses),
        "largest gradient": max(norms),
        "gradient spread": _spread(norms) / statistics.median(norms),
        "clipped steps": average([norm > CLIPPED for norm in norms]),
    }


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(after - before for before, after in pairwise(values))


def means(runs: Found) -> dict[str, float]:
    """Each measure's mean over an arm's runs; nothing where there is none."""
    return {name: average([run[name] for run in runs.values()]) for name in MEASURES if runs}


def compared(arm: Found, control: Found) -> Row:
    """By how much an arm's measures lie above a control's.

    Returns:
        The seeds of both, and for each measure the mean difference and Student's 95 % interval of it over the seeds,
        None where there are fewer than two. Runs are paired by data set and seed; a seed's data sets, which have most
        of their rows in common, are averaged first.
    """
    common = sorted(arm.keys() & control.keys())
    seeds = sorted({seed for _, seed in common})
    found: Row = {"seeds": seeds}
    for name in MEASURES:
        changes = [average([arm[run][name] - control[run][name] for run in common if run[1] == seed]) for seed in seeds]
        low, high = student(changes) if len(changes) > 1 else (None, None)
        found[name] = {"difference": average(changes) if changes else None, "low": low, "high": high}
    return found


def over_seeds(values: Sequence[float]) -> float | None:
    """The standard deviation of a number over seeds; None for a single one."""
    return statistics.stdev(values) if len(values) > 1 else None
