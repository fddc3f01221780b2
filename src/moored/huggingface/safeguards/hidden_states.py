"""The last hidden states of a forward pass that somebody else runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from moored.errors import InactiveError, InputError
from moored.huggingface.gradients.causal_model import split


class Seen:
    """What passed from the backbone to the output head."""

    def __init__(self) -> None:
        self._last: Tensor | None = None

    def take(self, hidden: Tensor) -> None:
        """Keeps the first that came by, but rather one that has a graph: metrics take passes without."""
        if self._last is None or (hidden.requires_grad and not self._last.requires_grad):
            self._last = hidden

    def at(self, positions: Bool[Tensor, "row column"]) -> Float[Tensor, "position dim"]:
        """The last hidden states at some positions of the batch, row by row.

        Raises:
            InactiveError: no forward pass came by.
            InputError: it had other positions than the batch, as with virtual tokens in front.
        """
        if self._last is None:
            raise InactiveError(
                "Safety tokens saw no hidden states, since this trainer's loss does not run the model that it trains; "
                "take them out."
            )
        if self._last.shape[:2] != positions.shape:
            ours, theirs = ("×".join(map(str, shape)) for shape in (positions.shape, self._last.shape[:2]))
            raise InputError(
                f"The batch has {ours} positions and the model's hidden states have {theirs}; safety tokens work with "
                "no adapter that puts virtual tokens in front."
            )
        return self._last[positions.to(self._last.device)]

    def when_differentiated(self, told: Callable[[Tensor], object]) -> None:
        """Calls `told` in the backward pass with the whole gradient at the hidden states, which stays as it is."""
        assert self._last is not None

        def hook(gradient: Tensor) -> None:
            told(gradient)

        self._last.register_hook(hook)


@contextmanager
def hidden_states(model: nn.Module) -> Iterator[Seen]:
    """Watches the forward passes of a causal language model, whatever is wrapped around it and fuses its head.

    Raises:
        ModelError: as `split`.
    """
    seen = Seen()

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        seen.take(output[0])

    # The first of all hooks: a later one may hand on fewer positions.
    handle = split(model).backbone.register_forward_hook(hook, prepend=True)
    try:
        yield seen
    finally:
        handle.remove()
