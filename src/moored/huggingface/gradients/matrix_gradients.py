"""Gradients of whole weights as products of two thin factors, from one backward pass and without a full matrix."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from moored.errors import ModelError
from moored.huggingface.models import place_of, plain_name, refuse_stacked
from moored.tensors.low_rank import LowRank, Matrix


def matrix_gradients(model: nn.Module, losses: Callable[[], Iterable[Tensor]]) -> dict[str, LowRank]:
    """Computes ∇_W of a sum of losses for the linear layers inside a model's layers, by plain name, `out × in`.

    With the inputs X (token × in) of a layer and the gradients G (token × out) of its outputs, ∇_W = Gᵀ X: its rank is
    at most the number of tokens. The model does not change; `.grad` is not written.

    Args:
        model: a model with its adapters merged, so that its linear layers hold whole weights.
        losses: computes scalars one after the other, each with its own forward pass, so that only one graph is in
            memory at a time.

    Raises:
        ModelError: no linear layer inside the layers took part, or some of the layers' weights are not matrices.
    """
    for name, each in model.named_parameters():
        refuse_stacked(plain_name(name), each, "take a dense model")
    layers = {f"{plain_name(name)}.weight": each for name, each in model.named_modules() if _is_linear(each)}
    inner = {name: each for name, each in layers.items() if place_of(name).layer is not None}
    gradients: dict[str, LowRank] = {}
    with ExitStack() as stack:
        stack.enter_context(_frozen(model))
        stack.enter_context(_leaf(model))
        for name, module in inner.items():
            stack.callback(module.register_forward_hook(_recorder(gradients, name)).remove)
        with torch.enable_grad():
            for loss in losses():
                loss.backward()
    if not gradients:
        raise ModelError(
            "The model has no linear layers inside its layers, so there are no gradients to look at; use another model."
        )
    return {name: gradients[name] for name in inner if name in gradients}


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | Conv1D)


def stored_gradients(model: nn.Module, losses: Callable[[], Iterable[Tensor]]) -> dict[str, Matrix]:
    """Computes the same in the orientation in which the model stores its weights, which GPT-2 transposes.

    A gradient is a full matrix where the two factors would be larger.
    """
    turned = {f"{plain_name(name)}.weight" for name, each in model.named_modules() if isinstance(each, Conv1D)}
    return {
        name: _smaller(LowRank(each.a.T, each.b.T) if name in turned else each)
        for name, each in matrix_gradients(model, losses).items()
    }


def _smaller(gradient: LowRank) -> Matrix:
    rows, columns = gradient.shape
    return gradient if gradient.b.shape[1] * (rows + columns) < rows * columns else gradient.whole()


def _recorder(gradients: dict[str, LowRank], name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x = inputs[0].detach()
        output.register_hook(lambda gradient: _add(gradients, name, _product(gradient, x)))

    return record


def _product(gradient: Float[Tensor, "*token out"], x: Float[Tensor, "*token in"]) -> LowRank:
    return LowRank(gradient.flatten(0, -2).T.float(), x.flatten(0, -2).float())


def _add(gradients: dict[str, LowRank], name: str, gradient: LowRank) -> None:
    gradients[name] = gradients[name] + gradient if name in gradients else gradient


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Freezes all weights: a gradient of their own would be as large as they are."""
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


@contextmanager
def _leaf(model: Any) -> Iterator[None]:
    """Makes the embeddings' output require a gradient, so that there is a backward pass without trainable weights."""
    hook = model.get_input_embeddings().register_forward_hook(lambda module, inputs, output: output.requires_grad_())
    try:
        yield
    finally:
        hook.remove()
