"""Gradients of whole weights as products of two thin factors, from one backward pass, without the weights' own size."""

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
    """∇_W of a sum of losses for each linear layer inside a model's layers, by the weight's plain name, `out × in`.

    With the inputs X (token × in) of a layer and the gradients G (token × out) of its outputs, ∇_W = Gᵀ X: its rank is
    at most the number of tokens. Nothing of the model is changed; `.grad` is not written.

    Args:
        model: adapters folded in, so that its linear layers hold whole weights.
        losses: computes scalars with one forward pass or more, one after the other, so that one graph is in memory at
            a time.

    Raises:
        ModelError: no linear layer inside the layers took part, or some of the layers' weights are no matrices.
    """
    for name, each in model.named_parameters():
        refuse_stacked(plain_name(name), each, "take a dense model")
    layers = {f"{plain_name(name)}.weight": each for name, each in model.named_modules() if _is_linear(each)}
    inner = {name: each for name, each in layers.items() if place_of(name).layer is not None}
    found: dict[str, LowRank] = {}
    with ExitStack() as stack:
        stack.enter_context(_frozen(model))
        stack.enter_context(_leaf(model))
        for name, module in inner.items():
            stack.callback(module.register_forward_hook(_recorder(found, name)).remove)
        with torch.enable_grad():
            for each in losses():
                each.backward()
    if not found:
        raise ModelError("The model has no linear layers inside its layers whose gradients could be looked at.")
    return {name: found[name] for name in inner if name in found}


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | Conv1D)


def stored_gradients(model: nn.Module, losses: Callable[[], Iterable[Tensor]]) -> dict[str, Matrix]:
    """The same in the orientation in which the model keeps its weights, which GPT-2 transposes.

    A gradient is whole where a product of factors would be larger.
    """
    turned = {f"{plain_name(name)}.weight" for name, each in model.named_modules() if isinstance(each, Conv1D)}
    return {
        name: _smaller(LowRank(each.a.T, each.b.T) if name in turned else each)
        for name, each in matrix_gradients(model, losses).items()
    }


def _smaller(gradient: LowRank) -> Matrix:
    rows, columns = gradient.shape
    return gradient if gradient.b.shape[1] * (rows + columns) < rows * columns else gradient.whole()


def _recorder(found: dict[str, LowRank], name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x = inputs[0].detach()
        output.register_hook(lambda gradient: _add(found, name, _product(gradient, x)))

    return record


def _product(gradient: Float[Tensor, "*token out"], x: Float[Tensor, "*token in"]) -> LowRank:
    return LowRank(gradient.flatten(0, -2).T.float(), x.flatten(0, -2).float())


def _add(found: dict[str, LowRank], name: str, gradient: LowRank) -> None:
    found[name] = found[name] + gradient if name in found else gradient


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """No weight asks for a gradient of its own, which would be as large as it is."""
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
    """The embeddings' output is what gradients are led back to."""
    hook = model.get_input_embeddings().register_forward_hook(lambda module, inputs, output: output.requires_grad_())
    try:
        yield
    finally:
        hook.remove()
