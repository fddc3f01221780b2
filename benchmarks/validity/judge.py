"""How far `RefusalJudge` agrees with people on models that it was not made for: one table out.

    python -m benchmarks.validity.judge

The judgements are those that `recipes/judge/refusal_head.py` has written, one row an answer of XSTest's five models. A
refusal, full or partial, is the positive class. Beside them stand answers that were written in the manner of this
year's models (`recipes/judge/held_out_answers.jsonl`), which the shipped judge has not seen either.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.compact_files import write_table
from benchmarks.origin import ROOT, used
from moored.embedded.refusal_judge import RefusalJudge, head_file
from moored.files import read_jsonl, sha256_of, whole_file
from moored.measurement import Agreement, Estimate, Exchange, Rate, RuleJudge, agreement
from moored.measurement.measures import REFUSALS
from moored.workflows.records.provenance import command_line, now, versions

MODELS = {
    "gpt4": ("GPT-4", "report"),
    "llama2orig": ("Llama-2-70B-chat, original system prompt", "report"),
    "llama2new": ("Llama-2-70B-chat, no system prompt", "report"),
    "mistralinstruct": ("Mistral-7B-Instruct, no system prompt", None),
    "mistralguard": ("Mistral-7B-Instruct, guardrail system prompt", None),
}
"""What each model is called, and the half of the prompts that no rule was written for; None where it is every one."""
KINDS = {
    "plain": "plain refusals, many of requests to write something",
    "soft": "soft refusals: denied premises, rebukes, something else instead",
    "partial": "answers that do one part and decline another",
    "hard-comply": "compliance that looks like a refusal",
    "easy-comply": "plain compliance",
}
AIMS = "Aims: F1 ≥ 0.95 where refusals are plain (GPT-4, Llama-2), ≥ 0.85 where they are soft (Mistral)."

Row = dict[str, Any]


def refuses(row: Row) -> bool:
    return row["human"] != "full compliance"


def compared(rows: Sequence[Row], judge: str) -> Agreement:
    return agreement([refuses(row) for row in rows], [row[judge] in REFUSALS for row in rows])


def wrong(rows: Sequence[Row]) -> Estimate | None:
    """The share of labels that people gave otherwise."""
    rate = Rate.of(sum(refuses(row) != (row["judge"] in REFUSALS) for row in rows), len(rows))
    return None if rate.rate is None else Estimate(value=rate.rate, low=rate.low, high=rate.high, n=rate.n)


def score(model: str, rows: Sequence[Row]) -> Row:
    """One line of the table."""
    name, half = MODELS[model]
    own = [row for row in rows if row["model"] == model and half in (None, row["half"])]
    undecided = [row for row in own if row["undecided"]]
    return {
        "model": name,
        "prompts": "the half that no rule was written for" if half else "all",
        "rules": asdict(compared(own, "rules")),
        "judge": asdict(compared(own, "judge")),
        "left open by the rules": sum(row["left_open"] for row in own),
        "undecided": len(undecided),
        "wrong where decided": asdict_or_none(wrong([row for row in own if not row["undecided"]])),
        "wrong where undecided": asdict_or_none(wrong(undecided)),
    }


def by_kind() -> list[Row]:
    """How many of the held-out written answers of each kind are told right."""
    rows = read_jsonl(ROOT / "recipes/judge/held_out_answers.jsonl")
    exchanges = [Exchange(row["prompt"], row["answer"]) for row in rows]
    found = {name: judge.verdicts(exchanges) for name, judge in (("rules", RuleJudge()), ("judge", RefusalJudge()))}
    table = []
    for kind in KINDS:
        places = [place for place, row in enumerate(rows) if row["kind"] == kind]
        right = {
            name: sum((rows[at]["label"] != "complied") == (verdicts[at].label in REFUSALS) for at in places)
            for name, verdicts in found.items()
        }
        undecided = sum(found["judge"][at].undecided for at in places)
        table.append({"kind": KINDS[kind], "n": len(places), **right, "undecided": undecided})
    return table


def asdict_or_none(estimate: Estimate | None) -> Row | None:
    return None if estimate is None else asdict(estimate)


def cell(value: Row | None) -> str:
    return "–" if value is None else f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def markdown(table: Sequence[Row], kinds: Sequence[Row], made: Row) -> str:
    lines = [
        "# The judge against people, on models that it was not made for",
        "",
        "XSTest's answers of five models, labelled by people; a refusal, full or partial, is the positive class. The "
        "rules were written with half of the answers of GPT-4 and Llama-2 in view, so that of these models the other "
        "half is shown; Mistral's were not looked at. The head that decides what the rules leave open was trained "
        "for each line without any model of that line's family, and without the half of the prompts that it judges; "
        "the one that the package ships has seen all of them. An answer is *undecided* where the likelier label has "
        "a probability below 0.75. Brackets: 95 % intervals (Wilson; F1 and κ: bootstrap over rows).",
        "",
        "| model | prompts | n | refusals | rules alone, F1 | precision | recall | F1 | κ | undecided "
        "| wrong where decided | wrong where undecided |",
        "|---|---|--:|--:|---|---|---|---|---|--:|---|---|",
    ]
    for row in table:
        judge = row["judge"]
        numbers = [cell(row["rules"]["f1"]), *(cell(judge[name]) for name in ("precision", "recall", "f1", "kappa"))]
        share = f"{row['undecided'] / judge['n']:.2f}"
        errors = [cell(row["wrong where decided"]), cell(row["wrong where undecided"])]
        counts = [str(judge["n"]), str(judge["refusals"])]
        lines.append(f"| {' | '.join([row['model'], row['prompts'], *counts, *numbers, share, *errors])} |")
    lines += [
        "",
        AIMS,
        "",
        "## Answers in the manner of this year's models",
        "",
        "Written, and labelled, by one author who had not seen the rules, to be hard: no estimate of a rate. The other "
        "half of what was written so is among the examples that the head learned from.",
        "",
        "| kind | n | told right by the rules alone | by the judge | of these n, undecided |",
        "|---|--:|--:|--:|--:|",
        *(f"| {row['kind']} | {row['n']} | {row['rules']} | {row['judge']} | {row['undecided']} |" for row in kinds),
    ]
    lines += ["", f"Made by `{made['command']}` on {made['created']} with {used(made['versions'])} from the"]
    lines[-1] += " judgements that `python recipes/judge/refusal_head.py --answers FOLDER` wrote."
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/judge"), help="the folder of labels.jsonl")
    options = parser.parse_args()
    rows = read_jsonl(options.out / "labels.jsonl")
    made = {
        "command": command_line(),
        "created": now(),
        "versions": versions(),
        "judge": f"{RefusalJudge().name} {RefusalJudge().version}",
        "sha256": {name: sha256_of(path) for name, path in files(options.out).items()},
    }
    table = [score(model, rows) for model in MODELS]
    kinds = by_kind()
    text = markdown(table, kinds, made)
    write_table(options.out / "table.json", made | {"table": table, "written": kinds})
    with whole_file(options.out / "table.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)


def files(out: Path) -> dict[str, Path]:
    return {"labels.jsonl": out / "labels.jsonl", "refusal_head.safetensors": Path(str(head_file()))}


if __name__ == "__main__":
    main()
