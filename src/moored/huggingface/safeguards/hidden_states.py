"""The last hidden states of a forward pass that somebody else runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from moored.errors import InactiveError, InputError
from moored.huggingface.gradients.causal_model import split


class HiddenStates:
    """The output of the backbone, which the output head turns into logits."""

    def __init__(self) -> None:
        self._last: Tensor | None = None

    def take(self, hidden: Tensor) -> None:
        """Keeps the output of the first pass, or of the first with a graph: metrics may run passes without one."""
        if self._last is None or (hidden.requires_grad and not self._last.requires_grad):
            self._last = hidden

    def at(self, positions: Bool[Tensor, "row column"]) -> Float[Tensor, "position dim"]:
        """Returns the hidden states at some positions of the batch, row by row.

        Raises:
            InactiveError: there was no forward pass.
            InputError: the pass had other positions than the batch, as with virtual tokens in front.
        """
        if self._last is None:
            raise InactiveError(
                "Safety tokens saw no hidden states, since this trainer's loss does not run the model that it trains; "
                "remove them."
            )
        if self._last.shape[:2] != positions.shape:
            ours, theirs = ("×".join(map(str, shape)) for shape in (positions.shape, self._last.shape[:2]))
            raise InputError(
                f"The batch has {ours} positions and the model's hidden states have {theirs}; safety tokens do not "
                "work with an adapter that puts virtual tokens in front."
            )
        return self._last[positions.to(self._last.device)]

    def on_gradient(self, callback: Callable[[Tensor], object]) -> None:
        """Calls `callback` in the backward pass with the whole gradient at the hidden states, which stays as it is."""
        assert self._last is not None

        def hook(gradient: Tensor) -> None:
            callback(gradient)

        self._last.register_hook(hook)


@contextmanager
def hidden_states(model: nn.Module) -> Iterator[HiddenStates]:
    """Watches the forward passes of a causal language model, even one that is wrapped or has its head fused.

    Raises:
        ModelError: as `split`.
    """
    states = HiddenStates()

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        states.take(output[0])

    # The first of all hooks, since a later one may pass on fewer positions.
    handle = split(model).backbone.register_forward_hook(hook, prepend=True)
    try:
        yield states
    finally:
        handle.remove()
