"""Whether gradient-based selection keeps a model aligned, against its own controls.

    python benchmarks/selection_trial.py --data ../shared/data --run runs/selection_trial --out results/selection_trial

Fine-tunes the embedded aligned model on a mix of instructions, sentiment labels and SQL, an arm for each rule and
seed, all for the same number of optimizer steps, and measures what became of it on prompts that no rule saw. An arm of
one seed is one small file in `OUT/arms`, of labels and scores without answers; finished ones are skipped. `--only` and
`--seeds` choose a part of the grid. The table is written after each run, of what there is by then.
"""

import argparse
import hashlib
import json
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from _trial_measure import SST2, SST2_HELD_OUT, Measure
from _trial_table import write_table
from moored.embedded.model import ALIGNED
from moored.files import read_jsonl, write_json, write_jsonl
from moored.huggingface.data import Supervision, supervise
from moored.huggingface.models import load_tokenizer
from moored.selection import RULES
from moored.workflows._models import resolve_model
from moored.workflows._provenance import command_line, now, versions
from moored.workflows.train import train

Row = dict[str, Any]
SEEDS = (0, 1, 2)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all arms share."""

    steps: int = 30
    pool: int = 25
    """Rows of an optimizer step, of which a rule keeps its part."""
    instructions: float = 0.5
    """Share of the rows; the others are classification and SQL in equal parts."""
    max_length: int = 96
    learning_rate: float = 1e-3
    rank: int = 16


@dataclass(frozen=True)
class Arm:
    """A rule and its share; None is plain fine-tuning on the whole pool."""

    rule: str | None
    keep: float = 1.0

    @property
    def name(self) -> str:
        """As files and rows are called."""
        return "plain" if self.rule is None else f"{self.rule}-{self.keep:g}"

    def safeguards(self, seed: int) -> list[Row]:
        """The configuration's part."""
        return [] if self.rule is None else [{"name": "gradient_selection", **self.__dict__, "seed": seed}]


RATIOS = ("moderate", "length_matched_random", "random")
ARMS = [
    Arm(None),
    *(Arm(rule, 0.2) for rule in ("moderate", "length_matched_random", "random")),
    *(Arm(rule, 0.2) for rule in RULES if rule not in RATIOS),
    *(Arm(rule, keep) for keep in (0.12, 0.4) for rule in RATIOS),  # 3 and 10 of 25 rows
]


def training_rows(data: Path, plan: Plan, seed: int) -> list[Row]:
    """The rows of all steps in the order of one seed; rows of classification and SQL are whole."""
    draw = random.Random(seed)
    total = plan.steps * plan.pool
    others = int(total * (1 - plan.instructions) / 2)
    parts = {
        "alpaca_gpt4_1k.jsonl": (total - 2 * others, None),
        SST2: (others, plan.max_length),
        "sql_create_context_train.jsonl": (others, plan.max_length),
    }
    rows = [row for name, part in parts.items() for row in draw.sample(_fitting(data / name, part[1]), part[0])]
    draw.shuffle(rows)
    return rows


def _fitting(file: Path, max_length: int | None) -> list[Row]:
    """Rows of a file, with an answer that begins, and where `max_length` is given also ends, within it."""
    from datasets import Dataset

    rows = [{key: row[key] for key in ("prompt", "completion")} for row in read_jsonl(file)]
    rows = rows[:-SST2_HELD_OUT] if file.name == SST2 else rows
    how = Supervision(tokenizer=load_tokenizer(resolve_model(ALIGNED)))
    tokens = supervise(Dataset.from_list(rows), how, where=file.name)
    prompts = [sum(label == -100 for label in labels) for labels in tokens["labels"]]
    lengths = prompts if max_length is None else [len(ids) for ids in tokens["input_ids"]]
    most = Plan.max_length - 8 if max_length is None else max_length
    return [row for row, length in zip(rows, lengths, strict=True) if length <= most]


