"""A step of TRL's trainer on the embedded model, plain, with our penalties, and with them as papers' code has them."""

import copy
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, Trainer
from trl.trainer.sft_trainer import SFTTrainer

from benchmarks.speed.paired import Run, timed
from benchmarks.speed.regularizer_layers import once
from benchmarks.speed.regularizer_rivals import DenseDirection, FullLogitsTokens, Rival
from benchmarks.speed.training_step import as_dataset, random_tokens, steps
from moored import AlignmentDirection, SafetyTokens
from moored.embedded.model import aligned_adapter, base_checkpoint
from moored.huggingface import SafeguardedSFTTrainer
from moored.huggingface.data import token_ids
from moored.huggingface.models import load_model, load_tokenizer
from moored.huggingface.safeguards.hidden_states import HiddenStates, hidden_states
from moored.huggingface.safeguards.token_penalty import ActiveTokenPenalty
from moored.huggingface.training.compact_head import compact_head
from moored.workflows.inputs.models import resolve_model

_DIRECTION, _TOKENS = 1.0, 0.1
"""Strengths."""
_NOISE = 0.2
"""Of the made-up base: Ĉ then weighs in what is compared, and its eigenvalues stay below 1."""
_WORDS = (
    "sorry cannot can not unable help with that this request provide assist harmful illegal against instead safe "
    "safety legal refuse however please because would could should must never no respect consider responsible"
)


class Shared:
    """The model without a LoRA, and what goes with it."""

    def __init__(self, model_name: str) -> None:
        source = resolve_model(model_name)
        self.model: Any = load_model(source, merge=True)
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(source)
        self.texts = tuple(f" {word}" for word in _WORDS.split())

    @cached_property
    def base(self) -> str:
        """A checkpoint that differs from the model in all directions: the worst case, a d of full rank."""
        self._folder = tempfile.TemporaryDirectory()
        draw = torch.Generator().manual_seed(2)
        head = self.model.get_output_embeddings()
        linear = {
            name: each for name, each in self.model.named_modules() if isinstance(each, nn.Linear) and each is not head
        }
        noisy = {
            f"{name}.weight": (each.weight + _NOISE * torch.randn(each.weight.shape, generator=draw)).bfloat16()
            for name, each in linear.items()
        }
        save_file(noisy, Path(self._folder.name) / "model.safetensors")
        return self._folder.name

    def copy(self) -> Any:
        """A model of its own to be changed, which has its weights in common with the others."""
        weights = chain(self.model.parameters(), self.model.buffers())
        return copy.deepcopy(self.model, {id(each): each for each in weights}).train()


def _direction(shared: Shared) -> AlignmentDirection:
    return AlignmentDirection(strength=_DIRECTION, base=shared.base)


def _low_rank(shared: Shared) -> AlignmentDirection:
    return AlignmentDirection(strength=_DIRECTION, base=str(base_checkpoint()), adapter=str(aligned_adapter()))


def _cached(shared: Shared) -> SafetyTokens:
    return SafetyTokens(strength=_TOKENS, tokens=shared.texts)


def _uncached(shared: Shared) -> SafetyTokens:
    return SafetyTokens(strength=_TOKENS, tokens=shared.texts, reference="model")


def _ours(*penalties: Callable[[Shared], Any]) -> Callable[[Shared], Callable[..., Trainer]]:
    return lambda shared: partial(SafeguardedSFTTrainer, safeguards=[each(shared) for each in penalties])


def _dense(shared: Shared) -> Callable[..., Trainer]:
    return partial(DenseDirection, base=shared.base, strength=_DIRECTION)


def _full_logits(shared: Shared) -> Callable[..., Trainer]:
    return partial(FullLogitsTokens, tokens=token_ids(shared.texts, shared.tokenizer), strength=_TOKENS)


WAYS: dict[str, Callable[[Shared], Callable[..., Trainer]]] = {
    "limit": lambda shared: SFTTrainer,
    "moored-direction": _ours(_direction),
    "moored-direction-lowrank": _ours(_low_rank),
    "moored-tokens-cached": _ours(_cached),
    "moored-tokens-uncached": _ours(_uncached),
    "moored-both": _ours(_direction, _cached),
    "dense-direction": _dense,
    "full-logits-tokens": _full_logits,
    "limit-again": lambda shared: SFTTrainer,
}
OURS = tuple(way for way in WAYS if way.startswith("moored-"))


