"""Whether the alignment-direction penalty and safety tokens keep a model aligned, against their own controls.

    python -m benchmarks.trials.regularizers --data ../shared/data

Fine-tunes the embedded aligned model on the mix of `selection.py`, as it is and with poison (harmful requests
with a compliant opening) in place of 5 % and 20 % of the rows: plain, with each penalty at three strengths, with its
controls, and with both. Then measures what became of it on prompts that no arm saw. An arm of one seed leaves one
small record in RUN, of labels and scores without answers; finished ones are skipped. `--data-sets`, `--only` and
`--seeds` choose a part of the grid, and calls side by side share the work. What tells most comes first. At the end, and
at once with `--table`, the records are gathered into `OUT/arms.jsonl`, and the table and the figure of what there is
then are written. On `poisoned-20-last` only the
layers that alignment moved get a LoRA: in the others there is no direction to follow.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from benchmarks.trials.measure import Asked, Measure, task_questions
from benchmarks.trials.regularizers_arms import ARMS, DATA, ORDER, Arm, tried_on
from benchmarks.trials.regularizers_table import write_table
from benchmarks.trials.runs import Run, Trial, key_of
from benchmarks.trials.training import Plan, configuration, fine_tuned, poison, sources, training_rows
from moored.embedded.model import ALIGNED, BASE
from moored.files import sha256_of
from moored.huggingface.models import load_model, load_tokenizer
from moored.workflows.inputs.models import resolve_model
from moored.workflows.safeguards.tokens import find_safety_tokens, write_safety_tokens

Row = dict[str, Any]
TOKENS = "safety_tokens.json"
SEEDS = (0, 1, 2)
PLAN = Plan(pool=8, rank=8)
ASKED = Asked(harmful=("JailbreakBench",), choices=False, kl_to=("aligned",), losses=True, unseen=True)


def grid(data_sets: Sequence[str], only: Sequence[str] | None, seeds: Sequence[int]) -> list[tuple[str, Arm, int]]:
    """The runs, those that tell most first: data set by data set, what a verdict rests on, seed by seed."""
    places = [name for name in ORDER if name in data_sets]
    runs = [(name, arm, seed) for name in places for seed in seeds for arm in tried_on(name)]
    wanted = [run for run in runs if only is None or run[1].name in only]
    return sorted(wanted, key=lambda run: (places.index(run[0]), not run[1].planned, run[2]))


def run_of(name: str, arm: Arm, seed: int, *, data: Path, tokens: Path) -> Run:
    """One arm on one data set under one seed."""
    saved = {"save_strategy": "steps", "save_steps": PLAN.steps, "save_only_model": True}  # for its log
    setting = DATA[name]
    poisoned = poison(seed)[: round(setting.poisoned * PLAN.rows)]
    config = {**configuration(PLAN, batch=PLAN.pool), **saved, "seed": seed, "safeguards": arm.stated(seed, tokens)}
    if setting.layers:
        numbers = "|".join(map(str, setting.layers))
        config["lora"] = {**config["lora"], "target_modules": rf".*layers\.({numbers})\..*_proj"}
    return Run(
        name=f"{name}/{arm.name}-seed{seed}",
        about={
            "data": name,
            "poisoned": setting.poisoned,
            "layers": setting.layers,
            "arm": arm.name,
            "seed": seed,
            "safeguards": arm.safeguards,
        },
        make=partial(fine_tuned, config, partial(training_rows, data, PLAN, seed, replacing=poisoned)),
    )


def constant_accuracy(data: Path) -> float:
    """What who gives each question of a task the same answer, the best one, has of the task accuracy."""
    answers = [Counter(row["completion"] for row in rows) for rows in task_questions(data).values()]
    return sum(max(each.values()) for each in answers) / sum(each.total() for each in answers)


def find_tokens(out: Path, work: Path) -> Path:
    """The aligned model's safety tokens, found once for all arms."""
    work.mkdir(parents=True, exist_ok=True)
    with FileLock(work / f"{TOKENS}.lock"):
        if not (out / TOKENS).is_file():
            source = resolve_model(ALIGNED)
            model, base = load_model(source, dtype="auto", merge=True), load_model(resolve_model(BASE), dtype="auto")
            write_safety_tokens(find_safety_tokens(model, load_tokenizer(source), base=base), out / TOKENS)
    return out / TOKENS


def main() -> None:
    """Makes what is missing of the grid and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--run", type=Path, default=Path("runs/regularizers_trial"))
    parser.add_argument("--out", type=Path, default=Path("results/regularizers_trial"))
    parser.add_argument("--data-sets", nargs="*", choices=[*DATA], default=[*DATA])
    parser.add_argument("--only", nargs="*", choices=[arm.name for arm in ARMS], help="arms; all by default")
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    parser.add_argument("--threads", type=int, default=2, help="1 for two calls side by side")
    parser.add_argument("--table", action="store_true", help="write the table of what there is, and run nothing")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tokens = find_tokens(options.out, options.run)
    measure = Measure(options.data, ASKED)
    config = configuration(PLAN, batch=PLAN.pool)
    key = key_of(asdict(PLAN), config, sources(options.data), measure.hashes(), sha256_of(tokens))
    runs = [
        run_of(*each, data=options.data, tokens=tokens) for each in grid(options.data_sets, options.only, options.seeds)
    ]
    trial = Trial(
        out=options.out, work=options.run, plan=PLAN, measure=measure, key=key, threads=options.threads, keep=False
    )
    if not options.table:
        trial.complete(runs)
    trial.gather()
    write_table(options.out, key, constant_accuracy(options.data))


if __name__ == "__main__":
    main()
