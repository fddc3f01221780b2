"""How often arms comply where they learned equally much: a method's strengths, interpolated at its control's loss.

At one strength two penalties may brake learning unequally, and what brakes more complies less whatever it holds.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from benchmarks.trials.regularizers_arms import ARMS, BY_NAME, FAMILIES, PLAIN, tried_on
from benchmarks.trials.table_parts import average, student

Row = dict[str, Any]
Runs = Mapping[str, Sequence[Row]]
Of = Callable[[Row], float]


def at_loss(path: Sequence[tuple[float, float]], loss: float) -> float | None:
    """What belongs to a loss on a path of pairs (loss, value), straight between its points; None off the path."""
    for (before, value), (after, other) in pairwise(path):
        if min(before, after) <= loss <= max(before, after):
            share = (loss - before) / (after - before) if after != before else 0.0
            return value + share * (other - value)
    return None


def matched(data: str, runs: Runs, loss: Of, compliance: Of) -> list[Row]:
    """Every method of several strengths that brake learning against its controls of one data set, on the seeds of all.

    Args:
        data: the data set.
        runs: those on it, by arm.
        loss: of a run on held-out rows of the task.
        compliance: the share of harmful requests that a run complied with.

    Returns:
        For each method and control the differences in compliance, one a seed, their mean, and Student's 95 % interval;
        None in place of a difference where the control learned more than plain fine-tuning or less than under the
        method's largest strength.
    """
    by_arm = {name: {run["seed"]: (loss(run), compliance(run)) for run in found} for name, found in runs.items()}
    return [
        _matched(family, control, [by_arm[name] for name in path], by_arm[control])
        for family in FAMILIES
        for control in _controls(family)
        if control in by_arm
        and len(path := _path(family, data, by_arm, by_arm[control].keys())) > 2
        and _brakes(by_arm[path[0]], by_arm[path[-1]])
    ]


def _path(family: str, data: str, runs: Mapping[str, Mapping[int, Any]], seeds: Iterable[int]) -> list[str]:
    """From no strength at all to the largest, those that were tried under all these seeds."""
    strengths = [arm.name for arm in tried_on(data) if arm.family == family and len(arm.safeguards) == 1]
    return [name for name in (PLAIN, *strengths) if {*seeds} <= runs.get(name, {}).keys()]


def _brakes(without: Mapping[int, Any], strongest: Mapping[int, Any]) -> bool:
    """Whether the largest strength costs learning under every seed; otherwise strengths do not lie along the loss."""
    return all(strongest[seed][0] > without[seed][0] for seed in without.keys() & strongest.keys())


def _controls(family: str) -> list[str]:
    """Those that are no method that a line could be drawn of."""
    named = dict.fromkeys(name for arm in ARMS if arm.family == family for name in arm.controls)
    return [name for name in named if not BY_NAME[name].controls]


def _matched(family: str, control: str, path: Sequence[Mapping[int, Any]], held: Mapping[int, Any]) -> Row:
    seeds = sorted(held)
    found = [at_loss([each[seed] for each in path], held[seed][0]) for seed in seeds]
    differences = [None if value is None else value - held[seed][1] for value, seed in zip(found, seeds, strict=True)]
    known = [each for each in differences if each is not None]
    low, high = student(known) if len(known) > 1 else (None, None)
    mean = average(known) if known else None
    return {
        "method": family, "control": control, "seeds": seeds, "differences": differences,
        "mean": mean, "low": low, "high": high,
    }  # fmt: skip
