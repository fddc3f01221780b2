"""The cases of `recovery.py`: a model, its repairs, and a clock around each."""

import copy
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from benchmarks.speed.paired import Run
from benchmarks.speed.training_step import as_dataset, random_tokens, steps
from moored.embedded.model import ALIGNED
from moored.embedded.prompts import ordinary_instructions
from moored.huggingface import SafeguardedSFTTrainer
from moored.huggingface.gradients.example_loss import example_loss
from moored.huggingface.models import load_model, load_tokenizer
from moored.recovery import OneShot
from moored.workflows.inputs.example_pool import candidates_of, own_refusals, pool_rows, unpooled_pairs
from moored.workflows.inputs.models import resolve_model
from moored.workflows.inputs.prompt_sets import EMBEDDED
from moored.workflows.recover.example_choice import probe_of, rendered_prompts
from moored.workflows.recover.example_trial import ExampleTrial

_EPOCH, _ROWS, _TOKENS = 1000, 32, 128
REPAIRS = {
    "moored-published": OneShot.preset("published"),
    "moored-auto": OneShot.preset("auto"),
}
CHOICES = {"moored-choose-20": 20, "moored-choose-100": 100}


@dataclass
class _Shared:
    model: Any
    aligned: Any
    tokenizer: Any

    @property
    def moving(self) -> list[nn.Parameter]:
        """What a repair moves."""
        return [each for each in self.model.parameters() if each.requires_grad]


@dataclass(frozen=True)
class RecoveryCase:
    """What is trained and repaired: the factors of an adapter, or all parameters."""

    trained: str
    seconds: float
    """Of a round."""
    variants: Sequence[str] = ("limit", *REPAIRS)

    def load(self, options: Namespace) -> _Shared:
        """The unaligned model, and the aligned one as the reference of choices."""
        model: Any = load_model(resolve_model("embedded:base"), trainable=self.trained == "full")
        if self.trained == "lora":
            torch.manual_seed(0)
            settings = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
            model = get_peft_model(model, settings)
        source = resolve_model(ALIGNED)
        return _Shared(model.eval(), load_model(source, merge=True), load_tokenizer(source))

    def prepare(self, variant: str, shared: _Shared, options: Namespace) -> Run:
        """A repair or a choice on the loaded model, or an epoch of training."""
        if variant == "limit":
            return _epoch(shared)
        if variant in REPAIRS:
            return _restoring(shared, partial(_repair, shared, REPAIRS[variant]))
        return _restoring(shared, partial(_choose, shared, CHOICES[variant]))


def _epoch(shared: _Shared) -> Run:
    pool = as_dataset(random_tokens(_ROWS, _TOKENS, _TOKENS // 4, shared.model.config.vocab_size))
    make = partial(SafeguardedSFTTrainer, model=copy.deepcopy(shared.model).train(), safeguards=[])
    _, step = steps(make, shared.tokenizer, pool)
    return lambda: (step() * _EPOCH / _ROWS, None)


def _restoring(shared: _Shared, work: Callable[[], Tensor | None]) -> Run:
    """Each run finds the model as the first one did."""
    start = [each.detach().clone() for each in shared.moving]

    def run() -> tuple[float, Tensor | None]:
        started = time.perf_counter()
        found = work()
        seconds = time.perf_counter() - started
        with torch.no_grad():
            for each, before in zip(shared.moving, start, strict=True):
                each.copy_(before)
        return seconds, found

    return run


def _repair(shared: _Shared, method: OneShot) -> Tensor:
    if method.needs_aligned:
        (refusal,) = own_refusals(shared.aligned, shared.tokenizer, [method.prompt])
        method = replace(method, refusal=refusal)
    prompt, refusal = method.example
    loss = example_loss(shared.model, shared.tokenizer, prompt, refusal)
    return torch.tensor(method.repair(shared.moving, loss).loss)


def _choose(shared: _Shared, count: int) -> None:
    method = OneShot.preset("auto")
    candidates = candidates_of(pool_rows(EMBEDDED)[:count], shared.aligned, shared.tokenizer)
    harmful = rendered_prompts(shared.tokenizer, [pair.harmful for pair in unpooled_pairs()])
    task = rendered_prompts(shared.tokenizer, [item.prompt for item in ordinary_instructions("align")])
    probes = (
        probe_of(shared.aligned, shared.tokenizer, harmful),
        probe_of(shared.model, shared.tokenizer, task),
    )
    ExampleTrial(shared.model, shared.tokenizer, probes, candidates, method).by_halving(None)
