"""A weight penalty at work: its guarded weights, its recent values, and whether it was seen to act."""

import logging
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from moored.errors import InactiveError
from moored.huggingface.training.updates import Update, guarded_updates

_logger = logging.getLogger(__name__)


@dataclass(eq=False)
class HeldPenalty:
    """One active penalty on the weights of a model."""

    safeguard: Any
    updates: list[Update]
    acted: bool = False
    share: float | None = None
    """Of the loss, over the steps of the last log, or of the whole run where nothing was logged."""
    values: list[Tensor] = field(default_factory=list)

    @classmethod
    def on(cls, safeguard: Any, model: nn.Module) -> "HeldPenalty":
        """A penalty that holds a model to its weights of this moment.

        Raises:
            InactiveError: the model has nothing that it could guard.
        """
        updates = guarded_updates(model)
        if not updates:
            raise InactiveError(
                f"The safeguard {safeguard.name} guards nothing: the model has no trainable LoRA module and no "
                "trainable linear layer."
            )
        return cls(safeguard, updates)

    def penalty(self) -> Float[Tensor, ""]:
        """The sum over the guarded weights, times the strength.

        Raises:
            InactiveError: it has no gradient, or is still exactly zero although the weights have moved.
        """
        updates = [update() for update in self.updates]
        value = torch.stack([self._of(update) for update in updates]).sum()
        if updates[0].requires_grad and not value.requires_grad:
            raise InactiveError(
                f"The safeguard {self.safeguard.name} has no gradient; its penalty must depend on the update."
            )
        self._judge(updates, value)
        self.values.append(value.detach())
        return self.safeguard.strength * value

    def _of(self, update: Tensor) -> Tensor:
        return self.safeguard.weight_penalty(update, None)

    def _judge(self, updates: list[Tensor], value: Tensor) -> None:
        """A penalty is judged once the weights have moved: before that, zero is what it must be."""
        # Squared, so that a move whose square is lost in fp32 does not count yet.
        if self.acted or not any(bool(update.detach().square().any()) for update in updates):
            return
        if not bool(value.detach()):
            raise InactiveError(
                f"The safeguard {self.safeguard.name} is still exactly zero although {len(updates)} weights that it "
                "guards have moved; it protects nothing here."
            )
        self.acted = True

    def announce(self) -> str:
        """Strength and weights held."""
        return f"strength {self.safeguard.strength:g}, holds {len(self.updates)} weights"

    def drain(self, loss: float) -> dict[str, float]:
        """Mean value and share of the loss since the last call."""
        if not self.values:
            return {}
        value = torch.stack(self.values).mean().item()
        self.values.clear()
        share = self.share = self.safeguard.strength * value / loss if loss else 0.0
        return {f"safety/{self.safeguard.name}/value": value, f"safety/{self.safeguard.name}/share": share}

    @torch.no_grad()
    def finish(self, loss: float) -> str:
        """Its share of the loss, after a last judgement: the last step may have been the first to move anything."""
        if not self.acted:
            updates = [update() for update in self.updates]
            self._judge(updates, torch.stack([self._of(update) for update in updates]).sum())
        if not self.acted:
            _logger.warning("The weights that %s guards never moved, so it had nothing to do.", self.safeguard.name)
        if self.share is None:
            self.drain(loss)  # The run was too short to log its loss.
        return "took no step" if self.share is None else f"was {self.share:.2%} of the loss at the end"

    def report(self) -> dict[str, Any]:
        """Its strength, the weights that it holds, and its share of the loss when last logged."""
        return {"strength": self.safeguard.strength, "holds": len(self.updates), "share": self.share}
