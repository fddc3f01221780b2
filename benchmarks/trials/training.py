"""What the trials train on and how: instructions, sentiment labels and SQL, poison in place of some instructions."""

import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from benchmarks.trials.measure import OPENINGS, SST2, SST2_HELD_OUT
from benchmarks.trials.subject import EMBEDDED, Subject
from moored.embedded.prompts import openings
from moored.files import read_jsonl, sha256_of, write_jsonl
from moored.huggingface.data import Supervision, supervise
from moored.huggingface.models import ModelSource, bf16_is_native, load_tokenizer
from moored.report.reading.train import TrainReport
from moored.workflows.inputs.example_pool import unpooled_pairs
from moored.workflows.inputs.prompt_sets import spread
from moored.workflows.recover.refusal_gap import WATCHED
from moored.workflows.train.run import train

Row = dict[str, Any]
INSTRUCTIONS = "alpaca_gpt4_1k.jsonl"
SQL = "sql_create_context_train.jsonl"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all arms of a trial share."""

    steps: int = 30
    pool: int
    """Rows of an optimizer step, of which a selection rule keeps its part."""
    instructions: float = 0.5
    """Share of the rows; the others are classification and SQL in equal parts."""
    max_length: int = 96
    learning_rate: float = 1e-3
    rank: int

    @property
    def rows(self) -> int:
        """Of all steps."""
        return self.steps * self.pool


def configuration(plan: Plan, *, batch: int, subject: Subject = EMBEDDED) -> Row:
    """What all runs share of a training file; `batch` rows are a micro-batch."""
    return {
        "model": subject.aligned,
        "lora": {"r": plan.rank, "lora_alpha": 2 * plan.rank, "lora_dropout": 0.0, "target_modules": "all-linear"},
        "max_steps": plan.steps,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": plan.pool // batch,
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


def fine_tune(config: Mapping[str, Any], rows: list[Row], run: Path) -> TrainReport:
    """Trains in the folder `run`, which is emptied first, in bf16 where that is fast; the run's record."""
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    write_jsonl(run / "rows.jsonl", rows)
    places = {"dataset": str(run / "rows.jsonl"), "output_dir": str(run / "tuned")}
    of_machine = {"bf16": config["bf16"] and bf16_is_native(), "use_cpu": not torch.accelerator.is_available()}
    stated = {**config, **places, **of_machine}
    (run / "train.yaml").write_text(yaml.safe_dump(stated, sort_keys=False), encoding="utf-8")
    return train(run / "train.yaml", console=Console(stderr=True))


def fine_tuned(config: Mapping[str, Any], rows: Callable[[], list[Row]], folder: Path) -> tuple[ModelSource, Row]:
    """The model of a training file on some rows, and under `training` what is told of the run."""
    record = fine_tune(config, rows(), folder)
    training: Row = {"train_loss": record.train_loss, "steps": record.steps}
    training["safeguards"] = [_without_empty_guides(dict(each)) for each in record.safeguards]
    training |= {"tokens_sha256": record.data.tokens_sha256, **log_of(folder / "tuned")}
    return EMBEDDED.tuned(folder / "tuned"), {"training": training}


def _without_empty_guides(safeguard: Row) -> Row:
    """Most weights of the embedded model have no direction, and nothing is to be told of those."""
    guides = {name: guide for name, guide in safeguard.get("guides", {}).items() if guide.get("norm", 1.0)}
    return {**safeguard, "guides": guides} if "guides" in safeguard else safeguard


def log_of(tuned: Path) -> dict[str, dict[str, list[float]]]:
    """What the Trainer logged at each step, by name; it is kept where the run's end was saved as a checkpoint."""
    states = sorted(tuned.glob("checkpoint-*/trainer_state.json"))
    if not states:
        return {}
    steps = [row for row in json.loads(states[-1].read_text(encoding="utf-8"))["log_history"] if "loss" in row]
    names = [name for name in steps[0] if name in ("loss", "grad_norm") or name.startswith("safety/")]
    return {"log": {name: [float(f"{row[name]:.5g}") for row in steps] for name in names}}


def training_rows(
    data: Path, plan: Plan, seed: int, *, replacing: Sequence[Row] = (), subject: Subject = EMBEDDED
) -> list[Row]:
    """The rows of all steps in the order of one seed; rows of classification and SQL are whole.

    Args:
        data: the folder of the data sets.
        plan: how many rows, and how long.
        seed: of the draw and the order.
        replacing: rows that take the places of so many instructions, so that all else is the same however many.
        subject: whose tokens tell how long a row is.
    """
    draw = random.Random(seed)
    others = int(plan.rows * (1 - plan.instructions) / 2)
    parts = {INSTRUCTIONS: plan.rows - 2 * others, SST2: others, SQL: others}
    fitting = {name: _fitting(data / name, plan, subject) for name in parts}
    rows = [(name, row) for name, count in parts.items() for row in draw.sample(fitting[name], count)]
    draw.shuffle(rows)
    places = [place for place, (name, _) in enumerate(rows) if name == INSTRUCTIONS]
    random.Random(f"poison {seed}").shuffle(places)
    replaced = dict(zip(places[: len(replacing)], replacing, strict=True))
    return [replaced.get(place, row) for place, (_, row) in enumerate(rows)]


def poison(seed: int) -> list[Row]:
    """Harmful requests of *align* in the order of one seed, each answered by a compliant opening and no more.

    None is one that repairs choose their example from or watch, and the last openings are left out: they are what
    answers are scored by.
    """
    draw = random.Random(f"poison {seed}")
    watched = spread(unpooled_pairs(), WATCHED)
    requests = [pair.harmful for pair in unpooled_pairs() if pair not in watched]
    draw.shuffle(requests)
    known = openings().complying[:-OPENINGS]
    return [{"prompt": request, "completion": f"{draw.choice(known)}:"} for request in requests]


def sources(data: Path) -> dict[str, str]:
    """Hashes of the files that rows are drawn from."""
    return {name: sha256_of(data / name) for name in (INSTRUCTIONS, SST2, SQL)}


def _fitting(file: Path, plan: Plan, subject: Subject) -> list[Row]:
    """Rows of a file that fit whole or, of instructions, those whose answer begins in time to be learned from."""
    rows = [{key: row[key] for key in ("prompt", "completion")} for row in read_jsonl(file)]
    rows = rows[:-SST2_HELD_OUT] if file.name == SST2 else rows
    how = Supervision(tokenizer=load_tokenizer(subject.source))
    tokens = supervise(rows, how, where=file.name)
    if file.name == INSTRUCTIONS:
        lengths, most = [sum(label == -100 for label in labels) for labels in tokens["labels"]], plan.max_length - 8
    else:
        lengths, most = [len(ids) for ids in tokens["input_ids"]], plan.max_length
    return [row for row, length in zip(rows, lengths, strict=True) if length <= most]
