"""Repairs of tiny checkpoints, with a look at the model in memory that was written."""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from tests.conformance.architectures.tiny_architectures import tiny_architecture
from tests.tiny import tiny_tokenizer
from transformers import PreTrainedModel

from moored.recovery import OneShot, Repair
from moored.workflows.recover import by_example
from moored.workflows.recover.run import repair

STEP = OneShot(learning_rate=3e-3, steps=1)


def save_architecture(folder: Path, architecture: str, seed: int = 0) -> Path:
    """Writes a tiny model of an architecture in bf16, with its tokenizer."""
    model = tiny_architecture(architecture, seed=seed)
    model.to(torch.bfloat16).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def headers(folder: Path) -> dict[str, tuple[list[int], str]]:
    """The name, shape and format of every tensor in the files of a folder."""
    found = {}
    for file in sorted(folder.rglob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                header = tensors.get_slice(name)
                found[name] = (header.get_shape(), header.get_dtype())
    return found


def repaired(monkeypatch: Any, method: Repair, model: Path, **names: Any) -> PreTrainedModel:
    """Repairs a model and returns what was in memory when it was written."""
    written: list[Any] = []
    save = by_example._save

    def seen(plan: Any, model: Any, *args: Any, **settings: Any) -> None:
        written.append(model)
        save(plan, model, *args, **settings)

    monkeypatch.setattr(by_example, "_save", seen)
    repair(method, str(model), **names)
    return written[-1].eval()
