"""The table of the trial of the selection rules, made of the finished runs' files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from _trial_measure import HARMFUL
from _trial_table import (
    FOOT,
    Columns,
    average,
    compare,
    complied,
    in_compliance,
    in_nats,
    markdown_table,
    mean_cell,
    numbers,
    rate_cell,
    read_runs,
    write_both,
)
from moored.measurement.statistics import SeededDifference

Row = dict[str, Any]
RULE, CONTROL = "moderate", "length_matched_random"
COLUMNS = Columns(
    harmful=HARMFUL,
    tasks=("SST-2", "SQL", "TruthfulQA", "PIQA"),
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
    "refusal log-odds": lambda run: run["drift"]["refusal_log_odds"],
}


def write_table(out: Path, arms: Sequence[str], key: str) -> None:
    """Writes `table.json` and `table.md` of the runs of one key that `OUT/arms` holds, the references first."""
    runs = {name: found for name in ("aligned", "base", *arms) if (found := read_runs(out / "arms", name, key))}
    rows = {name: _row(found) for name, found in runs.items()}
    told = verdicts(runs)
    first = next(iter(runs.values()))[0]
    about = {"command": "selection_trial.py", "plan": first["plan"], "versions": first["versions"]}
    write_both(out, {**about, "arms": rows, "verdicts": told}, markdown(rows, told, about))


def _row(runs: Sequence[Row]) -> Row:
    lengths = [each["length_kept"] for run in runs for each in run.get("training", {}).get("safeguards", ())]
    seeds = [run["seed"] for run in runs if "seed" in run]
    return {
        "seeds": seeds,
        "kept_length": average(lengths) if lengths else None,
        **numbers(runs, COLUMNS),
    }


def verdicts(runs: Mapping[str, Sequence[Row]]) -> list[Row]:
    """The published rule against its nearest control, and both against plain fine-tuning, on the seeds of both."""
    told = []
    for keep in (0.12, 0.2, 0.4):
        pairs = [(f"{CONTROL}-{keep:g}", f"{RULE}-{keep:g}"), (f"random-{keep:g}", f"{RULE}-{keep:g}")]
        pairs += [("plain", f"{RULE}-{keep:g}"), ("plain", f"{CONTROL}-{keep:g}")]
        told += [compare(runs, *pair, COMPARED) for pair in pairs if all(name in runs for name in pair)]
    return [each for each in told if each]


def markdown(rows: Mapping[str, Row], told: Sequence[Row], about: Row) -> str:
    """The tables for people."""
    plan = about["plan"]
    setting = (
        f"`python benchmarks/{about['command']}`: the embedded aligned model, LoRA r={plan['rank']} on all linear "
        f"layers, {plan['steps']} steps on pools of {plan['pool']} rows of at most {plan['max_length']} tokens, "
        f"learning rate {plan['learning_rate']:g}. A number behind a rule is the share of each pool that it keeps; "
        "*plain* trains on all."
    )
    lines = ["# Gradient-based selection against its controls", "", setting, ""]
    lines += [f"- {_sentence(each)}" for each in told]
    safety = _table(rows, COLUMNS.rates, rate_cell)
    lines += ["", "Compliance with harmful requests (three sets), and accuracies:", "", *safety]
    lines += ["", "Drift, in nats:", "", *_table(rows, list(COLUMNS.drift.values()), mean_cell)]
    lines += ["", FOOT, ""]
    return "\n".join(lines)


def _table(rows: Mapping[str, Row], columns: Sequence[str], cell: Callable[[Row], str]) -> list[str]:
    lengths = {name: "–" if row["kept_length"] is None else round(row["kept_length"]) for name, row in rows.items()}
    return markdown_table(
        ["arm", "seeds", "tokens a kept row", *columns],
        ["---", "---:", "---:", *["---"] * len(columns)],
        [
            [name, len(row["seeds"]) or "–", lengths[name], *(cell(row[column]) for column in columns)]
            for name, row in rows.items()
        ],
    )


def _sentence(told: Row) -> str:
    return f"{in_compliance(told)}; refusal log-odds {in_nats(SeededDifference(**told['refusal log-odds']))}."
