"""The parts of a repair by gradient steps: its record, a rate that fits, and the best weights so far."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from moored.errors import InactiveError, InputError


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The course of a repair."""

    loss: Sequence[float] = ()
    """The loss before the first step and after each one; empty if no step was to be taken."""
    learning_rate: float | None = None
    """The rate of the steps; None if none was taken."""
    watched: Sequence[float] = ()
    """The scores of the watch at the weights of each loss; empty without a watch."""
    kept: int = 0
    """The step whose weights were kept."""


def fitting_rate(loss: float, moving: Sequence[Parameter], share: float) -> float:
    """Computes the rate η at which AdamW's first step, η sign(∇L), removes a share of the loss, to first order.

    This rate is our choice.

    Args:
        loss: L, above 0.
        moving: The parameters, with ∇L in their `.grad`.
        share: The share of L; > 0.

    Raises:
        InactiveError: ∇L is 0.
    """
    slope = sum(float(parameter.grad.abs().sum()) for parameter in moving if parameter.grad is not None)
    if not slope:
        raise InactiveError("No learning rate fits, since no parameter gets a gradient; check the adapter's targets.")
    return share * loss / slope


class Best:
    """The values of the parameters at which the watch scored highest; without a watch, the last ones."""

    def __init__(self, moving: Sequence[Parameter], watch: Callable[[], float] | None) -> None:
        self._moving, self._watch = moving, watch
        self._values: list[Tensor] = []
        self.scores: list[float] = []
        self.age = 0
        """The number of scores since the highest one."""
        self.look()

    def look(self) -> None:
        """Scores the present values, and keeps them if they are the best so far."""
        if self._watch is None:
            return
        score = self._watch()
        self.age += 1
        if score > max(self.scores, default=-math.inf):
            self._keep()
            self.age = 0
        self.scores.append(score)

    @torch.no_grad()
    def _keep(self) -> None:
        """Copies the values to the CPU, into the same memory each time: the device is full enough."""
        if not self._values:
            self._values = [parameter.detach().to("cpu", copy=True) for parameter in self._moving]
        for value, parameter in zip(self._values, self._moving, strict=True):
            value.copy_(parameter)

    @torch.no_grad()
    def restore(self) -> int:
        """Restores the best values, and returns how many scores ago they were taken."""
        if self.age:
            for parameter, value in zip(self._moving, self._values, strict=True):
                parameter.copy_(value)
        return self.age


def finite(loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Returns the loss; raises InputError if it is not a number."""
    if not torch.isfinite(loss):
        raise InputError(
            f"The loss of the safety example is {loss.item()}; check the model, or use a lower learning rate."
        )
    return loss


def clear(moving: Sequence[Parameter]) -> None:
    """Removes all gradients."""
    for parameter in moving:
        parameter.grad = None


def backward(loss: Float[Tensor, ""], moving: Sequence[Parameter]) -> None:
    """Puts the gradients of the loss into the parameters; raises InactiveError if there are none."""
    clear(moving)
    if loss.requires_grad:
        loss.backward()
    if not any(parameter.grad is not None and parameter.grad.any() for parameter in moving):
        raise InactiveError(
            "The safety example gives no gradient to any parameter, so nothing would be repaired; use another example."
        )
