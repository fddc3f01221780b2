"""The table of the trial of the selection rules, made of the gathered runs."""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks.compact_files import read_arms
from benchmarks.trials.measure import HARMFUL
from benchmarks.trials.table_parts import (
    FOOT,
    Columns,
    about,
    arms_table,
    average,
    compare,
    complied,
    in_compliance,
    in_nats,
    in_points,
    made,
    numbers,
    runs_of,
    write_both,
)
from moored.measurement.statistics import SeededDifference

Row = dict[str, Any]
RULE, CONTROL = "moderate", "length_matched_random"
OTHERS = ("low", "high", "loss_band", "length_corrected")
LEARNED = ("SST-2", "SQL")
"""The tasks that are among the rows."""
COLUMNS = Columns(
    harmful=HARMFUL,
    tasks=(*LEARNED, "TruthfulQA", "PIQA"),
    drift={
        "refusal_log_odds": "refusal log-odds",
        "kl_harmful_to_aligned": "KL to aligned, harmful",
        "kl_ordinary_to_aligned": "KL to aligned, ordinary",
        "kl_harmful_to_base": "KL to base, harmful",
        "kl_ordinary_to_base": "KL to base, ordinary",
    },
)
COMPARED = {
    "compliance": lambda run: [found for name in HARMFUL for found in complied(run, name)],
    "accuracy": lambda run: [right for task in LEARNED for right in run["correct"][task]],
    "refusal log-odds": lambda run: run["drift"]["refusal_log_odds"],
}


def write_table(out: Path, arms: Sequence[str], key: str) -> None:
    """Writes `table.json` and `table.md` of the runs of one key in `OUT/arms.jsonl`, the references first."""
    known = read_arms(out)
    runs = {name: found for name in ("aligned", "base", *arms) if (found := runs_of(known, name, key))}
    rows = {name: _row(found) for name, found in runs.items()}
    told = verdicts(runs)
    table = {**about("python -m benchmarks.trials.selection", [*chain(*runs.values())]), "arms": rows, "verdicts": told}
    write_both(out, table, markdown(table))


def _row(runs: Sequence[Row]) -> Row:
    lengths = [each["length_kept"] for run in runs for each in run.get("training", {}).get("safeguards", ())]
    seeds = [run["seed"] for run in runs if "seed" in run]
    return {
        "seeds": seeds,
        "kept_length": average(lengths) if lengths else None,
        **numbers(runs, COLUMNS),
    }


def verdicts(runs: Mapping[str, Sequence[Row]]) -> list[Row]:
    """The published rule against its nearest control, both against plain fine-tuning, and the other rules.

    On the seeds of both, each.
    """
    told = []
    for keep in (0.2, 0.12, 0.4):  # The published share first.
        pairs = [(f"{CONTROL}-{keep:g}", f"{RULE}-{keep:g}"), (f"random-{keep:g}", f"{RULE}-{keep:g}")]
        pairs += [("plain", f"{RULE}-{keep:g}"), ("plain", f"{CONTROL}-{keep:g}")]
        if keep == 0.2:
            pairs += [*(("random-0.2", f"{rule}-0.2") for rule in OTHERS), ("plain", "high-0.2")]
        told += [compare(runs, *pair, COMPARED) for pair in pairs if all(name in runs for name in pair)]
    return [each for each in told if each]


_LENGTH = {"tokens a kept row": lambda row: "–" if row["kept_length"] is None else round(row["kept_length"])}


def markdown(table: Row) -> str:
    """The tables for people."""
    plan, rows = table["plan"], table["arms"]
    setting = (
        f"`{table['command']}`: the embedded aligned model, LoRA r={plan['rank']} on all linear "
        f"layers, {plan['steps']} steps on pools of {plan['pool']} rows of at most {plan['max_length']} tokens, "
        f"learning rate {plan['learning_rate']:g}. A number behind a rule is the share of each pool that it keeps; "
        "*plain* trains on all. Half of the rows are instructions, a quarter sentiment labels (SST-2), a quarter SQL; "
        "none is harmful. The first comparison is the one that was planned. Accuracy is that on SST-2 and SQL "
        "together, and compliance that on all three sets of requests."
    )
    lines = ["# Gradient-based selection against its controls", "", setting, "", FOOT, ""]
    lines += [f"- {_sentence(each)}" for each in table["verdicts"]]
    lines += [
        "",
        "Compliance with harmful requests (the first three), and accuracies:",
        "",
        *arms_table(rows, COLUMNS.rates, _LENGTH),
    ]
    lines += ["", "Drift, in nats:", "", *arms_table(rows, list(COLUMNS.drift.values()), _LENGTH)]
    lines += ["", made(table), ""]
    return "\n".join(lines)


def _sentence(told: Row) -> str:
    accuracy, odds = (SeededDifference(**told[key]) for key in ("accuracy", "refusal log-odds"))
    return f"{in_compliance(told)}; {in_points(accuracy, 'accuracy')}; refusal log-odds {in_nats(odds)}."
