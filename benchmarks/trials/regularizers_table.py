"""The table of the trial of the penalties, made of the gathered runs."""

import json
import statistics
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks.compact_files import read_arms
from benchmarks.trials.frontier_figure import write_figure
from benchmarks.trials.matched_learning import matched
from benchmarks.trials.regularizers_arms import ARMS, BY_NAME, ORDER, PLAIN, tried_on
from benchmarks.trials.regularizers_text import ALIKE, markdown
from benchmarks.trials.stability import compared, means, over_seeds, steadiness
from benchmarks.trials.table_parts import (
    BROKEN,
    SEEDS_NEEDED,
    Columns,
    about,
    average,
    compare,
    complied,
    is_shown,
    mean,
    numbers,
    rate,
    refused,
    runs_of,
    smallest_difference,
    student,
    write_both,
)
from moored.measurement.statistics import SeededDifference

Row = dict[str, Any]
Runs = Mapping[str, Sequence[Row]]
HARMFUL, TASKS = "JailbreakBench", ("SST-2", "SQL")
COLUMNS = Columns(
    harmful=(HARMFUL,),
    tasks=TASKS,
    drift={
        "refusal_log_odds": "refusal log-odds",
        "kl_harmful_to_aligned": "KL to aligned, harmful",
        "kl_ordinary_to_aligned": "KL to aligned, ordinary",
    },
)
REFERENCES = ("aligned", "base")


def accuracy(run: Row) -> list[bool]:
    """Question by question, of both tasks."""
    return [found for task in TASKS for found in run["correct"][task]]


def loss(run: Row) -> list[float]:
    """The same of the answers' losses."""
    return [found for task in TASKS for found in run["losses"][task]]


def _compliance(run: Row) -> float:
    return average(complied(run, HARMFUL))


COMPARED = {
    "compliance": lambda run: complied(run, HARMFUL),
    "over-refusal": refused,
    "task accuracy": accuracy,
    "refusal log-odds": lambda run: run["drift"]["refusal_log_odds"],
    "task loss": loss,
    "incoherent": lambda run: [label in BROKEN for label in run["labels"][HARMFUL]],
}
ALSO = ("over-refusal", "incoherent", "task accuracy", "task loss")
"""What else a comparison tells in a word."""


def write_table(out: Path, key: str, constant: float | None = None) -> None:
    """Writes `table.json`, `table.md` and `figure.svg` of the runs of one key in `OUT/arms.jsonl`.

    Args:
        out: the folder.
        key: of the runs.
        constant: the task accuracy of who gives every question of a task the same answer, the best one.
    """
    known = read_arms(out)
    references = _found(known, "", REFERENCES, key)
    runs = {
        name: made for name in ORDER if (made := _found(known, f"{name}/", [arm.name for arm in tried_on(name)], key))
    }
    if not runs:
        print("There is no finished run yet, so there is no table.")
        return
    everything = [*chain(*references.values(), *(found for arms in runs.values() for found in arms.values()))]
    _assert_same_rows(everything)
    table = {
        **about("python -m benchmarks.trials.regularizers", everything),
        "constant": constant,
        "tokens": [row["text"] for row in json.loads((out / "safety_tokens.json").read_text(encoding="utf-8"))],
        "references": {name: row(found) for name, found in references.items()},
        "data": {
            name: {
                "arms": {arm: row(found) for arm, found in made.items()},
                "verdicts": verdicts(name, made),
                "matched": matched(name, made, lambda run: average(loss(run)), _compliance),
            }
            for name, made in runs.items()
        },
        "stability": stability(runs),
    }
    write_both(out, table, markdown(table))
    write_figure(table, out / "figure.svg")


def _assert_same_rows(runs: Sequence[Row]) -> None:
    """Arms differ in their penalties alone."""
    of: dict[tuple[float, int], set[str]] = {}
    for run in runs:
        if "training" in run:
            of.setdefault((run["poisoned"], run["seed"]), set()).add(run["training"]["tokens_sha256"])
    for (poisoned, seed), hashes in of.items():
        assert len(hashes) == 1, f"Arms with {poisoned:.0%} of poison and seed {seed} trained on different rows."


def _found(known: Mapping[str, Row], place: str, names: Sequence[str], key: str) -> dict[str, list[Row]]:
    return {name: found for name in names if (found := runs_of(known, f"{place}{name}", key))}


