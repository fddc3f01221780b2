"""Layers of experts whose weights are one tensor of three axes (transformers 5), recorded sample by sample."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from moored.huggingface.gradients.autograd_functions import ExpertDense
from moored.huggingface.gradients.norm_accumulator import NormAccumulator, cannot_score

_DESCRIBED = ("has_gate", "has_bias", "is_transposed", "_apply_gate", "config")
"""The attributes that transformers' `use_experts_implementation` sets on a class that computes as `forward` below."""


@contextmanager
def recorded_experts(model: nn.Module, names: dict[nn.Parameter, str], accumulator: NormAccumulator) -> Iterator[None]:
    """Replaces the forward pass of experts with trainable weights of three axes by one that records each sample's norm.

    Raises:
        InputError: a module with such a weight computes in an unknown way.
    """
    changed = [module for module in model.modules() if _weight(module, names) is not None]
    for module in changed:
        if not all(hasattr(module, key) for key in _DESCRIBED) or _is_special(module):
            weight = _weight(module, names)
            assert weight is not None
            raise cannot_score(names[weight], f"it is not known how {type(module).__name__} uses it")
    try:
        for module in changed:
            module.__dict__["forward"] = partial(forward, module, names, accumulator)
        yield
    finally:
        for module in changed:
            module.__dict__.pop("forward", None)


def _is_special(module: nn.Module) -> bool:
    settings = (getattr(module, key, False) for key in ("has_post_expert_norm", "_is_expert_parallel"))
    return any(settings) or "forward" in vars(module)


def _weight(module: nn.Module, names: dict[nn.Parameter, str]) -> nn.Parameter | None:
    own = (each for each in module._parameters.values() if each is not None and each in names)
    return next((each for each in own if each.ndim == 3), None)


def forward(
    module: Any,
    names: dict[nn.Parameter, str],
    accumulator: NormAccumulator,
    hidden_states: Float[Tensor, "position dim"],
    top_k_index: Int[Tensor, "position choice"],
    top_k_weights: Float[Tensor, "position choice"],
) -> Float[Tensor, "position dim"]:
    """Computes what `transformers.integrations.moe` does, with the pairs of position and expert sorted by expert."""
    accumulator.flat(hidden_states, "the experts' input")
    chosen, order = top_k_index.flatten().sort(stable=True)
    position = order // top_k_index.shape[1]
    counts = torch.bincount(chosen, minlength=module.num_experts).tolist()
    layer = partial(_layer, module, names, accumulator, position, counts)
    inner = layer(hidden_states[position], "gate_up_proj" if module.has_gate else "up_proj")
    out = layer(module._apply_gate(inner) if module.has_gate else module.act_fn(inner), "down_proj")
    weighted = out * top_k_weights.flatten()[order, None]
    sums = weighted.new_zeros(hidden_states.shape).index_add(0, position, weighted)
    return sums.to(hidden_states.dtype)


def _layer(
    module: Any,
    names: dict[nn.Parameter, str],
    accumulator: NormAccumulator,
    position: Tensor,
    counts: list[int],
    x: Tensor,
    key: str,
) -> Tensor:
    weight, bias = module._parameters[key], module._parameters.get(f"{key}_bias") if module.has_bias else None
    of = (names.get(weight), names.get(bias) if bias is not None else None)
    plain = weight.detach().mT if module.is_transposed else weight.detach()
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    return ExpertDense.apply(  # pyright: ignore[reportReturnType]
        accumulator.graph_root, x, plain, None if bias is None else bias.detach(), position, counts, accumulator, of
    )
