"""The last hidden states of a forward pass that somebody else runs, or those of a noise-free repetition of it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from moored.errors import InactiveError, InputError
from moored.huggingface.gradients.causal_model import split
from moored.huggingface.gradients.undisturbed import drawn_since, random_state
from moored.huggingface.safeguards.noise_free import noise_free_states


class HiddenStates:
    """The output of the backbone, which the output head turns into logits."""

    def __init__(self) -> None:
        self._last: Tensor | None = None
        self._repeat: Callable[[], Tensor] | None = None
        self._repeated: Tensor | None = None

    @property
    def noisy(self) -> bool:
        """Whether the pass had noise, so that `at` gives the states of another one."""
        return self._repeat is not None

    def repeat_with(self, compute: Callable[[], Tensor]) -> None:
        """Takes what computes the states again without noise; it is called only if they are asked for."""
        self._repeat = compute

    def take(self, hidden: Tensor) -> None:
        """Keeps the output of the first pass, or of the first with a graph: metrics may run passes without one."""
        if self._last is None or (hidden.requires_grad and not self._last.requires_grad):
            self._last = hidden

    def at(self, positions: Bool[Tensor, "row column"]) -> Float[Tensor, "position dim"]:
        """Returns the hidden states at some positions of the batch, row by row, without noise.

        Raises:
            InactiveError: there was no forward pass.
            InputError: the pass had other positions than the batch, as with virtual tokens in front, or noise that
                cannot be left out.
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
        if self._repeat is not None and self._repeated is None:
            self._repeated = self._repeat()
        states = self._last if self._repeated is None else self._repeated
        return states[positions.to(states.device)]

    def on_gradient(self, callback: Callable[[Tensor], object]) -> None:
        """Calls `callback` in the backward pass with the whole gradient at the loss's hidden states, which stays."""
        assert self._last is not None

        def hook(gradient: Tensor) -> None:
            callback(gradient)

        self._last.register_hook(hook)


@contextmanager
def hidden_states(model: nn.Module, batch: Mapping[str, Any] | None = None) -> Iterator[HiddenStates]:
    """Watches the forward passes of a causal language model, even one that is wrapped or has its head fused.

    A pass with dropout or NEFTune differs from any other one, so that a distance between two would be mostly noise.
    Where random numbers are drawn, the states are those of one more pass without noise.

    Args:
        model: the model.
        batch: what the pass is run on, to repeat it; without it, the states are those of the pass.

    Raises:
        ModelError: as `split`.
    """
    states = HiddenStates()
    device = next(model.parameters()).device
    before = random_state(device)

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        states.take(output[0])

    # The first of all hooks, since a later one may pass on fewer positions.
    handle = split(model).backbone.register_forward_hook(hook, prepend=True)
    try:
        yield states
    finally:
        handle.remove()
    if batch is not None and drawn_since(before, device):
        states.repeat_with(partial(noise_free_states, model, batch))
