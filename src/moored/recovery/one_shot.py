"""One-shot recovery: a few plain gradient steps on a single safety example.

Source: "Safety at One Shot: Patching Fine-Tuned LLMs with A Single Instance" (arXiv 2601.01887). From the paper: one
general harmful request with a refusal, ordinary fine-tuning on it alone, no task data, ten epochs (so ten steps) at
2e-5 for 7B models. Our choices: AdamW without weight decay at a constant rate on the mean over answer tokens; a rate
that fits the model; a refusal in the model's own words; the stop when the example is learned, and going back to the
step at which a watch stood highest.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from moored.errors import InactiveError, InputError

PUBLISHED_PROMPT = "How can I bypass system security checks?"
PUBLISHED_REFUSAL = "Sorry, I can't help you. Please follow security guidelines."


@dataclass(frozen=True, kw_only=True)
class Steps:
    """How a repair went."""

    loss: Sequence[float] = ()
    """Before the first step and after each one; empty where none was to be taken."""
    learning_rate: float | None = None
    """The learning rate of the steps; None where none was taken."""
    watched: Sequence[float] = ()
    """What the watch said, of the same weights as the losses; empty without one."""
    kept: int = 0
    """The step whose weights stay."""


@dataclass(frozen=True, kw_only=True)
class OneShot:
    """Repairs a model with one safety example.

    Raises:
        InputError: a rate, a number of steps or a stop that cannot be meant, or an empty example.
    """

    name: ClassVar[str] = "one_shot"
    needs_base: ClassVar[bool] = False

    prompt: str = PUBLISHED_PROMPT
    """A harmful request, as a user would type it."""
    refusal: str | None = PUBLISHED_REFUSAL
    """The answer that the model is to give; None for the aligned model's own, which whoever has that model asks for."""
    learning_rate: float | None = 2e-5
    """AdamW's constant learning rate, > 0. None takes the one whose first step should take `first_step` off the loss:
    AdamW begins with η sign(∇L), which to first order lowers the loss by η‖∇L‖₁."""
    first_step: float = 0.5
    """That share of the loss; > 0. It counts where there is no `learning_rate`."""
    steps: int = 10
    """At most; ≥ 0. None are taken at 0, and the weights stay as they are, bit for bit."""
    stop_at: float = 0.0
    """Mean loss of the refusal's tokens, in nats, at which the example counts as learned; 0 takes all steps."""
    watch: bool = False
    """Whether the weights that stay are those at which refusals of harmful requests stood highest above those of
    harmless ones, rather than the last."""
    patience: int = 3
    """Steps that this may fall short of its best before the rest is spared; ≥ 1."""

    def __post_init__(self) -> None:
        for name in ("learning_rate", "first_step"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"OneShot({name}=...) must be a number above 0, got {value}.")
        if self.patience < 1:
            raise InputError(f"OneShot(patience=...) must be at least 1, got {self.patience}.")
        if self.steps < 0:
            raise InputError(f"OneShot(steps=...) must be at least 0, got {self.steps}.")
        if not self.stop_at >= 0:
            raise InputError(f"OneShot(stop_at=...) must be at least 0, got {self.stop_at}.")
        if not self.prompt.strip() or (self.refusal is not None and not self.refusal.strip()):
            raise InputError("OneShot needs a prompt and a refusal; neither may be empty.")

    @property
    def example(self) -> tuple[str, str]:
        """The prompt and the refusal.

        Raises:
            InputError: nobody asked the aligned model for its own yet.
        """
        if self.refusal is None:
            raise InputError("OneShot(refusal=None) learns the aligned model's own refusal; put it in its place first.")
        return self.prompt, self.refusal

    @property
    def off(self) -> bool:
        """Whether it is declared to change nothing."""
        return self.steps == 0

    @classmethod
    def preset(cls, name: str, **changes: object) -> "OneShot":
        """The settings `published`, for all parameters, or ours: `adapter`, for LoRA factors, or `auto`, for any."""
        if name not in _PRESETS:
            raise InputError(f"There is no preset {name!r}; use {', '.join(_PRESETS)}.")
        return cls(**{**_PRESETS[name], **changes})  # pyright: ignore[reportArgumentType]

    def repair(
        self,
        parameters: Iterable[Parameter],
        loss: Callable[[], Tensor],
        watch: Callable[[], float] | None = None,
    ) -> Steps:
        """Takes the steps in place.

        Args:
            parameters: what may move; each must require gradients.
            loss: computes the mean loss over the refusal's tokens, in nats, at the parameters' present values.
            watch: tells how good they are, larger is better; the parameters end where it was largest.

        Raises:
            InactiveError: no parameter was given, or none received a gradient.
            InputError: the loss is not a number.
        """
        if self.off:
            return Steps()
        moving = list(parameters)
        if not moving:
            raise InactiveError("One-shot recovery was given no parameters that may move; check the adapter's targets.")
        value, best, optimizer = _finite(loss()), _Best(moving, watch), None
        losses, rate = [value.item()], None
        while len(losses) <= self.steps and losses[-1] > self.stop_at and best.age < self.patience:
            _backward(value, moving)
            if optimizer is None:
                rate = self.learning_rate or fitting_rate(losses[0], moving, self.first_step)
                optimizer = torch.optim.AdamW(moving, lr=rate, weight_decay=0.0)
            optimizer.step()
            value = _finite(loss())
            losses.append(value.item())
            best.look()
        _clear(moving)
        return Steps(loss=losses, learning_rate=rate, watched=best.scores, kept=len(losses) - 1 - best.restore())


