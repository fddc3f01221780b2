"""Choosing one of many safety examples by the bi-level problem of one-shot recovery, solved with first-order steps.

Source: arXiv 2601.01887 (known from a secondary source): the upper level is min_w KL(θ_aligned ‖ θ(w)) on harmful
prompts + KL(θ_tuned ‖ θ(w)) on the task + λ‖w‖²; the lower level is θ(w) = argmin_θ Σ_i w_i ℓ_i(θ), started at θ_tuned.
It is solved by a penalty: F + γ (Σ w_i ℓ_i(θ) − min_θ' Σ w_i ℓ_i(θ')). The alternating steps on θ, θ' and w are those
of F²SA (Kwon et al., arXiv 2301.10945). Our choices: w is a softmax of free numbers, all steps are AdamW's, and all
settings.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from moored.errors import InputError
from moored.recovery._steps import fitting_rate

Parts = Callable[[], Iterable[Tensor]]
"""Yields the terms of a sum, each with a graph of its own: only one of them is in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class BilevelChoice:
    """Weighs candidates by the penalty method.

    Raises:
        InputError: A setting is out of its bounds.
    """

    iterations: int = 20
    """The number of iterations, with one step each on θ, θ' and w; ≥ 2, since θ equals θ' in the first, which leaves w
    unchanged."""
    learning_rate: float | None = None
    """The rate for θ and θ'; > 0. None uses the rates at which their first steps promise to halve their objectives."""
    weight_rate: float = 0.3
    """The rate for the free numbers behind w; > 0."""
    penalty: float = 1.0
    """γ; > 0."""
    evenness: float = 0.0
    """λ, which keeps the weights from gathering on few candidates; ≥ 0."""

    def __post_init__(self) -> None:
        rate = 1.0 if self.learning_rate is None else self.learning_rate
        if self.iterations < 2 or not min(rate, self.weight_rate, self.penalty) > 0:
            raise InputError("BilevelChoice needs at least two iterations, and rates and a penalty above 0.")
        if not self.evenness >= 0:
            raise InputError(f"BilevelChoice(evenness=...) must be at least 0, got {self.evenness}.")

    def weigh(
        self, parameters: Sequence[Parameter], losses: Sequence[Callable[[], Tensor]], objective: Parts
    ) -> Float[Tensor, " candidate"]:
        """Returns w, which sums to 1; the largest weight marks the choice. The parameters keep their values.

        Args:
            parameters: θ, at θ_tuned.
            losses: Compute the loss of each candidate at the parameters' present values.
            objective: Computes F, the two divergences, at the same values.

        Raises:
            InputError: A loss or a divergence is not a number.
        """
        start = _copies(parameters)
        upper, lower = (_Level(parameters, self.learning_rate) for _ in range(2))
        free = torch.zeros(len(losses), requires_grad=True)
        optimizer = torch.optim.AdamW([free], lr=self.weight_rate, weight_decay=0.0)
        try:
            for _ in range(self.iterations):
                w = free.detach().softmax(0)
                above = upper.step(losses, self.penalty * w, objective)
                below = lower.step(losses, w, tuple)
                optimizer.zero_grad()
                self.value(free.softmax(0), above, below).backward()
                optimizer.step()
        finally:
            _put(parameters, start)
        if not torch.isfinite(free).all():
            raise InputError("A loss of the candidates is not a number any more; choose with a lower learning rate.")
        return free.detach().softmax(0)

    def value(
        self, w: Float[Tensor, " candidate"], above: Float[Tensor, " candidate"], below: Float[Tensor, " candidate"]
    ) -> Float[Tensor, ""]:
        """Returns the terms that depend on w: λ‖w‖² + γ (Σ w_i ℓ_i(θ) − Σ w_i ℓ_i(θ'))."""
        return self.evenness * w.square().sum() + self.penalty * (w @ (above - below))


class _Level:
    """One of the two copies of the weights, with its optimizer; the model holds the copy that takes a step."""

    def __init__(self, parameters: Sequence[Parameter], rate: float | None) -> None:
        self._parameters, self._values = parameters, _copies(parameters)
        self._optimizer = torch.optim.AdamW(parameters, lr=rate or 0.0, weight_decay=0.0)
        self._has_rate = rate is not None

    def step(
        self, losses: Sequence[Callable[[], Tensor]], weights: Float[Tensor, " candidate"], objective: Parts
    ) -> Float[Tensor, " candidate"]:
        """Takes a step down the objective plus the weighted losses; returns the unweighted losses before the step."""
        _put(self._parameters, self._values)
        self._optimizer.zero_grad()
        total, values = 0.0, []
        for part in objective():
            part.backward()
            total += part.item()
        for loss, weight in zip(losses, weights.tolist(), strict=True):
            value = loss()
            (weight * value).backward()
            values.append(value.item())
            total += weight * values[-1]
        if not self._has_rate:
            self._optimizer.param_groups[0]["lr"] = fitting_rate(total, self._parameters, 0.5)
            self._has_rate = True
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._values = _copies(self._parameters)
        return torch.tensor(values)


def _copies(parameters: Sequence[Parameter]) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in parameters]


@torch.no_grad()
def _put(parameters: Sequence[Parameter], values: Sequence[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)
