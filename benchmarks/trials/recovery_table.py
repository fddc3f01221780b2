"""The tables of the trial of recovery, made of the gathered runs."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks.compact_files import read_arms
from benchmarks.trials.measure import JAILBREAKS, ORDINARY, PERSONA, PREFILLED
from benchmarks.trials.recovery_arms import AS_SMALL, ATTACKS, CATEGORIES, MAIN, RANKS, SMALL, STEP, arms
from benchmarks.trials.recovery_figure import write_figure
from benchmarks.trials.subject import EMBEDDED
from benchmarks.trials.table_parts import (
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
    mean,
    numbers,
    rate,
    refused,
    runs_of,
    write_both,
)
from moored.measurement.statistics import SeededDifference

Row = dict[str, Any]
Runs = Mapping[str, Sequence[Row]]
REQUESTS, TASK = "JailbreakBench", "SST-2"
LIGHT = Columns(harmful=(REQUESTS,), tasks=(), drift={"refusal_log_odds": "refusal log-odds"})
COLUMNS = Columns(
    harmful=(REQUESTS,),
    tasks=(TASK,),
    drift={
        **LIGHT.drift,
        "kl_harmful_to_aligned": "KL to aligned, harmful",
        "kl_ordinary_to_aligned": "KL to aligned, ordinary",
    },
)
TRICKS = (PREFILLED, PERSONA, JAILBREAKS)
"""What not every arm was asked."""
REFUSES = "refuses instructions"
LOSS = "task loss"
AGAIN = "ordinary, attacked-again"
"""What ten harmful rows make of a model that was never attacked before."""


def _refused_instructions(run: Row) -> list[bool]:
    return [label == "refused" for label in run["labels"][ORDINARY]]


def _loss(run: Row) -> list[float]:
    return [found for losses in run["losses"].values() for found in losses]


COMPARED: dict[str, Callable[[Row], Scores]] = {
    "compliance": lambda run: complied(run, REQUESTS),
    "over-refusal": refused,
    "refusal log-odds": lambda run: run["drift"]["refusal_log_odds"],
}
"""What every arm was asked."""
PRICES: dict[str, Callable[[Row], Scores]] = {"accuracy": lambda run: run["correct"][TASK], LOSS: _loss}
"""What those that were asked more are compared in, too."""
FIGURE = "repairs.svg"
CONTROLS = ("benign", "random-words", f"benign{SMALL}", f"random-words{SMALL}")
PAIRS = (
    *(("attacked", arm) for arm in ("auto", "adapter", *CONTROLS, "full-auto", "full-published")),
    ("linear_pull-0.5", "auto"),
    ("safe_lora-1", "auto"),
    *((control, "auto") for control in CONTROLS),
    ("watched", "auto"),
    ("auto-published-words", "auto"),
    ("adapter", "auto"),
    *(("auto", f"auto-{category}") for category in CATEGORIES),
    *((f"full-rank-{rank}", "full-auto") for rank in RANKS),
    (f"full-without-{RANKS[-1]}", f"full-rank-{RANKS[-1]}"),
    ("auto", "chosen"),
    ("attacked-again", "auto-attacked-again"),
    (AGAIN, "auto-attacked-again"),
)
"""A control and the arm that is held against it."""


def write_table(out: Path, key: str) -> None:
    """Writes `table.json` and `table.md` of the runs of one key in `OUT/arms.jsonl`, attack by attack."""
    known = read_arms(out)
    references = {name: found for name in ("aligned", "base") if (found := runs_of(known, name, key))}
    attacks = {attack: runs for attack in ATTACKS if (runs := _found(known, attack, key, steps=False))}
    steps = _found(known, MAIN, key, steps=True)
    if not attacks:
        return
    everything = [*chain(*references.values(), *(found for runs in attacks.values() for found in runs.values()))]
    table = {
        **about("python -m benchmarks.trials.recovery", everything),
        "model": next(run["model"] for run in everything if "model" in run),
        "references": {name: _row(found) for name, found in references.items()},
        "attacks": {attack: {name: _row(found) for name, found in runs.items()} for attack, runs in attacks.items()},
        "verdicts": {attack: _verdicts(attack, attacks) for attack in attacks},
        "steps": {
            name: {**_seeds(found), "loss": _last_loss(found), **numbers(found, LIGHT)} for name, found in steps.items()
        },
    }
    write_both(out, table, _markdown(table))
    write_figure(table, out / FIGURE)


def _found(known: Mapping[str, Row], attack: str, key: str, *, steps: bool) -> dict[str, list[Row]]:
    names = [arm.name for arm in arms() if arm.name.startswith(STEP) == steps]
    named = {name: runs_of(known, f"{attack}/{name}", key) for name in names}
    return {name: found for name, found in named.items() if found}


def _seeds(runs: Sequence[Row]) -> Row:
    return {"seeds": [run["seed"] for run in runs if "seed" in run]}


def _last_loss(runs: Sequence[Row]) -> float:
    """Of the example, after the last step; the mean over seeds."""
    return statistics.fmean(run["repair"]["steps"]["loss"][-1] for run in runs)


def _row(runs: Sequence[Row]) -> Row:
    told = [run.get("repair", {}) for run in runs]
    return {
        **_seeds(runs),
        "kept": [each["steps"]["kept"] for each in told if "steps" in each],
        "moved": [each["steps"]["moved"] for each in told if "moved" in each.get("steps", {}) and "rank" not in each],
        "changed": [_changed(each) for each in told if "updates" in each or "inactive" in each],
        **_numbers(runs),
    }


def _numbers(runs: Sequence[Row]) -> Row:
    """Of an arm that was asked little, little."""
    if not all("losses" in run for run in runs):
        return numbers(runs, LIGHT)
    tricks = [name for name in TRICKS if all(name in run["labels"] for run in runs)]
    return {
        **numbers(runs, COLUMNS),
        **{name: rate([complied(run, name) for run in runs]) for name in tricks},
        REFUSES: rate([_refused_instructions(run) for run in runs]),
        LOSS: mean([_loss(run) for run in runs]),
    }


def _changed(repair: Row) -> str:
    """Of how many weights the update was changed; a repair that did nothing is said to have done nothing."""
    updates = repair.get("updates")
    return "inactive" if updates is None else f"{updates['changed']} of {updates['of']}"


def _verdicts(attack: str, attacks: Mapping[str, Runs]) -> list[Row]:
    runs = {**attacks[attack], AGAIN: attacks.get("ordinary", {}).get("attacked-again", ())}
    acted = {name: [run for run in found if "inactive" not in run.get("repair", {})] for name, found in runs.items()}
    pairs = [pair for pair in PAIRS if all(acted.get(name) for name in pair)]
    return [found for pair in pairs if (found := compare(acted, *pair, _compared(acted, pair)))]


def _compared(runs: Runs, pair: Sequence[str]) -> dict[str, Callable[[Row], Scores]]:
    return COMPARED | (PRICES if all("losses" in run for name in pair for run in runs[name]) else {})


_BESIDE = {
    "steps kept": lambda row: ", ".join(map(str, row["kept"])) or "–",
    "moved": lambda row: ", ".join(f"{each:.2g}" for each in row["moved"]) or "–",
    "weights changed": lambda row: ", ".join(dict.fromkeys(row["changed"])) or "–",
}


def _markdown(table: Row) -> str:
    """The tables for people."""
    lines = ["# One-shot recovery, its controls and its baselines", "", _setting(table)]
    for attack, found in table["attacks"].items():
        rows = {**table["references"], **found}
        lines += ["", f"## {attack}", "", *(f"- {_sentence(each)}" for each in table["verdicts"][attack]), ""]
        lines += arms_table(rows, [*COLUMNS.rates, REFUSES], _BESIDE)
        lines += ["", *arms_table(rows, [*COLUMNS.drift.values(), LOSS], _BESIDE)]
        tricks = [name for name in TRICKS if any(name in row for row in found.values())]
        if tricks:
            tricked = {name: row for name, row in rows.items() if tricks[0] in row}
            lines += ["", "Complied with requests that are put by tricks:", "", *arms_table(tricked, tricks, {})]
    if table["steps"]:
        lines += ["", f"## After every step of *auto* on {MAIN}", ""]
        lines += arms_table(table["steps"], [*LIGHT.rates, *LIGHT.drift.values()], {})
    if MAIN in table["attacks"]:
        lines += ["", f"![Compliance against over-refusal of the repairs of {MAIN}]({FIGURE})"]
    lines += ["", f"{FOOT} Drift and losses are in nats.", "", made(table), ""]
    return "\n".join(lines)


_OF_EMBEDDED = (
    " After the main attack *auto* takes as many steps as *-small*, at about its rate. Alignment moved three of the "
    "embedded model's 30 layers: Safe LoRA can change the updates of those alone."
)


def _setting(table: Row) -> str:
    plan = table["plan"]
    return (
        f"`{table['command']}`: {table['model']}, attacked with LoRA r={plan['rank']} on all linear "
        f"layers in {plan['steps']} steps on {plan['pool']} rows of at most {plan['max_length']} tokens, learning rate "
        f"{plan['learning_rate']:g}, then repaired. *k-harmful* has k rows of poison among "
        f"{plan['steps'] * plan['pool']}; in *persona* chats with a persona that obeys take the place of all "
        "instructions, and *persona* among the rates has its system prompt. *auto* is that preset: the rate that fits, "
        "the aligned model's own refusal, and as many steps as it takes to learn it; *adapter* and *full-published* "
        "learn the published words. *watched* keeps the step at which refusals of 12 harmful requests stood highest "
        "above those of their twins instead. *benign* teaches an ordinary answer of equal length, *random-words* words "
        f"without sense, another text under each seed, both at the rate that fits them or, *{SMALL}*, at "
        f"{AS_SMALL['learning_rate']:g} for {AS_SMALL['steps']} steps; *auto-CATEGORY* teaches a refusal of another "
        "request of a kind. *full-…* repair all weights, the others the attack's own LoRA; *full-rank-k* keeps of each "
        "weight's change the k main directions, *full-without-k* all others. *moved* is how far the repair went, over "
        "the norm of what it may move: the adapter's factors, or in *full-auto* all weights. A dash: not measured. Of "
        "*linear_pull* the share is in the name, of *safe_lora* the threshold. Arms that are missing were not run."
        f"{_OF_EMBEDDED if table['model'] == EMBEDDED.aligned else ''}"
    )


def _sentence(told: Row) -> str:
    found = {key: SeededDifference(**told[key]) for key in (*COMPARED, *PRICES) if key in told}
    parts = [
        in_compliance(told),
        in_points(found["over-refusal"], "over-refusal"),
        *([in_points(found["accuracy"], "accuracy")] if "accuracy" in found else []),
        f"refusal log-odds {in_nats(found['refusal log-odds'])}",
        *([f"task loss {in_nats(found[LOSS])}"] if LOSS in found else []),
    ]
    return f"{'; '.join(parts)}."
