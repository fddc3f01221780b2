"""A weight penalty at work: its guarded weights, its recent values, and whether it was seen to act."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from moored.errors import InactiveError, InputError
from moored.huggingface.safeguards.differences import differences
from moored.huggingface.safeguards.guarded_weights import Guarded, guarded_weights
from moored.huggingface.safeguards.harmful_steps import harmful_steps
from moored.huggingface.safeguards.interface import told_share
from moored.regularizers import GuidedPenalty
from moored.tensors.low_rank import Matrix, squared_norm
from moored.tensors.threads import SMALL, one_thread

_logger = logging.getLogger(__name__)


@dataclass(eq=False)
class HeldPenalty:
    """One active penalty on the weights of a model.

    It is no part of the loss: its gradient is added to the loss's once per optimizer step, after the backward pass of
    the last micro-batch and before clipping. So neither accumulation nor the number of processes scales it, and only
    one weight's computation is in memory at a time (with a relative strength, all its gradients).
    """

    safeguard: Any
    weights: Sequence[Guarded]
    guides: dict[str, Any]
    part: float
    """Of the trained numbers, those that it guards."""
    acted: bool = False
    weighed: float = 0.0
    """The penalty with its strength, the mean over the steps of the last log."""
    share: float | None = None
    """Of it in the loss and all penalties together, over these steps, or those of the run where nothing was logged."""
    recent: list[Tensor] = field(default_factory=list)
    """Of each step since the last log: the penalty, without and with its strength, and two norms of gradients on the
    guarded weights: that of the penalty with its strength, and the loss's."""

    @classmethod
    def on(cls, safeguard: Any, model: nn.Module, tokenizer: PreTrainedTokenizerBase | None = None) -> "HeldPenalty":
        """A penalty that holds a model to its weights of this moment.

        Args:
            safeguard: what the user asked for.
            model: the model that is trained, with the weights that are its anchor.
            tokenizer: for a penalty that looks at what the model says to examples.

        Raises:
            InactiveError: the model has nothing that it could guard.
            UserError: the base that it needs cannot be read, or is another model's.
        """
        weights = guarded_weights(model)
        if not weights:
            raise InactiveError(
                f"The safeguard {safeguard.name} guards nothing: the model has no trainable LoRA module and no "
                "trainable linear layer."
            )
        guides = _guides(safeguard, weights, model, tokenizer) if isinstance(safeguard, GuidedPenalty) else {}
        held = sum(parameter.numel() for weight in weights for parameter in weight.parameters)
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        return cls(safeguard, weights, guides, held / trained)

    def add_gradients(self, scale: float, task_norm: Float[Tensor, ""]) -> None:
        """Adds the gradient of strength · penalty, times `scale`, to what the loss left in `.grad`.

        Args:
            scale: the factor that the loss's gradients carry, as under a GradScaler; 1 without one.
            task_norm: the norm of those gradients on the guarded weights, without that factor.

        Raises:
            InactiveError: it has no gradient, or is still exactly zero although the weights have moved.
        """
        with one_thread(when=self._small):
            self._add_gradients(scale, task_norm)

    @cached_property
    def _small(self) -> bool:
        return all(each.size <= SMALL and each.parameters[0].device.type == "cpu" for each in self.weights)

    def _add_gradients(self, scale: float, task_norm: Float[Tensor, ""]) -> None:
        values, squares, moves, waiting = [], [], [], []
        for weight in self.weights:
            update = weight.update(scaled=self.safeguard.scaled)
            value = self._of(weight, update)
            gradients = self._gradients(value, weight.parameters)
            values.append(value.detach())
            squares += [gradient.float().square().sum() for gradient in gradients]
            if not self.acted:
                moves.append(squared_norm(update).detach())
            waiting += zip(weight.parameters, gradients, strict=True)
            if not self.safeguard.relative:
                _add(waiting, self.safeguard.strength * scale)
        total, own = _total(values), _total(squares).sqrt()
        self._judge(moves, total)
        strength = self.safeguard.strength
        if self.safeguard.relative:
            strength = strength * task_norm.item() / own.item() if own else 0.0
            _add(waiting, strength * scale)
        self.recent.append(torch.stack([total, strength * total, strength * own, task_norm.to(total)]))

    def _of(self, weight: Guarded, update: Any) -> Float[Tensor, ""]:
        return self.safeguard.weight_penalty(update, self.guides.get(weight.name))

    def _gradients(self, value: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor, ...]:
        if not value.requires_grad:
            raise InactiveError(
                f"The safeguard {self.safeguard.name} has no gradient; its penalty must depend on the update."
            )
        return torch.autograd.grad(value, parameters, materialize_grads=True)

    def _judge(self, moves: Sequence[Tensor], total: Tensor) -> None:
        """A penalty is judged once the weights have moved: before that, zero is what it must be."""
        if self.acted or not _total(moves):
            return
        if not total:
            raise InactiveError(
                f"The safeguard {self.safeguard.name} is still exactly zero although {len(self.weights)} weights that "
                "it guards have moved; it protects nothing here."
            )
        self.acted = True

    def announce(self) -> str:
        """Strength, weights held, and what leads the penalty there."""
        held = f"holds {len(self.weights)} weights ({self.part:.0%} of what is trained)"
        measure = " of the loss's gradient" if self.safeguard.relative else ""
        told = f"strength {self.safeguard.strength:g}{measure}, {held}"
        return f"{told}; {self.safeguard.describe(self.guides)}" if self.guides else told

    def drain(self) -> dict[str, float]:
        """Since the last call: mean value, norm of the gradient, and its ratio to the loss's."""
        if not self.recent:
            return {}
        value, part, own, task = torch.stack(self.recent).double().unbind(1)
        self.recent.clear()
        self.weighed = part.mean().item()
        logs = {"value": value.mean().item(), "gradient_norm": own.mean().item()}
        logs["gradient_ratio"] = (own / task.clamp_min(1e-30)).mean().item()
        return {f"safety/{self.safeguard.name}/{key}": number for key, number in logs.items()}

    @torch.no_grad()
    def finish(self) -> str:
        """Its share, after a last judgement: the last step may have been the first to move anything."""
        if not self.acted:
            updates = [weight.update(scaled=self.safeguard.scaled) for weight in self.weights]
            values = [self._of(*each) for each in zip(self.weights, updates, strict=True)]
            self._judge([squared_norm(update) for update in updates], _total(values))
        if not self.acted:
            _logger.warning("The weights that %s guards never moved, so it had nothing to do.", self.safeguard.name)
        return told_share(self.share)

    def report(self) -> dict[str, Any]:
        """Its strength, the weights that it holds, its share of the loss when last logged, and each guide's numbers."""
        told = {"strength": self.safeguard.strength, "holds": len(self.weights), "share": self.share}
        guides = {name: _numbers(guide) for name, guide in self.guides.items()}
        return {**told, "guides": guides} if guides else told