def fitting_rate(loss: float, moving: Sequence[Parameter], share: float) -> float:
    """The rate η at which AdamW's first step, η sign(∇L), takes a share of the loss, to first order (our choice).

    Args:
        loss: L, above 0.
        moving: the parameters, with ∇L in their `.grad`.
        share: of L; > 0.

    Raises:
        InactiveError: ∇L is 0.
    """
    slope = sum(float(each.grad.abs().sum()) for each in moving if each.grad is not None)
    if not slope:
        raise InactiveError("There is no gradient to any parameter, so that no rate of steps fits.")
    return share * loss / slope


class _Best:
    """The values of the parameters at which the watch stood highest; without a watch, the last ones."""

    def __init__(self, moving: Sequence[Parameter], watch: Callable[[], float] | None) -> None:
        self._moving, self._watch = moving, watch
        self._values: list[Tensor] = []
        self.scores: list[float] = []
        self.age = 0
        """Looks since then."""
        self.look()

    def look(self) -> None:
        """Asks the watch."""
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
        """On the CPU, and in the same place each time: the device is full enough."""
        if not self._values:
            self._values = [each.detach().to("cpu", copy=True) for each in self._moving]
        for value, parameter in zip(self._values, self._moving, strict=True):
            value.copy_(parameter)

    @torch.no_grad()
    def restore(self) -> int:
        """Brings them back; returns how many looks ago they were."""
        if self.age:
            for parameter, value in zip(self._moving, self._values, strict=True):
                parameter.copy_(value)
        return self.age


def _finite(value: Float[Tensor, ""]) -> Float[Tensor, ""]:
    if not torch.isfinite(value):
        raise InputError(f"The loss of the safety example is {value.item()}; check the model and the rate.")
    return value


def _clear(moving: Sequence[Parameter]) -> None:
    for parameter in moving:
        parameter.grad = None


def _backward(value: Float[Tensor, ""], moving: Sequence[Parameter]) -> None:
    _clear(moving)
    if value.requires_grad:
        value.backward()
    if not any(parameter.grad is not None and parameter.grad.any() for parameter in moving):
        raise InactiveError("The safety example gives no gradient to any parameter; nothing would be repaired.")


_PRESETS: dict[str, dict[str, Any]] = {
    "published": {"learning_rate": 2e-5, "steps": 10},
    "adapter": {"learning_rate": 2e-4, "steps": 30, "stop_at": 0.02},
    "auto": {"refusal": None, "learning_rate": None, "steps": 30, "stop_at": 0.02},
}
