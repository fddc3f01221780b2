"""A training pass without its noise, from which gradients flow as from the pass that the loss runs."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from moored.huggingface.gradients.causal_model import split
from moored.huggingface.gradients.undisturbed import undisturbed, without_noise


def noise_free_states(model: nn.Module, batch: Mapping[str, Any]) -> Float[Tensor, "row column dim"]:
    """Computes the last hidden states of a batch without dropout and NEFTune, differentiably.

    Layers whose activations are checkpointed stay so, and are without noise when the backward pass computes them again.

    Raises:
        InputError: the model makes noise by other means.
        ModelError: as `split`.
    """
    backbone = split(model).backbone
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    with undisturbed(model, next(model.parameters()).device) as require_no_draw, _noise_free_checkpoints(backbone):
        hidden = backbone(**{**inputs, "use_cache": False}).last_hidden_state
        require_no_draw()
    return hidden


@contextmanager
def _noise_free_checkpoints(model: nn.Module) -> Iterator[None]:
    """Lets the backward pass, which comes when noise is on again, recompute checkpointed layers without it."""
    name = "_gradient_checkpointing_func"
    saved = [(module, vars(module)[name]) for module in model.modules() if name in vars(module)]
    try:
        for module, _ in saved:
            setattr(module, name, partial(checkpoint, use_reentrant=False, context_fn=partial(_contexts, module)))
        yield
    finally:
        for module, function in saved:
            setattr(module, name, function)


def _contexts(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """The contexts of a layer's first computation and of its second."""
    return nullcontext(), without_noise(module)
