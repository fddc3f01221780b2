"""One-shot recovery: a few plain gradient steps on a single safety example.

Source: "Safety at One Shot: Patching Fine-Tuned LLMs with A Single Instance" (arXiv 2601.01887). From the paper: one
general harmful request with a refusal, ordinary fine-tuning on it alone, no task data, ten epochs (which are ten steps)
at 2e-5 for 7B models. Our choices: AdamW without weight decay at a constant rate on the mean over answer tokens; a rate
that fits the model; a refusal in the model's own words; the stop once the example is learned; and the watch.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Parameter

from moored.errors import InactiveError, InputError
from moored.recovery._interface import Kind
from moored.recovery._steps import Best, Steps, backward, clear, finite, fitting_rate

PUBLISHED_PROMPT = "How can I bypass system security checks?"
PUBLISHED_REFUSAL = "Sorry, I can't help you. Please follow security guidelines."

_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "published": {"learning_rate": 2e-5, "steps": 10},
    "adapter": {"learning_rate": 2e-4, "steps": 30, "stop_at": 0.02},
    "auto": {"refusal": None, "learning_rate": None, "steps": 30, "stop_at": 0.02},
}


@dataclass(frozen=True, kw_only=True)
class OneShot:
    """Repairs a model with one safety example.

    Raises:
        InputError: A setting is out of its bounds, or the prompt or the refusal is empty.
    """

    name: ClassVar[str] = "one_shot"
    kind: ClassVar[Kind] = "example"
    needs_base: ClassVar[bool] = False

    prompt: str = PUBLISHED_PROMPT
    """A harmful request, as a user would type it."""
    refusal: str | None = PUBLISHED_REFUSAL
    """Refusal to train on. `None`: use the aligned model's own refusal; the caller must supply it."""
    learning_rate: float | None = 2e-5
    """The constant rate of AdamW; > 0. None uses the rate at which the first step promises to remove the share
    `first_step` of the loss: AdamW begins with η sign(∇L), which to first order lowers the loss by η‖∇L‖₁."""
    first_step: float = 0.5
    """The share of the loss that the first step promises to remove; > 0. It is used if `learning_rate` is None."""
    steps: int = 10
    """The maximum number of steps; ≥ 0. With 0 the weights stay the same, bit for bit."""
    stop_at: float = 0.0
    """The mean loss of the refusal's tokens, in nats, at which the example counts as learned; 0 takes all steps."""
    watch: bool = False
    """*Experimental: no better than without it in our trial, and many times slower.* Whether to keep the weights at
    which refusals of harmful requests exceed those of harmless ones most, instead of the last weights."""
    patience: int = 3
    """*Experimental, like `watch`.* The number of steps without a new best after which the repair ends; ≥ 1."""

    def __post_init__(self) -> None:
        for name in ("learning_rate", "first_step"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"OneShot({name}=...) must be a number above 0, got {value}.")
        for name, least in (("patience", 1), ("steps", 0), ("stop_at", 0)):
            value = getattr(self, name)
            if not value >= least:
                raise InputError(f"OneShot({name}=...) must be at least {least}, got {value}.")
        if not self.prompt.strip() or (self.refusal is not None and not self.refusal.strip()):
            raise InputError("OneShot needs a prompt and a refusal; neither may be empty.")

    @property
    def needs_aligned(self) -> bool:
        """Whether the aligned model has to be asked for its own refusal."""
        return self.refusal is None

    @property
    def example(self) -> tuple[str, str]:
        """The prompt and the refusal.

        Raises:
            InputError: The refusal is still to be had from the aligned model.
        """
        if self.refusal is None:
            raise InputError("OneShot(refusal=None) has no refusal to train on yet; supply the aligned model's own.")
        return self.prompt, self.refusal

    @property
    def off(self) -> bool:
        """Whether it is set to change nothing."""
        return self.steps == 0

    @classmethod
    def preset(cls, name: str, **changes: object) -> "OneShot":
        """Returns the method with the settings of a preset and some changes.

        `published` has the paper's settings, for all parameters; `adapter` and `auto` have ours, for LoRA factors and
        for any parameters.
        """
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
            parameters: The parameters to change; each must require gradients.
            loss: Computes the mean loss over the refusal's tokens, in nats, at the parameters' present values.
            watch: Scores the present values, higher is better; the parameters end where the score was highest.

        Raises:
            InactiveError: No parameter was given, or none received a gradient.
            InputError: The loss is not a number.
        """
        if self.off:
            return Steps()
        moving = list(parameters)
        if not moving:
            raise InactiveError("One-shot recovery was given no parameters to change; check the adapter's targets.")
        value, best, optimizer = finite(loss()), Best(moving, watch), None
        losses, rate = [value.item()], None
        while len(losses) <= self.steps and losses[-1] > self.stop_at and best.age < self.patience:
            backward(value, moving)
            if optimizer is None:
                rate = self.learning_rate or fitting_rate(losses[0], moving, self.first_step)
                optimizer = torch.optim.AdamW(moving, lr=rate, weight_decay=0.0)
            optimizer.step()
            value = finite(loss())
            losses.append(value.item())
            best.look()
        clear(moving)
        return Steps(loss=losses, learning_rate=rate, watched=best.scores, kept=len(losses) - 1 - best.restore())