@dataclass(frozen=True)
class StepCase:
    """Micro-batches of 8 rows of 128 tokens, 16 of them without a label, in bf16 autocast; LoRA on all layers."""

    accumulation: int
    variants: Sequence[str]
    seconds: float
    """Of a round."""

    def load(self, options: Namespace) -> Shared:
        """The model in fp32."""
        return Shared(options.model)

    def prepare(self, variant: str, shared: Shared, options: Namespace) -> Run:
        """A trainer that steps; what its penalties say is what it finds."""
        found: list[float] = []
        step = _stepping(variant, shared, self.accumulation, lambda trainer: found.extend(_values(trainer)))

        def run() -> Any:
            found.clear()
            seconds = step()
            return seconds, torch.tensor(found) if found else None

        return run


@dataclass(frozen=True)
class AloneCase:
    """The part of such a step that penalties add, alone; all others are as they were without them."""

    variants: Sequence[str]
    seconds: float
    """Of a round."""

    def load(self, options: Namespace) -> Shared:
        """The model in fp32."""
        return Shared(options.model)

    def prepare(self, variant: str, shared: Shared, options: Namespace) -> Run:
        """A whole step for the limit; of the others the penalties and their gradients, once a step set them up."""
        if variant == "limit":
            return StepCase(1, (), 0.0).prepare(variant, shared, options)
        parts: list[Callable[[], Tensor]] = []
        _stepping(variant, shared, 1, lambda trainer: parts.extend(_parts(trainer)))()
        return timed(lambda: torch.cat([part() for part in parts]))


def _parts(trainer: Any) -> Iterator[Callable[[], Tensor]]:
    """What each penalty of a trainer adds to a step; each finds its values."""
    for active in trainer._active:
        yield _token_part(trainer, active) if isinstance(active, ActiveTokenPenalty) else partial(once, active)


def _token_part(trainer: Any, active: ActiveTokenPenalty) -> Callable[[], Tensor]:
    """Of a token penalty, from the hidden states of a pass to the gradient at them."""
    (batch,) = trainer.get_train_dataloader()
    with torch.no_grad(), trainer.accelerator.autocast(), hidden_states(trainer.model) as passed:
        trainer.model(**batch)
    last = passed.at(torch.ones_like(batch["labels"], dtype=torch.bool)).view(*batch["labels"].shape, -1)

    def run() -> Tensor:
        states = HiddenStates()
        states.take(last.clone().requires_grad_())
        active.before_step([batch])
        with trainer.accelerator.autocast():
            penalty = active.in_loss(batch)(states)
        penalty.backward()
        logs = active.drain()
        return torch.tensor([logs[name] for name in ("value", "gradient_norm")])

    return run


def _stepping(variant: str, shared: Shared, accumulation: int, end: Callable[[Any], None]) -> Callable[[], float]:
    """A trainer on a fresh LoRA, as `moored train` makes one; once it has its anchor, the weights move."""
    batch = random_tokens(8 * accumulation, 128, 16, shared.model.config.vocab_size)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    torch.manual_seed(0)
    make = partial(WAYS[variant](shared), model=shared.copy(), peft_config=lora)
    trainer, step = steps(make, shared.tokenizer, as_dataset(batch), bf16=True, begin=_begin, end=end)
    compact_head(trainer.model)
    return step


def _begin(trainer: Any) -> None:
    draw, parameters = torch.Generator().manual_seed(3), trainer.model.named_parameters()
    if isinstance(trainer, Rival):
        trainer.begin()
    for name, parameter in parameters:
        if "lora_B" in name:
            # Where they stay: the learning rate is zero.
            nn.init.normal_(parameter, std=0.01, generator=draw)


def _values(trainer: Any) -> list[float]:
    """The penalties of the last step, without their strengths."""
    if isinstance(trainer, Rival):
        return trainer.values()
    if not isinstance(trainer, SafeguardedSFTTrainer):
        return []
    return [logs["value"] for active in trainer._active if (logs := active.drain())]
