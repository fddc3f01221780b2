"""The cases of `selection.py`: what is trained, on which batch, and a clock around each way to do it."""

import copy
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from benchmarks.speed.gradient_norms import WAYS
from benchmarks.speed.paired import Run, timed
from benchmarks.speed.training_step import as_dataset, random_tokens, steps
from moored import GradientSelection
from moored.huggingface import SafeguardedSFTTrainer
from moored.huggingface.models import load_model, load_tokenizer
from moored.workflows.inputs.models import resolve_model

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SAFEGUARDS = {"limit": [], "moored": [GradientSelection(keep=0.2)]}
"""What each variant of an online case trains with."""
_TOKENS_PER_SECOND = 60
"""With all variants of a round together, on two cores."""


@dataclass(frozen=True)
class SelectionCase:
    """What is trained, and the rows and columns of the batch; `prompt` columns are not labelled."""

    trained: str
    rows: int
    columns: int
    prompt: int
    online: bool = False

    @property
    def variants(self) -> Sequence[str]:
        """The limit, ours and the rivals."""
        return tuple(SAFEGUARDS if self.online else WAYS)

    @property
    def seconds(self) -> float:
        """Of a round."""
        return self.rows * self.columns / _TOKENS_PER_SECOND

    def load(self, options: Namespace) -> nn.Module:
        """The model in training mode: all of it trained, or LoRA on all linear layers."""
        source = resolve_model(options.model)
        model: Any = load_model(source, dtype=DTYPES[options.dtype], merge=True, trainable=self.trained == "full")
        if self.trained == "lora":
            torch.manual_seed(0)
            settings = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
            model = get_peft_model(model, settings, autocast_adapter_dtype=False)
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    # At its initial 0 it would hide A's gradient.
                    nn.init.normal_(parameter, std=0.01)
        return model.train()

    def prepare(self, variant: str, shared: Any, options: Namespace) -> Run:
        """One way to the norms of the batch, or one step of a trainer over it."""
        batch = random_tokens(self.rows, self.columns, self.prompt, shared.config.vocab_size)
        if not self.online:
            return timed(WAYS[variant](shared, batch))
        make = partial(SafeguardedSFTTrainer, model=copy.deepcopy(shared), safeguards=SAFEGUARDS[variant])
        _, step = steps(make, load_tokenizer(resolve_model(options.model)), as_dataset(batch))
        return lambda: (step(), None)


CASES = {
    "lora-8x128": SelectionCase("lora", 8, 128, prompt=16),
    "lora-32x64": SelectionCase("lora", 32, 64, prompt=8),
    "lora-8x128-short-answers": SelectionCase("lora", 8, 128, prompt=112),
    "full-8x128": SelectionCase("full", 8, 128, prompt=16),
    "full-32x64": SelectionCase("full", 32, 64, prompt=8),
    "full-8x128-short-answers": SelectionCase("full", 8, 128, prompt=112),
    "online-lora-32x64": SelectionCase("lora", 32, 64, prompt=8, online=True),
    "online-lora-32x64-short-answers": SelectionCase("lora", 32, 64, prompt=56, online=True),
}
