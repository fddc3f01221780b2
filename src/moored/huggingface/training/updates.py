"""The weights that a penalty guards, and how far each has moved from the anchor."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from moored.errors import InputError
from moored.huggingface.models import plain_name


@dataclass(frozen=True)
class LoraUpdate:
    """ΔW = s(BA − B₀A₀) of one LoRA module (DESIGN, contract 11)."""

    name: str
    a: nn.Linear
    b: nn.Linear
    scale: float
    start: Tensor | None
    """s·B₀A₀, or None where it is zero, as it is for a fresh adapter."""

    def __call__(self) -> Float[Tensor, "out in"]:
        """The update in fp32, differentiable in the factors."""
        update = self.scale * (self.b.weight.float() @ self.a.weight.float())
        return update if self.start is None else update - self.start


@dataclass(frozen=True)
class DenseUpdate:
    """ΔW = W − W₀ of one weight that is trained whole; W₀ is a copy taken at the start."""

    name: str
    layer: nn.Linear
    start: Tensor

    def __call__(self) -> Float[Tensor, "out in"]:
        """The update in fp32, differentiable in the weight."""
        return self.layer.weight.float() - self.start


Update = LoraUpdate | DenseUpdate


def guarded_updates(model: nn.Module) -> list[Update]:
    """The update of each weight that a weight penalty holds, with the model's weights of this moment as anchor.

    These are the modules with a trainable LoRA or, in a model without one, the trainable weights of all linear
    layers but the output head.

    Raises:
        InputError: DoRA, whose update is no product of two factors.
    """
    modules = [(plain_name(name), module) for name, module in model.named_modules()]
    lora = [update for name, module in modules if isinstance(module, LoraLayer) for update in _of_lora(name, module)]
    return [*lora] or [*_of_linear(modules, model)]


def _of_lora(name: str, module: Any) -> Iterator[LoraUpdate]:
    for adapter in module.active_adapters:
        if adapter not in module.lora_A or not module.lora_A[adapter].weight.requires_grad:
            continue
        if module.use_dora.get(adapter):
            raise InputError("Weight penalties do not work with DoRA; set use_dora: false or take the penalties out.")
        fresh = LoraUpdate(name, module.lora_A[adapter], module.lora_B[adapter], float(module.scaling[adapter]), None)
        moved = bool(fresh.b.weight.detach().any())
        yield LoraUpdate(name, fresh.a, fresh.b, fresh.scale, fresh().detach()) if moved else fresh


def _of_linear(modules: list[tuple[str, nn.Module]], model: Any) -> Iterator[DenseUpdate]:
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    for name, module in modules:
        if isinstance(module, nn.Linear) and module is not head and module.weight.requires_grad:
            yield DenseUpdate(name, module, module.weight.detach().float().clone())