def fine_tune(arm: Arm, seed: int, data: Path, run: Path, plan: Plan) -> Row:
    """Trains one arm; its record."""
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    write_jsonl(run / "rows.jsonl", training_rows(data, plan, seed))
    config = {
        **_configuration(plan),
        "dataset": str(run / "rows.jsonl"),
        "output_dir": str(run / "tuned"),
        "use_cpu": not torch.accelerator.is_available(),
        "seed": seed,
        "safeguards": arm.safeguards(seed),
    }
    (run / "train.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return train(run / "train.yaml", console=Console(stderr=True))


def _configuration(plan: Plan) -> Row:
    """What all runs share of a training file."""
    return {
        "model": ALIGNED,
        "lora": {"r": plan.rank, "lora_alpha": 2 * plan.rank, "lora_dropout": 0.0, "target_modules": "all-linear"},
        "max_steps": plan.steps,
        "per_device_train_batch_size": 5,
        "gradient_accumulation_steps": plan.pool // 5,
        "learning_rate": plan.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "max_length": plan.max_length,
        "gradient_checkpointing": False,
        "bf16": True,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
    }


def grid(only: Sequence[str] | None, seeds: Sequence[int]) -> Iterator[tuple[Arm, int]]:
    """Arms seed by seed, so that every arm has one before any has two."""
    return ((arm, seed) for seed in seeds for arm in ARMS if only is None or arm.name in only)


def _key(plan: Plan, measure: Measure) -> str:
    """What a finished run must share with this one to stand in the same table."""
    shared = [asdict(plan), _configuration(plan), measure.hashes()]
    return hashlib.sha256(json.dumps(shared).encode()).hexdigest()[:16]


def main() -> None:
    """Runs what is missing of the grid and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--run", type=Path, default=Path("runs/selection_trial"))
    parser.add_argument("--out", type=Path, default=Path("results/selection_trial"))
    parser.add_argument("--only", nargs="*", choices=[arm.name for arm in ARMS], help="arms; all by default")
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    parser.add_argument("--learning-rate", type=float, default=Plan.learning_rate)
    parser.add_argument("--steps", type=int, default=Plan.steps)
    options = parser.parse_args()
    torch.set_num_threads(2)
    plan = Plan(learning_rate=options.learning_rate, steps=options.steps)
    measure = Measure(options.data)
    key = _key(plan, measure)
    about = {"command": command_line(), "created": now(), "versions": versions(), "plan": asdict(plan), "key": key}
    arms = options.out / "arms"
    files = {(arm, seed): arms / f"{arm.name}-seed{seed}.json" for arm, seed in grid(options.only, options.seeds)}
    missing = {each: file for each, file in files.items() if not _finished(file, key)}
    print(f"{len(missing)} of {len(files)} runs are missing, some 6 minutes each on 2 quiet cores.", flush=True)
    for name, source in measure.references().items():
        file = arms / f"{name}.json"
        if not _finished(file, key):
            write_json(file, {**about, "arm": name, **measure(source, name)})
    for (arm, seed), file in missing.items():
        started = time.perf_counter()
        record = fine_tune(arm, seed, options.data, options.run / f"{arm.name}-seed{seed}", plan)
        trained = time.perf_counter()
        tuned = resolve_model("embedded:base", options.run / f"{arm.name}-seed{seed}" / "tuned")
        found = measure(tuned, f"{arm.name}, seed {seed}")
        seconds = {"train": round(trained - started, 1), "measure": round(time.perf_counter() - trained, 1)}
        kept = {key: record[key] for key in ("train_loss", "steps", "safeguards")}
        kept["tokens_sha256"] = record["data"]["tokens_sha256"]
        write_json(file, {**about, "arm": arm.name, "seed": seed, "seconds": seconds, "training": kept, **found})
        write_table(options.out, [arm.name for arm in ARMS], key)
    write_table(options.out, [arm.name for arm in ARMS], key)


def _finished(file: Path, key: str) -> bool:
    return file.is_file() and json.loads(file.read_text(encoding="utf-8"))["key"] == key


if __name__ == "__main__":
    main()
