"""The gradient of each sample at some coordinates of some matrices, one sample after the other."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from moored.huggingface.data import IGNORED
from moored.huggingface.gradients.dataset import padded
from moored.huggingface.models import plain_name


def coordinate_gradients(
    model: Any,
    rows: Sequence[Mapping[str, Any]],
    coordinates: Mapping[str, Int[Tensor, " k"]],
    *,
    max_length: int,
    advance: Callable[[int], None] = lambda done: None,
) -> dict[str, Float[Tensor, "sample k"]]:
    """Computes the gradient of each sample's mean loss, only at the coordinates, on the CPU in fp32.

    Each matrix's gradient is freed as soon as the backward pass has completed it. Dropout is off. The model's modes
    and requires_grad flags are restored.

    Args:
        model: a causal language model of transformers.
        rows: each with `input_ids` and `labels`, of which at least one is learned.
        coordinates: a parameter's plain name → places in the flattened parameter; k may differ between them.
        max_length: tokens after which a row is cut.
        advance: called with 1 after each row.
    """
    device = next(model.parameters()).device
    gradients = {name: torch.zeros(len(rows), len(at)) for name, at in coordinates.items()}
    sample = 0

    def keep(name: str, parameter: Tensor) -> None:
        assert parameter.grad is not None
        gradients[name][sample] = parameter.grad.flatten()[coordinates[name].to(device)].float().cpu()
        parameter.grad = None

    with _deterministic(model), _watched(model, coordinates, keep), torch.enable_grad():
        for sample, row in enumerate(rows):  # noqa: B007 - `keep` reads it
            _loss(model, padded([row], max_length, device)).backward()
            advance(1)
    return gradients


def _loss(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    logits = model(input_ids=batch["input_ids"], use_cache=False).logits[0, :-1]
    targets = batch["labels"][0, 1:]
    learned = targets != IGNORED
    return nn.functional.cross_entropy(logits[learned].float(), targets[learned])


@contextmanager
def _deterministic(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def _watched(model: nn.Module, names: Mapping[str, Any], keep: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Gives only the named parameters gradients, each of which goes to `keep` when it is complete."""
    flags = {parameter: parameter.requires_grad for parameter in model.parameters()}
    handles = []
    try:
        for full, parameter in model.named_parameters():
            name = plain_name(full)
            parameter.requires_grad_(name in names)
            if name in names:
                handles.append(parameter.register_post_accumulate_grad_hook(_taking(name, keep)))
        yield
    finally:
        for handle in handles:
            handle.remove()
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)


def _taking(name: str, keep: Callable[[str, Tensor], None]) -> Callable[[Tensor], None]:
    return lambda parameter: keep(name, parameter)
