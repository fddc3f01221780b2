"""A short run with a penalty, in this process or as one of several; see test_two_processes.py."""

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tests.huggingface.training.fixtures import L2, make_trainer, token_rows, weights


def train(out: Path, batch_size: int, average: bool) -> None:
    """Four steps of four rows each; the main process writes the weights."""
    trainer = make_trainer(
        out / "run",
        rows=token_rows(16, length=None if average else 8),
        safeguards=[L2(strength=0.5)],
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=2,
        num_train_epochs=1,
        logging_steps=1,
        average_tokens_across_devices=average,
        ddp_backend="gloo" if "RANK" in os.environ else None,
        save_strategy="steps",
        save_steps=2,
    )
    trainer.train()
    if trainer.accelerator.is_main_process:
        save_file(weights(trainer), out / "weights.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True")
