"""The direction penalty and its gradient for one large layer, beside the layer's own forward and backward."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from benchmarks.speed.paired import Run, timed
from benchmarks.speed.regularizer_rivals import complement, off_direction
from moored import AlignmentDirection
from moored.huggingface.safeguards.guarded_weights import guarded_weights
from moored.huggingface.safeguards.weight_penalty import ActiveWeightPenalty

_TOKENS = 1024
_SCALE = 0.2
"""Of d's entries, so that the largest eigenvalue of Ĉ is about 0.8."""
_PRECISIONS: dict[str, Any] = {"moored-bf16": "bfloat16", "moored-fp32": "float32"}


@dataclass
class _Layer:
    model: nn.Module
    """A linear layer in bf16 with a LoRA in fp32."""
    difference: Float[Tensor, "out in"]

    @property
    def factors(self) -> list[Tensor]:
        """A and B."""
        return [each for each in self.model.parameters() if each.requires_grad]


@dataclass(frozen=True)
class LayerCase:
    """A layer of so many outputs and inputs."""

    out: int
    into: int
    seconds: float
    """Of a round."""
    variants: Sequence[str] = ("limit", *_PRECISIONS, "dense")

    def load(self, options: Namespace) -> _Layer:
        """The layer, moved from its anchor already, and a d of full rank."""
        torch.manual_seed(0)
        plain = nn.Sequential(nn.Linear(self.into, self.out, bias=False, dtype=torch.bfloat16))
        model: Any = get_peft_model(plain, LoraConfig(r=16, lora_alpha=32, target_modules=["0"]))  # pyright: ignore
        return _Layer(model, _SCALE * torch.randn(self.out, self.into))

    def prepare(self, variant: str, shared: _Layer, options: Namespace) -> Run:
        """Each finds the penalty and the norm of its gradient."""
        if variant == "limit":
            return _limit(shared, torch.randn(_TOKENS, self.into))
        if variant == "dense":
            return _dense(shared)
        return _moored(shared, AlignmentDirection(base="made up", precision=_PRECISIONS[variant]))


def _limit(layer: _Layer, inputs: Tensor) -> Run:
    gradient = torch.randn(_TOKENS, len(layer.difference))

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            outputs = layer.model(inputs.detach().requires_grad_())
        outputs.backward(gradient.to(outputs))

    return timed(run)


def _moored(layer: _Layer, penalty: AlignmentDirection) -> Run:
    _move(layer, 0.0)
    weights = guarded_weights(layer.model)
    guides = {each.name: penalty.guide(layer.difference, each.name) for each in weights}
    active = ActiveWeightPenalty(penalty, weights, guides, 1)
    _move(layer, 0.01)

    return timed(lambda: once(active))


def once(active: ActiveWeightPenalty) -> Tensor:
    """Adds the penalty's gradient; its value and the gradient's norm."""
    active.recent.clear()
    active.add_gradients(1.0, torch.zeros(()))
    value, _, norm, _ = active.recent[-1]
    return torch.stack([value, norm])


def _dense(layer: _Layer) -> Run:
    off = complement(layer.difference)
    _move(layer, 0.01)

    def run() -> Tensor:
        a, b = layer.factors
        value = off_direction(off, b, a)
        gradients = torch.autograd.grad(value, [a, b])
        return torch.stack([value.detach(), torch.stack([each.square().sum() for each in gradients]).sum().sqrt()])

    return timed(run)


def _move(layer: _Layer, to: float) -> None:
    """B is drawn with that standard deviation, the same in each process."""
    nn.init.normal_(layer.factors[1], std=to, generator=torch.Generator().manual_seed(3))
