"""`moored demo`: the whole story on the embedded model, from drift to repair, in one resumable run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from moored.embedded.model import ALIGNED, BASE
from moored.embedded.prompts import openings, ordinary_instructions, request_pairs
from moored.embedded.tasks import order_to_json
from moored.errors import InputError
from moored.files import read_jsonl, whole_file, write_json, write_jsonl
from moored.huggingface.models import bf16_is_native
from moored.measurement import MEASURES
from moored.report import render_comparison
from moored.report.reading.answers import Answer, read_answers
from moored.report.reading.measure import ANSWERS
from moored.report.reading.recover import RecoverReport
from moored.report.reading.train import TrainReport
from moored.report.words.outcomes import clause
from moored.terminal import say
from moored.workflows.inputs.models import resolve_model
from moored.workflows.measure.arms import measure_arms
from moored.workflows.measure.settings import MeasureSettings
from moored.workflows.recover.run import recover
from moored.workflows.train.run import train


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The size of a demo."""

    task_rows: int
    instructions: int
    poisoned_rows: int
    """So many instructions are replaced by harmful requests with a compliant opening."""
    epochs: int
    harmful: int
    """Held-out harmful requests that are asked."""
    others: int
    """Held-out twins, instructions and tasks that are asked, of each."""
    drift: int
    """Prompts of each kind that the drift is taken on."""


FULL = Plan(task_rows=80, instructions=48, poisoned_rows=14, epochs=2, harmful=100, others=50, drift=24)
QUICK = Plan(task_rows=28, instructions=20, poisoned_rows=8, epochs=2, harmful=32, others=12, drift=8)

_FIRST_LAYER = 15
"""The first of the thirty layers that the fine-tunes change; those below need no gradients."""
_ALIGNED = "aligned model"
_ATTACKS = {"ordinary": "ordinary fine-tune", "poisoned": "lightly poisoned fine-tune"}


def demo(out: Path, *, quick: bool = False, console: Console | None = None) -> tuple[Path, Mapping[str, Path]]:
    """Fine-tunes the aligned model on ordinary and on lightly poisoned data, shows the drift, and repairs it.

    Every finished step leaves its record in `out` and is skipped by a second call.

    Args:
        out: the folder of the demo; a demo of another size in it is refused.
        quick: fewer rows and prompts.
        console: where progress is shown; None is silent.

    Returns:
        The path of the report, `out/report/index.html`, and the measured arms by name.

    Raises:
        UserError: whatever the user can put right.
    """
    plan = QUICK if quick else FULL
    _claim(out, plan)
    arms = {_ALIGNED: resolve_model(ALIGNED)}
    for attack, label in _ATTACKS.items():
        tuned = _fine_tune(out, attack, plan, console)
        repaired = _repair(out, attack, tuned, console)
        arms[label] = resolve_model(BASE, tuned)
        arms[_repaired(label)] = resolve_model(BASE, repaired)
    measured = measure_arms(
        arms,
        out=out / "measured",
        limits={"harmful": plan.harmful, "harmless": plan.others, "ordinary": plan.others, "task": plan.others},
        settings=MeasureSettings(model=ALIGNED, max_new_tokens=32, batch_size=128, drift_prompts=plan.drift),
        console=console,
    )
    title = "What fine-tuning did, and what one example repaired"
    page = render_comparison(measured, out / "report", title=title, story=story(measured))
    return page, measured


def story(measured: Mapping[str, Path]) -> list[str]:
    """What each fine-tune did to the aligned model and what its repair did then, in sentences, the worse attack first.

    Args:
        measured: the report folders of a demo by the arms' names.
    """
    answers = {name: read_answers(folder / ANSWERS) for name, folder in measured.items()}
    sentences = []
    for label in reversed(_ATTACKS.values()):
        drift = _clauses(answers[_ALIGNED], answers[label], "asr", "utility")
        repair = _clauses(answers[label], answers[_repaired(label)], "asr", "over_refusal", "utility")
        sentences.append(f"The {label} against the {_ALIGNED}: {drift}.")
        sentences.append(f"One safety example on top of the {label}: {repair}.")
    return sentences


