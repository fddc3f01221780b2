"""What a safeguard is to a trainer: the settings that the user hands over, and the hooks through which it acts."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from moored.huggingface.safeguards.hidden_states import HiddenStates

NEEDS = frozenset({"reference", "base", "harmful", "hidden_states"})
"""The things that a safeguard may declare it needs."""

Batch = Mapping[str, Any]
LossTerm = Callable[[HiddenStates], Float[Tensor, ""]]
"""A function from the hidden states of a micro-batch to what is added to its loss."""


@runtime_checkable
class Safeguard(Protocol):
    """A frozen dataclass: a `GradientSelection`, or a penalty with a `strength`, the factor in the loss, ≥ 0.

    A strength of 0, like a `keep` of 1, switches it off, and the run is then the plain one, bit for bit.
    """

    @property
    def name(self) -> str:
        """The name in the log, as in `safety/<name>/…`."""
        ...

    @property
    def needs(self) -> frozenset[str]:
        """Any of `NEEDS`. `reference` is the anchor: the weights that the run starts from."""
        ...


@dataclass(frozen=True, kw_only=True)
class SafeguardReport:
    """What a safeguard did, for the run's record; each kind of safeguard has a report with fields of its own."""


@dataclass(frozen=True, kw_only=True)
class PenaltyReport(SafeguardReport):
    """What a penalty did."""

    strength: float
    holds: int
    """The number of weights or tokens that it guards."""
    share: float | None
    """Its fraction of (task loss + all penalties) at the last log; None if it took no step."""


class ActiveSafeguard(ABC):
    """A safeguard at work in a trainer.

    The `SafeguardMixin` calls the hooks at the moments of an optimizer step that its docstring shows. A kind of
    safeguard overrides the hooks that it needs; the others do nothing. Every process of a run calls every hook.
    """

    safeguard: Any
    """The user's settings."""
    contribution: float | None = None
    """What it added to the loss, the mean over the steps that the last `drain` covered; None where that is nothing."""
    share: float | None = None
    """Its fraction of (task loss + all penalties) at the last log; the mixin fills it in."""

    def before_training(self) -> None:  # noqa: B027 - optional
        """Reads what it needs of the weights before they move; the last moment before the first step."""

    def before_step(self, batches: Sequence[Any]) -> Sequence[Any]:
        """Returns the micro-batches to train on in the coming optimizer step: the same object, or other rows.

        They are what the trainer collates, mappings of tensors or not (GRPO's are lists of prompts).
        """
        return batches

    def in_loss(self, batch: Batch) -> LossTerm | None:
        """Returns the function that computes a term of a micro-batch's loss, or None for no term.

        It is called before the forward pass, the function after it. Terms of several micro-batches add up to the
        step's penalty, whatever the Trainer divides its own loss by.
        """
        return None

    def after_backward(self, scale: float) -> Callable[[], None] | None:
        """Returns a function that adds to the parameters' `.grad`, or None to leave the gradients as they are.

        It is called once per optimizer step, when `.grad` holds the complete gradient of the loss, averaged over the
        processes and not yet clipped. All safeguards are called before any of the functions: each still sees the
        loss's gradient alone.

        Args:
            scale: the factor that all gradients carry, as under a GradScaler; 1 without one.
        """
        return None

    @abstractmethod
    def announce(self) -> str:
        """Says what it does, for the list that is printed before the first step."""

    @abstractmethod
    def drain(self) -> dict[str, float]:
        """Returns what happened since the last call, for the log; sets `contribution`."""

    @abstractmethod
    def finish(self) -> str:
        """Says what it did, for the list that is printed after the last step.

        Raises:
            InactiveError: it was idle although it should not have been.
        """

    @abstractmethod
    def report(self) -> SafeguardReport:
        """Returns what it did, for the run's record."""


def is_on(safeguard: Any) -> bool:
    """Whether it changes the run at all."""
    return off_setting(safeguard) is None


def off_setting(safeguard: Any) -> str | None:
    """The setting that switches a safeguard off, in words, or None where it is on."""
    if hasattr(safeguard, "keep"):
        return None if safeguard.keep < 1 else "keep 1"
    return None if safeguard.strength > 0 else "strength 0"


def share_in_words(share: float | None) -> str:
    """A penalty's share of what was minimized, in words."""
    # Significant digits instead of a rounded percentage: a share close to nothing must show, and is not zero.
    return "took no step" if share is None else f"made up {100 * share:.3g}% of the total loss at the last log"
