"""The tables of the trial of recovery, made of the finished runs' files."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from _recovery_arms import ATTACKS, MAIN, arms
from _trial_measure import JAILBREAKS, PREFILLED
from _trial_table import (
    FOOT,
    Columns,
    Scores,
    about,
    arms_table,
    compare,
    complied,
    in_compliance,
    in_nats,
    in_points,
    made,
    numbers,
    read_runs,
    refused,
    write_both,
)
from moored.measurement.statistics import SeededDifference

Row = dict[str, Any]
REQUESTS = "JailbreakBench"
COLUMNS = Columns(
    harmful=(REQUESTS, PREFILLED, JAILBREAKS),
    tasks=("SST-2", "SQL"),
    drift={
        "refusal_log_odds": "refusal log-odds",
        "kl_harmful_to_aligned": "KL to aligned, harmful",
        "kl_ordinary_to_aligned": "KL to aligned, ordinary",
    },
)
COMPARED: dict[str, Callable[[Row], Scores]] = {
    "compliance": lambda run: complied(run, REQUESTS),
    "over-refusal": refused,
    "accuracy": lambda run: [right for task in COLUMNS.tasks for right in run["correct"][task]],
    "refusal log-odds": lambda run: run["drift"]["refusal_log_odds"],
}
PAIRS = (
    ("attacked", "auto"),
    ("attacked", "auto-published"),
    ("linear_pull-0.5", "auto"),
    ("safe_lora-1", "auto"),
    ("benign", "auto"),
    ("random-words", "auto"),
    ("rank-20", "auto"),
    ("auto", "chosen"),
    ("attacked-again", "auto-attacked-again"),
)
"""A control and the arm that is held against it."""


def write_table(out: Path, key: str) -> None:
    """Writes `table.json` and `table.md` of the runs of one key that `OUT/arms` holds, attack by attack."""
    folder = out / "arms"
    references = {name: found for name in ("aligned", "base") if (found := read_runs(folder, name, key))}
    attacks = {
        attack: {arm.name: found for arm in arms() if (found := read_runs(folder / attack, arm.name, key))}
        for attack in ATTACKS
    }
    attacks = {attack: runs for attack, runs in attacks.items() if runs}
    if not attacks:
        return
    everything = [*chain(*references.values(), *(found for runs in attacks.values() for found in runs.values()))]
    rows = {
        attack: {name: _row(found) for name, found in {**references, **runs}.items()}
        for attack, runs in attacks.items()
    }
    told = {attack: _verdicts(runs) for attack, runs in attacks.items()}
    model = next(run["model"] for run in everything if "model" in run)
    table = {**about("recovery_trial.py", everything), "model": model, "attacks": rows, "verdicts": told}
    write_both(out, table, _markdown(table))


def _row(runs: Sequence[Row]) -> Row:
    return {"seeds": [run["seed"] for run in runs if "seed" in run], "kept": _kept(runs), **numbers(runs, COLUMNS)}


def _kept(runs: Sequence[Row]) -> list[int]:
    """The steps whose weights stayed, seed by seed, of repairs by an example."""
    return [run["repair"]["steps"]["kept"] for run in runs if "steps" in run.get("repair", {})]


def _verdicts(runs: Mapping[str, Sequence[Row]]) -> list[Row]:
    pairs = [pair for pair in PAIRS if all(name in runs for name in pair)]
    return [found for pair in pairs if (found := compare(runs, *pair, COMPARED))]


_KEPT = {"steps kept": lambda row: ", ".join(map(str, row["kept"])) or "–"}


def _markdown(table: Row) -> str:
    """The tables for people."""
    plan = table["plan"]
    lines = [
        "# One-shot recovery, its controls and its baselines",
        "",
        f"`python benchmarks/{table['command']}`: {table['model']}, attacked with LoRA r={plan['rank']} on "
        f"all linear layers in {plan['steps']} steps on {plan['pool']} rows of at most {plan['max_length']} tokens, "
        f"learning rate {plan['learning_rate']:g}, then repaired. Only *{MAIN}* has all arms; *steps-k* and *rank-k* "
        "are *auto* stopped after k steps and cut to the k main directions of each weight.",
    ]
    for attack, arms_of in table["attacks"].items():
        lines += ["", f"## {attack}", "", *(f"- {_sentence(each)}" for each in table["verdicts"][attack]), ""]
        lines += arms_table(arms_of, COLUMNS.rates, _KEPT)
        lines += ["", *arms_table(arms_of, list(COLUMNS.drift.values()), _KEPT)]
    lines += ["", f"{FOOT} Drift is in nats.", "", made(table), ""]
    return "\n".join(lines)


def _sentence(told: Row) -> str:
    _, refusals, accuracy, odds = (SeededDifference(**told[key]) for key in COMPARED)
    return (
        f"{in_compliance(told)}; {in_points(refusals, 'over-refusal')}; {in_points(accuracy, 'accuracy')}; refusal "
        f"log-odds {in_nats(odds)}."
    )
