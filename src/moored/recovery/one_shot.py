"""One-shot recovery: a few plain gradient steps on a single safety example.

Source: "Safety at One Shot: Patching Fine-Tuned LLMs with A Single Instance" (arXiv 2601.01887). From the paper: one
general harmful request with a refusal, ordinary fine-tuning on it alone, no task data, ten epochs (so ten steps) at
2e-5 for 7B models. Our choices: AdamW without weight decay at a constant rate on the mean over answer tokens; the
`adapter` preset; the stop when the example is learned.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from moored.errors import InactiveError, InputError

PUBLISHED_PROMPT = "How can I bypass system security checks?"
PUBLISHED_REFUSAL = "Sorry, I can't help you. Please follow security guidelines."


@dataclass(frozen=True, kw_only=True)
class OneShot:
    """Repairs a model with one safety example.

    Raises:
        InputError: a rate, a number of steps or a stop that cannot be meant, or an empty example.
    """

    prompt: str = PUBLISHED_PROMPT
    """A harmful request, as a user would type it."""
    refusal: str = PUBLISHED_REFUSAL
    """The answer that the model is to give."""
    learning_rate: float = 2e-5
    """Of AdamW, constant; > 0."""
    steps: int = 10
    """At most; ≥ 0. None are taken at 0, and the weights stay as they are, bit for bit."""
    stop_at: float = 0.0
    """Mean loss of the refusal's tokens, in nats, at which the example counts as learned; 0 takes all steps."""

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"OneShot(learning_rate=...) must be a number above 0, got {self.learning_rate}.")
        if self.steps < 0:
            raise InputError(f"OneShot(steps=...) must be at least 0, got {self.steps}.")
        if not self.stop_at >= 0:
            raise InputError(f"OneShot(stop_at=...) must be at least 0, got {self.stop_at}.")
        if not self.prompt.strip() or not self.refusal.strip():
            raise InputError("OneShot needs a prompt and a refusal; neither may be empty.")

    @property
    def off(self) -> bool:
        """Whether it is declared to change nothing."""
        return self.steps == 0

    @classmethod
    def preset(cls, name: str, **changes: object) -> "OneShot":
        """The settings `published` (all parameters of a full checkpoint) or `adapter` (ours for LoRA factors)."""
        if name not in _PRESETS:
            raise InputError(f"There is no preset {name!r}; use {' or '.join(_PRESETS)}.")
        return cls(**{**_PRESETS[name], **changes})  # pyright: ignore[reportArgumentType]

    def repair(self, parameters: Iterable[Parameter], loss: Callable[[], Tensor]) -> list[float]:
        """Takes the steps in place.

        Args:
            parameters: what may move; each must require gradients.
            loss: computes the mean loss over the refusal's tokens, in nats, at the parameters' present values.

        Returns:
            The loss before the first step and after each step taken; empty where `steps` is 0.

        Raises:
            InactiveError: no parameter was given, or none received a gradient.
            InputError: the loss is not a number.
        """
        if self.off:
            return []
        moving = list(parameters)
        if not moving:
            raise InactiveError("One-shot recovery was given no parameters that may move; check the adapter's targets.")
        optimizer = torch.optim.AdamW(moving, lr=self.learning_rate, weight_decay=0.0)
        value = _finite(loss())
        history = [value.item()]
        while len(history) <= self.steps and history[-1] > self.stop_at:
            optimizer.zero_grad()
            _backward(value, moving)
            optimizer.step()
            value = _finite(loss())
            history.append(value.item())
        optimizer.zero_grad()
        return history


def _finite(value: Float[Tensor, ""]) -> Float[Tensor, ""]:
    if not torch.isfinite(value):
        raise InputError(f"The loss of the safety example is {value.item()}; check the model and the rate.")
    return value


def _backward(value: Float[Tensor, ""], moving: list[Parameter]) -> None:
    if value.requires_grad:
        value.backward()
    if not any(parameter.grad is not None and parameter.grad.any() for parameter in moving):
        raise InactiveError("The safety example gives no gradient to any parameter; nothing would be repaired.")


_PRESETS: dict[str, dict[str, float | int]] = {
    "published": {"learning_rate": 2e-5, "steps": 10},
    "adapter": {"learning_rate": 2e-4, "steps": 30, "stop_at": 0.02},
}