def _guides(
    safeguard: Any, weights: Sequence[Guarded], model: Any, tokenizer: PreTrainedTokenizerBase | None
) -> dict[str, Any]:
    guides: dict[str, Any] = {}

    def take(name: str, difference: Matrix) -> None:
        guides[name] = safeguard.guide(difference, name)

    if "base" in safeguard.needs:
        files = getattr(getattr(model, "config", None), "_name_or_path", None)
        for name, difference in differences(weights, base=safeguard.base, adapter=safeguard.adapter, files=files):
            take(name, difference)
    elif safeguard.examples is None or tokenizer is None:
        raise InputError(
            f"{safeguard.name} has no examples or the trainer no processing_class; give it both, the examples as pairs "
            "of a harmful request and a compliant opening."
        )
    else:
        harmful_steps(model, weights, tokenizer, safeguard.examples, take)
    missing = next((weight.name for weight in weights if weight.name not in guides), None)
    if missing is not None:
        raise InputError(
            f"{safeguard.name} finds no direction for {missing}, which its examples do not pass through; leave such "
            "layers out of what is trained, or the safeguard out."
        )
    safeguard.describe(guides)  # It raises where there is nothing to go by.
    return guides


def _numbers(guide: Any) -> dict[str, float]:
    return {name: value for name, value in vars(guide).items() if isinstance(value, float)}


def _total(values: Sequence[Tensor]) -> Float[Tensor, ""]:
    """The sum in fp32; the weights of a model may lie on several devices."""
    return torch.stack([value.float().to(values[0].device) for value in values]).sum()


@torch.no_grad()
def _add(waiting: list[tuple[Tensor, Tensor]], factor: float) -> None:
    """Adds each gradient, times the factor, to its parameter's, and forgets it."""
    for parameter, gradient in waiting:
        if parameter.grad is None:
            parameter.grad = (factor * gradient).to(parameter.dtype)
        else:
            parameter.grad.add_(gradient.to(parameter.grad.dtype), alpha=factor)
    waiting.clear()
