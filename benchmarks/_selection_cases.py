"""The cases of `selection.py`: what is trained, on which batch, and a clock around each way to do it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from _gradient_norms import WAYS
from _online_step import SAFEGUARDS, steps
from moored.huggingface.models import load_model, load_tokenizer
from moored.workflows._models import resolve_model

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Case:
    """What is trained, and the rows and columns of the batch; `prompt` columns are not labelled."""

    trained: str
    rows: int
    columns: int
    prompt: int
    online: bool = False

    @property
    def variants(self) -> tuple[str, ...]:
        """The limit, ours and the rivals."""
        return tuple(SAFEGUARDS if self.online else WAYS)


CASES = {
    "lora-8x128": Case("lora", 8, 128, prompt=16),
    "lora-32x64": Case("lora", 32, 64, prompt=8),
    "lora-8x128-short-answers": Case("lora", 8, 128, prompt=112),
    "full-8x128": Case("full", 8, 128, prompt=16),
    "full-32x64": Case("full", 32, 64, prompt=8),
    "online-lora-32x64": Case("lora", 32, 64, prompt=8, online=True),
}


def load(case: Case, model_name: str, dtype: str) -> nn.Module:
    """The model in training mode: all of it trained, or LoRA on all linear layers."""
    source = resolve_model(model_name)
    model: Any = load_model(source, dtype=DTYPES[dtype], merge=True, trainable=case.trained == "full")
    if case.trained == "lora":
        torch.manual_seed(0)
        settings = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(model, settings, autocast_adapter_dtype=False)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                # At its initial 0 it would hide A's gradient.
                nn.init.normal_(parameter, std=0.01)
    return model.train()


def tokens(case: Case, vocabulary: int) -> dict[str, Tensor]:
    """A batch of random ids."""
    ids = torch.randint(vocabulary, (case.rows, case.columns), generator=torch.Generator().manual_seed(1))
    labels = ids.clone()
    labels[:, : case.prompt] = -100
    return {"input_ids": ids, "labels": labels}


def prepare(case: Case, variant: str, model: Any, model_name: str) -> Callable[[], tuple[float, Tensor | None]]:
    """Each call of what this returns runs the variant once; it gives the seconds, and norms if there are any."""
    batch = tokens(case, model.config.vocab_size)
    if case.online:
        pool = Dataset.from_dict({key: value.tolist() for key, value in batch.items()})
        step = steps(model, load_tokenizer(resolve_model(model_name)), pool, variant)
        return lambda: (step(), None)
    run = WAYS[variant](model, batch)

    def timed() -> tuple[float, Tensor | None]:
        started = time.perf_counter()
        norms = run()
        return time.perf_counter() - started, norms

    return timed
