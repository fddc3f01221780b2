"""Choosing one of many safety examples by the bi-level problem of one-shot recovery, solved with first-order steps.

Source: arXiv 2601.01887 (known from a secondary source): upper level min_w KL(θ_aligned ‖ θ(w)) on harmful prompts +
KL(θ_tuned ‖ θ(w)) on the task + λ‖w‖²; lower level θ(w) = argmin_θ Σ_i w_i ℓ_i(θ), started at θ_tuned; solved by a
penalty: F + γ (Σ w_i ℓ_i(θ) − min_θ' Σ w_i ℓ_i(θ')). Alternating steps on θ, θ' and w are those of F²SA (Kwon et al.,
arXiv 2301.10945). Our choices: w is a softmax of free numbers, all steps are AdamW's, and all settings.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from moored.errors import InputError
from moored.recovery.one_shot import fitting_rate

Parts = Callable[[], Iterable[Tensor]]
"""Gives a sum in parts, each with its own graph, so that one is in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class BilevelChoice:
    """The penalty method's weights of the candidates.

    Raises:
        InputError: a setting that cannot be meant.
    """

    iterations: int = 20
    """The number of iterations, with one step each on θ, θ' and w; ≥ 2, since θ and θ' are the same in the first."""
    learning_rate: float | None = None
    """The rate for θ and θ', > 0; None takes the one at which the first step should halve what each descends."""
    weight_rate: float = 0.3
    """The rate for the free numbers behind w, > 0."""
    penalty: float = 1.0
    """γ; > 0."""
    evenness: float = 0.0
    """λ, against few large weights; ≥ 0."""

    def __post_init__(self) -> None:
        rate = 1.0 if self.learning_rate is None else self.learning_rate
        if self.iterations < 2 or not min(rate, self.weight_rate, self.penalty) > 0:
            raise InputError("BilevelChoice needs at least two iterations, and rates and a penalty above 0.")
        if not self.evenness >= 0:
            raise InputError(f"BilevelChoice(evenness=...) must be at least 0, got {self.evenness}.")

    def weigh(
        self, parameters: Sequence[Parameter], losses: Sequence[Callable[[], Tensor]], objective: Parts
    ) -> Float[Tensor, " candidate"]:
        """Returns w, which sums to 1; the largest is the choice. The parameters are as they were.

        Args:
            parameters: θ, at θ_tuned.
            losses: of each candidate, at the parameters' present values.
            objective: F, the two divergences, there.

        Raises:
            InputError: a loss or a divergence that is not a number.
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
            raise InputError("The losses of the candidates are not numbers any more; choose with a smaller rate.")
        return free.detach().softmax(0)

    def value(
        self, w: Float[Tensor, " candidate"], above: Float[Tensor, " candidate"], below: Float[Tensor, " candidate"]
    ) -> Float[Tensor, ""]:
        """λ‖w‖² + γ (Σ w_i ℓ_i(θ) − Σ w_i ℓ_i(θ')): what of the problem depends on w."""
        return self.evenness * w.square().sum() + self.penalty * (w @ (above - below))


class _Level:
    """One of the two copies of the weights, with its optimizer; it is in the model while it takes a step."""

    def __init__(self, parameters: Sequence[Parameter], rate: float | None) -> None:
        self._parameters, self._values = parameters, _copies(parameters)
        self._optimizer = torch.optim.AdamW(parameters, lr=rate or 0.0, weight_decay=0.0)
        self._has_rate = rate is not None

    def step(
        self, losses: Sequence[Callable[[], Tensor]], weights: Float[Tensor, " candidate"], objective: Parts
    ) -> Float[Tensor, " candidate"]:
        """Steps down the objective plus the weighted losses; returns these, unweighted, as they were before."""
        _put(self._parameters, self._values)
        self._optimizer.zero_grad()
        total, found = 0.0, []
        for part in objective():
            part.backward()
            total += part.item()
        for loss, weight in zip(losses, weights.tolist(), strict=True):
            value = loss()
            (weight * value).backward()
            found.append(value.item())
            total += weight * found[-1]
        if not self._has_rate:
            self._optimizer.param_groups[0]["lr"] = fitting_rate(total, self._parameters, 0.5)
            self._has_rate = True
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._values = _copies(self._parameters)
        return torch.tensor(found)


def _copies(parameters: Sequence[Parameter]) -> list[Tensor]:
    return [each.detach().clone() for each in parameters]


@torch.no_grad()
def _put(parameters: Sequence[Parameter], values: Sequence[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)
