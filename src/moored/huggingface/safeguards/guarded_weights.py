"""The weights that a penalty guards, and how far each has moved from the anchor, which is its value at the start."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import torch
from jaxtyping import Float
from peft.tuners.lora import LoraLayer, ParamWrapper
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from moored.errors import InputError
from moored.huggingface.models import is_code, is_stack, place_of, plain_name
from moored.tensors.low_rank import LowRank


@dataclass(frozen=True)
class Factors:
    """The LoRA factors of one adapter on one module, and their start where their product is not zero there."""

    a: Tensor
    b: Tensor
    scale: float
    start: LowRank | None
    """B₀ and A₀ in fp32, or None where B₀ is zero, as it is for a fresh adapter."""

    def update(self, *, scaled: bool) -> LowRank:
        """BA − B₀A₀ in fp32, differentiable in the factors.

        Written as (B − B₀)A + B₀(A − A₀), it is exactly zero at the start, and near the start no large numbers cancel,
        as they would in the difference of the two products.
        """
        scale = self.scale if scaled else 1.0
        b, a = self.b.float(), self.a.float()
        if self.start is None:
            return LowRank(scale * b, a)
        return LowRank(scale * (b - self.start.b), a) + LowRank(scale * self.start.b, a - self.start.a)


@dataclass(frozen=True)
class LoraWeight:
    """A weight under the trainable factors of one adapter or several."""

    name: str
    layer: Any
    """PEFT's, with the weight below it."""
    factors: tuple[Factors, ...]
    frozen: tuple[LowRank, ...] = ()
    """The updates of adapters that are active but not trained, in fp32."""

    @property
    def stored(self) -> str:
        """The name of the weight itself."""
        return f"{self.name}.weight"

    @property
    def below_adapters(self) -> Any:
        """The weight without its adapters; None where the layer keeps it in another form."""
        return getattr(self.layer.get_base_layer(), "weight", None)

    def as_matrix(self, tensor: Tensor) -> Float[Tensor, "out in"]:
        """Returns a tensor of the weight's shape as `out × in`; GPT-2's layers keep the transpose."""
        return tensor.T if getattr(self.layer, "fan_in_fan_out", False) else tensor

    @property
    def parameters(self) -> list[Tensor]:
        """The trained factors; some recipes (LoRA-FA) train B alone."""
        return [each for factors in self.factors for each in (factors.a, factors.b) if each.requires_grad]

    @property
    def size(self) -> int:
        """The number of entries of the weight."""
        return len(self.factors[0].b) * self.factors[0].a.shape[1]

    def update(self, *, scaled: bool) -> LowRank:
        """Returns ΔW, the sum over the adapters; differentiable in their factors."""
        return reduce(add, (factors.update(scaled=scaled) for factors in self.factors))

    def below(self) -> Float[Tensor, "out in"] | None:
        """Returns the weight without its adapters, in fp32, or None where it is quantized."""
        weight = self.below_adapters
        if weight is None or is_code(weight) or weight.ndim != 2:
            return None
        return self.as_matrix(weight.detach()).float()

    def start(self) -> LowRank | None:
        """Returns what all adapters add to that at the start, with their scales, or None where they add nothing."""
        products = [LowRank(each.scale * each.start.b, each.start.a) for each in self.factors if each.start is not None]
        return reduce(add, [*products, *self.frozen]) if products or self.frozen else None


@dataclass(frozen=True)
class WholeWeight:
    """A weight that is trained itself, without an adapter; a stack of experts counts as one matrix."""

    name: str
    stored: str
    """Its name with `.weight`, which a stack of experts has not."""
    parameter: nn.Parameter
    anchor: Tensor
    """A copy taken at the start, in the weight's precision."""
    transposed: bool
    """Whether it is kept as `in × out`."""

    @property
    def parameters(self) -> list[Tensor]:
        """The weight."""
        return [self.parameter]

    @property
    def size(self) -> int:
        """The number of entries of the weight."""
        return self.anchor.numel()

    @property
    def below_adapters(self) -> nn.Parameter:
        """The weight."""
        return self.parameter

    def as_matrix(self, tensor: Tensor) -> Float[Tensor, "out in"]:
        """Returns a tensor of the weight's shape as `out × in`; the experts of a stack stand one below the other."""
        oriented = tensor.transpose(-2, -1) if self.transposed else tensor
        return oriented.reshape(-1, oriented.shape[-1])

    def update(self, *, scaled: bool) -> Float[Tensor, "out in"]:
        """Returns W − W₀ in fp32, differentiable in the weight; there is no scale."""
        return self.as_matrix(self.parameter.float() - self.anchor.float())

    def below(self) -> Float[Tensor, "out in"]:
        """Returns the weight at the start, in fp32."""
        return self.as_matrix(self.anchor.float())

    def start(self) -> None:
        """Returns None: no adapter adds to it."""


