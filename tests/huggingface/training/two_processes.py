"""Short runs with safeguards, in this process or as one of several; see test_two_processes.py."""

import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from tests.huggingface.training.fixtures import L2, make_trainer, token_rows, weights
from tests.tiny import tiny_model

from moored import GradientSelection, SafetyTokens
from moored.errors import InputError
from moored.huggingface.safeguards.cached_logits import cached_logits
from moored.huggingface.safeguards.guarded_logits import SalientHead
from moored.huggingface.safeguards.start_logits import StartLogits

STEPS = 4
WORDS = ("I", " canno", " help")


class Case(NamedTuple):
    """Four steps of so many rows each, over two micro-batches; `average` is TRL's average_tokens_across_devices."""

    safeguards: list[Any]
    average: bool
    pool: int = 8
    length: int | None = None
    """Of all rows; None is 6 to 12, row by row."""


CASES = {
    "penalty, tokens of all devices": Case([L2(strength=0.5)], True, pool=4),
    # Each device divides by its own tokens, which is the same only if they have equally many.
    "penalty, tokens of each device": Case([L2(strength=0.5)], False, pool=4, length=8),
    "cached tokens, tokens of all devices": Case([SafetyTokens(strength=5.0, tokens=WORDS)], True),
    # A process with more tokens counts no more for the loss, but every position counts alike for the penalty.
    "cached tokens, tokens of each device": Case([SafetyTokens(strength=5.0, tokens=WORDS)], False, length=8),
    "tokens, tokens of all devices": Case([SafetyTokens(strength=5.0, tokens=WORDS, reference="model", first=2)], True),
    "all three, tokens of all devices": Case(
        [GradientSelection(keep=0.4), SafetyTokens(strength=5.0, tokens=WORDS), L2(strength=0.5)], True
    ),
    "moderate, tokens of all devices": Case([GradientSelection(keep=0.4)], True),
    "moderate, tokens of each device": Case([GradientSelection(keep=0.4)], False),
    "random, tokens of all devices": Case([GradientSelection(keep=0.4, rule="random", seed=2)], True),
    "random, tokens of each device": Case([GradientSelection(keep=0.4, rule="random", seed=2)], False),
    "one row, tokens of all devices": Case([GradientSelection(keep=0.2), L2(strength=0.5)], True),
    "one row, tokens of each device": Case([GradientSelection(keep=0.2), L2(strength=0.5)], False),
}


def train(out: Path, name: str, processes: int) -> None:
    """Each process writes the labels that it trained on per step; the main one its weights and reports, too."""
    case = CASES[name]
    trainer = make_trainer(
        out / "run",
        rows=token_rows(STEPS * case.pool, length=case.length),
        safeguards=case.safeguards,
        per_device_train_batch_size=case.pool // 2 // processes,
        gradient_accumulation_steps=2,
        num_train_epochs=1,
        logging_steps=1,
        average_tokens_across_devices=case.average,
        ddp_backend="gloo" if processes > 1 else None,
        save_strategy="steps",
        save_steps=2,
    )
    labelled = _watch(trainer)
    trainer.train()
    (out / f"labelled-{trainer.args.process_index}.json").write_text(json.dumps(labelled))
    if trainer.accelerator.is_main_process:
        save_file(weights(trainer), out / "weights.safetensors")
        (out / "reports.json").write_text(json.dumps(trainer.safeguard_report()))


def share_cache(out: Path, process: int) -> None:
    """The first process has more batches than the second; both look all of them up, here and in a temporary file."""
    draw = torch.Generator().manual_seed(4)
    ids = torch.randint(3, 300, (4, 1, 7), generator=draw)
    batches = [{"input_ids": each, "labels": each, "attention_mask": torch.ones_like(each)} for each in ids]
    own = batches[:3] if process == 0 else batches[2:]
    model = tiny_model()
    anchor = StartLogits(model, SalientHead(model, [5, 9]))
    caches = [cached_logits(own, anchor, folder) for folder in (out / "cache", None, out / "cache")]
    same = all(torch.allclose(cache.of(batch), anchor.of(batch), atol=1e-5) for cache in caches for batch in batches)
    if process == 1:
        with torch.no_grad():
            model.model.norm.weight.mul_(2)
    try:
        cached_logits(own, anchor, out / "cache")
        refused = ""
    except InputError as error:
        refused = str(error)
    told = {"same": same, "sizes": [*map(len, caches)], "refused": refused}
    (out / f"cache-{process}.json").write_text(json.dumps(told))


def _watch(trainer: Any) -> list[int]:
    """Filled with the number of labels in each step's micro-batches."""
    labelled: list[int] = []
    plain = trainer.get_batch_samples

    def watched(*args: Any) -> Any:
        batches, items = plain(*args)
        labelled.append(sum(int((batch["labels"] != -100).sum()) for batch in batches))
        return batches, items

    trainer.get_batch_samples = watched
    return labelled


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in CASES:
        train(Path(sys.argv[1]) / each, each, int(os.environ["WORLD_SIZE"]))
    share_cache(Path(sys.argv[1]), int(os.environ["RANK"]))
    torch.distributed.destroy_process_group()
    # Its threads may abort a process at the interpreter's end.
    os._exit(0)