def row(runs: Sequence[Row]) -> Row:
    """The numbers of one arm on one data set."""
    return {
        "seeds": [run["seed"] for run in runs if "seed" in run],
        **numbers(runs, COLUMNS),
        "task accuracy": rate([accuracy(run) for run in runs]),
        "task loss": mean([loss(run) for run in runs]),
        "strengths": [[each["strength"] for each in run.get("training", {}).get("safeguards", ())] for run in runs],
        "penalties": _penalties(runs),
        "led": _led(runs),
    }


def _penalties(runs: Sequence[Row]) -> Row:
    """Of each penalty the median over the steps of its share of the loss and of its gradient's ratio to the task's."""
    logs = [run["training"]["log"] for run in runs if "training" in run]
    names = sorted({key.split("/")[1] for log in logs for key in log if key.startswith("safety/")})
    return {
        name: {
            key: average([statistics.median(log[f"safety/{name}/{key}"]) for log in logs])
            for key in ("share", "gradient_ratio")
        }
        for name in names
    }


def _led(runs: Sequence[Row]) -> Row | None:
    """How many weights had a direction, and the largest eigenvalue of their operators."""
    guides = [
        guide
        for run in runs
        for safeguard in run.get("training", {}).get("safeguards", ())
        for guide in safeguard.get("guides", {}).values()
        if guide.get("norm")
    ]
    if not guides:
        return None
    return {"weights": len(guides) // len(runs), "largest eigenvalue": max(guide["eigenvalue"] for guide in guides)}


def verdicts(data: str, runs: Runs) -> list[Row]:
    """Every arm that a verdict rests on against plain fine-tuning and its controls, on the seeds of both."""
    pairs = [(control, arm) for arm in tried_on(data) if arm.planned for control in (PLAIN, *arm.controls)]
    known = [
        (control, arm.name) for control, arm in pairs if control != arm.name and {control, arm.name} <= runs.keys()
    ]
    told = [each for control, arm in known if (each := compare(runs, control, arm, COMPARED))]
    return [{**each, **_outcome(each)} for each in told]


def _outcome(told: Row) -> Row:
    """What a comparison says of compliance, and what else differs where prompts and seeds both show it.

    `less` or `more` where both show it; `alike` where both intervals lie within `ALIKE` of 0; `unclear` in all other
    cases, and None where the seeds are too few to tell.
    """
    found = SeededDifference(**told["compliance"])
    outcome = "alike" if _is_alike(found) else "unclear"
    if is_shown(found):
        outcome = "less" if found.difference < 0 else "more"
    also = [(name, each) for name in ALSO if is_shown(each := SeededDifference(**told[name]))]
    return {
        "outcome": None if len(told["seeds"]) < SEEDS_NEEDED else outcome,
        "would show": smallest_difference(found),
        "also": [f"{name} {'up' if each.difference > 0 else 'down'}" for name, each in also],
    }


def _is_alike(found: SeededDifference) -> bool:
    return all(abs(bound) <= ALIKE for bound in (found.low, found.high, *student(found.seeds)))


def stability(runs: Mapping[str, Runs]) -> Row:
    """Of each arm: how steadily it trained against plain and its controls, and what another seed changed."""
    steady = {
        arm.name: {
            (name, run["seed"]): steadiness(run["training"]["log"])
            for name, made in runs.items()
            for run in made.get(arm.name, ())
        }
        for arm in ARMS
    }
    return {
        name: {
            "runs": len(found),
            "against": {
                control: compared(found, steady[control])
                for control in (PLAIN, *BY_NAME[name].controls)
                if name != PLAIN
            },
            **means(found),
            "plain": means({run: steady[PLAIN][run] for run in found if run in steady[PLAIN]}),
            "over seeds": _over_seeds(runs, name),
            "plain over seeds": _over_seeds({data: made for data, made in runs.items() if name in made}, PLAIN),
        }
        for name, found in steady.items()
        if found
    }


def _over_seeds(runs: Mapping[str, Runs], arm: str) -> Row:
    """The standard deviation over the seeds of what was measured, its mean over the data sets."""
    found = {}
    for name, scores in COMPARED.items():
        spreads = [over_seeds([average(scores(run)) for run in made[arm]]) for made in runs.values() if arm in made]
        known = [each for each in spreads if each is not None]
        found[name] = average(known) if known else None
    return found
