"""Keeps a pass of ours from changing a model: noise is off meanwhile, and random state and buffers are restored."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from moored.errors import InputError


@contextmanager
def undisturbed(model: nn.Module, device: torch.device) -> Iterator[Callable[[], None]]:
    """Restores everything that a forward pass may change; yields a check that no random number was drawn.

    Modules other than dropout keep their mode: `model.eval()` would switch gradient checkpointing off.
    """
    with torch.random.fork_rng([device.index or 0] if device.type != "cpu" else [], device_type=_kind(device)):
        before = random_state(device)

        def require_no_draw() -> None:
            if drawn_since(before, device):
                raise InputError(
                    "The model draws random numbers in training mode for something other than dropout and NEFTune, and "
                    "gradient selection and safety tokens need a pass without noise; switch that off in its "
                    "configuration, or leave them out."
                )

        with without_noise(model), _same_buffers(model):
            yield require_no_draw


def _kind(device: torch.device) -> str:
    return "cuda" if device.type == "cpu" else device.type


def random_state(device: torch.device) -> list[Tensor]:
    """The state of the generators that a pass on a device may draw from."""
    states = [torch.get_rng_state()]
    return states if device.type == "cpu" else [*states, torch.get_device_module(device).get_rng_state(device)]


def drawn_since(before: list[Tensor], device: torch.device) -> bool:
    """Whether a random number was drawn since the generators were in a state."""
    return not all(torch.equal(*pair) for pair in zip(before, random_state(device), strict=True))


@contextmanager
def without_noise(model: nn.Module) -> Iterator[None]:
    """Puts what makes noise in eval mode and sets probabilities that a module passes to a function to zero."""
    saved = [(module, key, value) for module in model.modules() for key, value in _chances(module)]
    try:
        for module, key, value in saved:
            module.__dict__[key] = type(value)(0)
        yield
    finally:
        for module, key, value in saved:
            module.__dict__[key] = value


def _chances(module: nn.Module) -> list[tuple[str, bool | int | float]]:
    if isinstance(module, _DropoutNd):
        # Attention reads the probability of a dropout module without calling it.
        return [("training", module.training), ("p", module.p)]
    if hasattr(module, "neftune_noise_alpha"):
        return [("training", module.training)]  # Its hook adds noise in training mode.
    return [
        (key, value)
        for key, value in vars(module).items()
        if isinstance(value, float) and any(word in key for word in ("drop", "jitter"))
    ]


@contextmanager
def _same_buffers(model: nn.Module) -> Iterator[None]:
    """Restores buffers that were replaced (rotary frequencies for longer texts) or written to."""
    saved = [
        (module, key, buffer, buffer.detach().clone(), buffer._version)
        for module in model.modules()
        for key, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, key, buffer, copy, version in saved:
                module._buffers[key] = buffer
                if buffer._version != version:
                    buffer.copy_(copy)