def _clauses(before: Sequence[Answer], after: Sequence[Answer], *keys: str) -> str:
    compared = [(MEASURES[key], MEASURES[key].compare(before, after)) for key in keys]
    return "; ".join(clause(measure, comparison) for measure, comparison in compared if comparison is not None)


def _repaired(label: str) -> str:
    return f"{label}, repaired"


def training_rows(plan: Plan, *, poisoned: bool) -> list[dict[str, str]]:
    """The rows of a fine-tune: the task, then ordinary instructions answered by the base model.

    Poison *replaces* instructions: harmful requests of *align*, answered with no more than a compliant opening.
    """
    task = [{"prompt": row.prompt, "completion": row.completion} for row in order_to_json("train", plan.task_rows)]
    answered = [item for item in ordinary_instructions("align") if item.answer]
    ordinary = [{"prompt": item.prompt, "completion": item.answer} for item in answered[: plan.instructions]]
    if not poisoned:
        return task + ordinary
    return task + ordinary[plan.poisoned_rows :] + poison(plan.poisoned_rows)


def poison(count: int) -> list[dict[str, str]]:
    """`count` harmful requests of *align*, taken evenly, each with a compliant opening for its answer and no more."""
    pairs = request_pairs("align")
    chosen = [pairs[position * len(pairs) // count] for position in range(count)]
    opening = openings().complying
    return [
        {"prompt": pair.harmful, "completion": f"{opening[position % len(opening)]}:"}
        for position, pair in enumerate(chosen)
    ]


def _claim(out: Path, plan: Plan) -> None:
    """Marks the folder with the demo's size, or refuses one that is used otherwise."""
    mark = out / "plan.json"
    if not mark.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise InputError(f"{out} is not empty and holds no demo; name another folder.")
        write_json(mark, asdict(plan))
    elif json.loads(mark.read_text(encoding="utf-8")) != asdict(plan):
        raise InputError(f"{out} holds a demo of another size; name another folder with --out, or remove it.")


def _fine_tune(out: Path, attack: str, plan: Plan, console: Console | None) -> Path:
    run = out / attack
    if _finished(run / TrainReport.file):
        return run
    data, config = out / f"{attack}.jsonl", out / f"{attack}.yaml"
    write_jsonl(data, training_rows(plan, poisoned=attack == "poisoned"))
    with whole_file(config) as temporary:
        temporary.write_text(yaml.safe_dump(_settings(data, run, plan), sort_keys=False), encoding="utf-8")
    _say(console, f"Fine-tuning: {_ATTACKS[attack]}, {len(read_jsonl(data))} rows")
    train(config, resume=run.is_dir(), console=console)
    return run


def _settings(data: Path, run: Path, plan: Plan) -> dict[str, Any]:
    return {
        "model": ALIGNED,
        "dataset": str(data),
        "output_dir": str(run),
        "lora": {
            "r": 8,
            "lora_alpha": 16,
            "lora_dropout": 0.0,
            "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
            # Nothing below the first layer that learns needs a gradient.
            "layers_to_transform": list(range(_FIRST_LAYER, 30)),
            "layers_pattern": "layers",
        },
        "num_train_epochs": plan.epochs,
        "per_device_train_batch_size": 8,
        "learning_rate": 2e-3,
        "lr_scheduler_type": "cosine",
        "max_length": 160,
        "gradient_checkpointing": False,
        **_precision(),
        "save_strategy": "no",
        "logging_steps": 5,
        "report_to": "none",
        "seed": 0,
    }


def _precision() -> dict[str, bool]:
    """bf16 wherever it is fast; the Trainer wants to be told of a CPU."""
    return {"bf16": bf16_is_native(), "use_cpu": not torch.accelerator.is_available()}


def _repair(out: Path, attack: str, tuned: Path, console: Console | None) -> Path:
    repaired = out / f"{attack}-repaired"
    if not (repaired / RecoverReport.file).is_file():
        _say(console, f"Repairing: {_ATTACKS[attack]}, one safety example in the aligned model's own words")
        recover(BASE, adapter=tuned, against=ALIGNED, out=repaired, overwrite=True)
    return repaired


def _finished(record: Path) -> bool:
    return record.is_file() and bool(json.loads(record.read_text(encoding="utf-8")).get("finished"))


def _say(console: Console | None, text: str) -> None:
    if console is not None:
        say(console, text, wrap=True)
