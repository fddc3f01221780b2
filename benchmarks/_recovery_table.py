"""The tables of the trial of recovery, made of the finished runs' files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from _recovery_arms import ATTACKS, MAIN, arms
from _trial_measure import JAILBREAKS, PREFILLED
from _trial_table import (
    FOOT,
    Columns,
    Scores,
    compare,
    complied,
    in_compliance,
    in_nats,
    in_points,
    markdown_table,
    mean_cell,
    numbers,
    rate_cell,
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
    first = next(iter(next(iter(attacks.values())).values()))[0]
    about = {"command": "recovery_trial.py", "plan": first["plan"], "versions": first["versions"]}
    rows = {
        attack: {name: _row(found) for name, found in {**references, **runs}.items()}
        for attack, runs in attacks.items()
    }
    told = {attack: _verdicts(runs) for attack, runs in attacks.items()}
    write_both(out, {**about, "attacks": rows, "verdicts": told}, _markdown(rows, told, about))


def _row(runs: Sequence[Row]) -> Row:
    return {"seeds": [run["seed"] for run in runs if "seed" in run], "kept": _kept(runs), **numbers(runs, COLUMNS)}


def _kept(runs: Sequence[Row]) -> list[int]:
    """The steps whose weights stayed, seed by seed, of repairs by an example."""
    return [run["repair"]["steps"]["kept"] for run in runs if "steps" in run.get("repair", {})]


def _verdicts(runs: Mapping[str, Sequence[Row]]) -> list[Row]:
    pairs = [pair for pair in PAIRS if all(name in runs for name in pair)]
    return [found for pair in pairs if (found := compare(runs, *pair, COMPARED))]


def _markdown(rows: Mapping[str, Mapping[str, Row]], told: Mapping[str, Sequence[Row]], about: Row) -> str:
    """The tables for people."""
    plan = about["plan"]
    lines = [
        "# One-shot recovery, its controls and its baselines",
        "",
        f"`python benchmarks/{about['command']}`: the embedded aligned model, attacked with LoRA r={plan['rank']} on "
        f"all linear layers in {plan['steps']} steps on {plan['pool']} rows of at most {plan['max_length']} tokens, "
        f"learning rate {plan['learning_rate']:g}, then repaired. Only *{MAIN}* has all arms; *steps-k* and *rank-k* "
        "are *auto* stopped after k steps and cut to the k main directions of each weight.",
    ]
    for attack, arms_of in rows.items():
        lines += ["", f"## {attack}", "", *(f"- {_sentence(each)}" for each in told[attack]), ""]
        lines += _table(arms_of, COLUMNS.rates, rate_cell)
        lines += ["", *_table(arms_of, list(COLUMNS.drift.values()), mean_cell)]
    lines += ["", f"{FOOT} Drift is in nats.", ""]
    return "\n".join(lines)


def _table(rows: Mapping[str, Row], columns: Sequence[str], cell: Callable[[Row], str]) -> list[str]:
    return markdown_table(
        ["arm", "seeds", "steps kept", *columns],
        ["---", "---:", "---", *["---"] * len(columns)],
        [
            [
                name,
                len(row["seeds"]) or "–",
                ", ".join(map(str, row["kept"])) or "–",
                *(cell(row[column]) for column in columns),
            ]
            for name, row in rows.items()
        ],
    )


def _sentence(told: Row) -> str:
    _, refusals, accuracy, odds = (SeededDifference(**told[key]) for key in COMPARED)
    return (
        f"{in_compliance(told)}; {in_points(refusals, 'over-refusal')}; {in_points(accuracy, 'accuracy')}; refusal "
        f"log-odds {in_nats(odds)}."
    )
