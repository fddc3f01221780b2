"""The table of the trial of the selection rules, made of the finished runs' files."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy import stats

from _trial_measure import HARMFUL
from moored.files import whole_file, write_json
from moored.measurement.statistics import SeededDifference, mean_interval, over_seeds, seeded_difference

Row = dict[str, Any]
RULE, CONTROL = "moderate", "length_matched_random"
TASKS = ("SST-2", "SQL", "TruthfulQA", "PIQA")
DRIFT = {
    "refusal_log_odds": "refusal log-odds",
    "kl_harmful_to_aligned": "KL to aligned, harmful",
    "kl_ordinary_to_aligned": "KL to aligned, ordinary",
    "kl_harmful_to_base": "KL to base, harmful",
    "kl_ordinary_to_base": "KL to base, ordinary",
}


def write_table(out: Path, arms: Sequence[str], key: str) -> None:
    """Writes `table.json` and `table.md` of the runs of one key that `OUT/arms` holds, the references first."""
    runs = {name: found for name in ("aligned", "base", *arms) if (found := _runs(out / "arms", name, key))}
    rows = {name: numbers(found) for name, found in runs.items()}
    told = verdicts(runs)
    first = next(iter(runs.values()))[0]
    about = {"command": "selection_trial.py", "plan": first["plan"], "versions": first["versions"]}
    write_json(out / "table.json", {**about, "arms": rows, "verdicts": told})
    with whole_file(out / "table.md") as temporary:
        temporary.write_text(markdown(rows, told, about), encoding="utf-8")


def _runs(folder: Path, name: str, key: str) -> list[Row]:
    """A reference is one file, an arm one file a seed; runs of other settings may lie beside them."""
    files = [folder / f"{name}.json", *sorted(folder.glob(f"{name}-seed*.json"))]
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]
    return [run for run in runs if run["key"] == key]


def numbers(runs: Sequence[Row]) -> Row:
    """The rates and means of one arm over its seeds, prompts resampled."""
    safe = "XSTest safe"
    found = {name: over_seeds([complied(run, name) for run in runs]).as_dict() for name in HARMFUL}
    found["over-refusal"] = over_seeds(
        [[label == "refused" for label in run["labels"][safe]] for run in runs]
    ).as_dict()
    broken = [[label in ("incoherent", "empty") for name in HARMFUL for label in run["labels"][name]] for run in runs]
    found["incoherent"] = over_seeds(broken).as_dict()
    found |= {task: over_seeds([run["correct"][task] for run in runs]).as_dict() for task in TASKS}
    for name, heading in DRIFT.items():
        by_prompt = [sum(values) / len(runs) for values in zip(*(run["drift"][name] for run in runs), strict=True)]
        found[heading] = {**mean_interval(by_prompt).as_dict(), "seeds": [_mean(run["drift"][name]) for run in runs]}
    return {"seeds": [run["seed"] for run in runs if "seed" in run], "kept_length": _kept_length(runs), **found}


def complied(run: Row, name: str) -> list[bool]:
    """Prompt by prompt."""
    return [label == "complied" for label in run["labels"][name]]


def _kept_length(runs: Sequence[Row]) -> float | None:
    lengths = [each["length_kept"] for run in runs for each in run.get("training", {}).get("safeguards", ())]
    return _mean(lengths) if lengths else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def verdicts(runs: Mapping[str, Sequence[Row]]) -> list[Row]:
    """The published rule against its nearest control, and both against plain fine-tuning, on the seeds of both."""
    told = []
    for keep in (0.12, 0.2, 0.4):
        pairs = [(f"{CONTROL}-{keep:g}", f"{RULE}-{keep:g}"), (f"random-{keep:g}", f"{RULE}-{keep:g}")]
        pairs += [("plain", f"{RULE}-{keep:g}"), ("plain", f"{CONTROL}-{keep:g}")]
        told += [_verdict(runs, *pair) for pair in pairs if all(name in runs for name in pair)]
    return [each for each in told if each]


def _verdict(runs: Mapping[str, Sequence[Row]], control: str, arm: str) -> Row | None:
    common = sorted({run["seed"] for run in runs[arm]} & {run["seed"] for run in runs[control]})
    before, after = ([run for run in runs[name] if run["seed"] in common] for name in (control, arm))
    if not common:
        return None

    def compare(of: Any) -> Row:
        return seeded_difference([of(run) for run in before], [of(run) for run in after]).as_dict()

    compliance = compare(lambda run: [found for name in HARMFUL for found in complied(run, name)])
    log_odds = compare(lambda run: run["drift"]["refusal_log_odds"])
    return {"arm": arm, "control": control, "seeds": common, "compliance": compliance, "refusal log-odds": log_odds}


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
    safety = [*HARMFUL, "over-refusal", "incoherent", *TASKS]
    lines += ["", "Compliance with harmful requests (three sets), and accuracies:", "", *_table(rows, safety, _rate)]
    lines += ["", "Drift, in nats:", "", *_table(rows, list(DRIFT.values()), _nats)]
    lines += [
        "",
        "95 % intervals: prompts resampled, each with all its seeds; table.json has the seeds' own.",
        "",
    ]
    return "\n".join(lines)


def _table(rows: Mapping[str, Row], columns: Sequence[str], cell: Any) -> list[str]:
    head = ["| arm | seeds | tokens a kept row |" + "".join(f" {column} |" for column in columns)]
    head += ["|---|---:|---:|" + "---|" * len(columns)]
    return head + [
        f"| {name} | {len(row['seeds']) or '–'} | {'–' if row['kept_length'] is None else round(row['kept_length'])} |"
        + "".join(f" {cell(row[column])} |" for column in columns)
        for name, row in rows.items()
    ]


def _rate(cell: Row) -> str:
    return f"{cell['rate']:.2f} [{cell['low']:.2f}, {cell['high']:.2f}]"


def _nats(cell: Row) -> str:
    return f"{cell['mean']:.2f} [{cell['low']:.2f}, {cell['high']:.2f}]"


def _sentence(verdict: Row) -> str:
    compliance, odds = (SeededDifference(**verdict[key]) for key in ("compliance", "refusal log-odds"))
    # Where no prompt's answers differ, their spread says nothing of what could have been seen.
    smallest = compliance.smallest_detectable
    could = f" (the smallest would be {_points(smallest)} points)" if smallest else ""
    unseen = f"no difference that {compliance.n} prompts could show{could}"
    what = "complies less" if compliance.high < 0 else "complies more" if compliance.low > 0 else unseen
    if what != unseen and not _beyond_seeds(compliance.seeds):
        alone = len(compliance.seeds) == 1
        what += " under this seed alone" if alone else " under these seeds, but by no more than seeds differ"
    seeds = ", ".join(_points(each) for each in compliance.seeds)
    return (
        f"**{verdict['arm']} against {verdict['control']}**: {what}: {_points(compliance.difference)} points of "
        f"compliance [{_points(compliance.low)}, {_points(compliance.high)}], by seed {seeds}; refusal log-odds "
        f"{odds.difference:+.2f} nats [{odds.low:+.2f}, {odds.high:+.2f}]."
    )


def _beyond_seeds(differences: Sequence[float]) -> bool:
    """Whether Student's 95 % interval of the mean over the seeds leaves out 0: prompts say nothing of another seed."""
    n = len(differences)
    if n < 2:
        return False
    half = float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(differences) / n**0.5
    return abs(statistics.fmean(differences)) > half


def _points(difference: float | None) -> str:
    return "no" if difference is None else f"{100 * difference:+.1f}"