GuardedWeight = LoraWeight | WholeWeight


def guarded_weights(model: nn.Module) -> Sequence[GuardedWeight]:
    """Finds the weights that a weight penalty guards, with the model's weights of this moment as anchor.

    These are the modules with a trainable LoRA or, in a model without one, the backbone's trainable matrices inside the
    layers, stacks of experts among them, and all its other linear layers. What comes after the backbone is left free:
    the output head, and heads that a trainer made at random, such as a reward model's.

    Raises:
        InputError: DoRA or another variant whose update is not a product of two factors.
    """
    modules = [(plain_name(name), module) for name, module in model.named_modules()]
    return [*_with_lora(modules)] or [*_whole(modules, model)]


def _with_lora(modules: Sequence[tuple[str, nn.Module]]) -> Iterator[LoraWeight]:
    for name, module in modules:
        if isinstance(module, LoraLayer) and (factors := tuple(_factors(module))):
            yield LoraWeight(name, module, factors, tuple(_frozen(module)))


def _factors(module: Any) -> Iterator[Factors]:
    for a, b, scale in _pairs(module, trained=True):
        moved = bool(b.detach().any())
        start = LowRank(_copy(b), _copy(a)) if moved else None
        yield Factors(a, b, scale, start)


def _frozen(module: Any) -> Iterator[LowRank]:
    return (LowRank(scale * _copy(b), _copy(a)) for a, b, scale in _pairs(module, trained=False))


def _pairs(module: Any, *, trained: bool) -> Iterator[tuple[Tensor, Tensor, float]]:
    """Yields A, B and the scale of each active adapter."""
    for adapter in module.active_adapters:
        if adapter not in module.lora_A:
            continue
        inner = module.lora_A[adapter]
        if not isinstance(inner, nn.Linear) or isinstance(module, ParamWrapper):
            raise InputError(
                "Weight penalties work only with a LoRA on linear layers, not with AdaLoRA, convolutions or "
                "target_parameters; use another adapter, or remove the penalties."
            )
        a, b = inner.weight, module.lora_B[adapter].weight
        if (a.requires_grad or b.requires_grad) != trained:
            continue
        if module.use_dora.get(adapter):
            raise InputError("Weight penalties do not work with DoRA; set use_dora: false or remove the penalties.")
        yield a, b, float(module.scaling[adapter])


def _copy(parameter: Tensor) -> Tensor:
    return parameter.detach().to(torch.float32, copy=True)


def _whole(modules: Sequence[tuple[str, nn.Module]], model: Any) -> Iterator[WholeWeight]:
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    seen = {id(getattr(head, "weight", None))}
    backbone = {id(module) for module in _backbone(model).modules()}
    for name, module in modules:
        if id(module) not in backbone:
            continue
        for own, parameter in module.named_parameters(recurse=False):
            stored = f"{name}.{own}" if name else own
            if id(parameter) in seen or not (parameter.requires_grad and _is_held(module, stored, parameter)):
                continue
            seen.add(id(parameter))
            transposed = isinstance(module, Conv1D) or bool(getattr(module, "is_transposed", False))
            yield WholeWeight(stored.removesuffix(".weight"), stored, parameter, parameter.detach().clone(), transposed)


def _backbone(model: Any) -> nn.Module:
    """What transformers calls the base model, if it has linear layers; else the whole model."""
    base: Any = getattr(model, "base_model", None)
    if isinstance(base, nn.Module) and any(isinstance(module, nn.Linear) for module in base.modules()):
        return base
    return model


def _is_held(module: nn.Module, name: str, parameter: Tensor) -> bool:
    if isinstance(module, nn.Linear):
        return parameter.ndim == 2
    is_matrix = is_stack(parameter) or (parameter.ndim == 2 and not name.endswith("bias"))
    return is_matrix and place_of(name).layer is not None
