"""A weight penalty at work in a trainer: it adds its gradient to the loss's, and notices when it does nothing."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, Trainer

from moored.errors import InactiveError
from moored.huggingface.safeguards.guarded_weights import GuardedWeight, guarded_weights
from moored.huggingface.safeguards.guides import guides_of
from moored.huggingface.safeguards.interface import ActiveSafeguard, PenaltyReport, share_in_words
from moored.huggingface.safeguards.trainer_access import require_fixed_model, tokenizer_of
from moored.regularizers import GuidedPenalty
from moored.tensors.low_rank import squared_norm
from moored.tensors.threads import SMALL, one_thread

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class GuidedPenaltyReport(PenaltyReport):
    """What a penalty did that is led by a direction of each weight."""

    guides: Mapping[str, Mapping[str, float]]
    """The numbers of each weight's guide."""


@dataclass(eq=False)
class ActiveWeightPenalty(ActiveSafeguard):
    """One penalty on the weights of a model.

    It is not part of the loss: its gradient is added to the loss's once per optimizer step, after the backward pass of
    the last micro-batch and before clipping. So neither gradient accumulation nor the number of processes scales it,
    and only one weight's computation is in memory at a time (with a relative strength, all its gradients are).
    """

    safeguard: Any
    weights: Sequence[GuardedWeight]
    guides: dict[str, Any]
    part: float
    """The fraction of the trained numbers that it guards."""
    acted: bool = False
    """Whether it was ever more than zero."""
    recent: list[Tensor] = field(default_factory=list)
    """For each step since the last log: the penalty, the penalty times its strength, and the norms on the guarded
    weights of that product's gradient and of the loss's."""

    @classmethod
    def on(
        cls, safeguard: Any, model: nn.Module, tokenizer: PreTrainedTokenizerBase | None = None
    ) -> "ActiveWeightPenalty":
        """Makes a penalty that pulls a model towards its weights of this moment.

        Args:
            safeguard: the user's settings.
            model: the model that is trained; its present weights become the anchor.
            tokenizer: the run's tokenizer, for a penalty that reads the model's gradient on examples.

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
        guides = guides_of(safeguard, weights, model, tokenizer) if isinstance(safeguard, GuidedPenalty) else {}
        guarded = sum(parameter.numel() for weight in weights for parameter in weight.parameters)
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        return cls(safeguard, weights, guides, guarded / trained)

    def after_backward(self, scale: float) -> Callable[[], None]:
        """Measures the loss's gradient on the guarded weights; the function returned adds the penalty's."""
        return partial(self.add_gradients, scale, self._task_norm() / scale)

    def _task_norm(self) -> Float[Tensor, ""]:
        guarded = [parameter for weight in self.weights for parameter in weight.parameters]
        gradients = [parameter.grad for parameter in guarded if parameter.grad is not None]
        if not gradients:
            raise _no_gradient_left(self.safeguard.name)
        return nn.utils.get_total_norm(gradients)

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
            value = self._value(weight, update)
            gradients = self._gradients(value, weight.parameters)
            values.append(value.detach())
            squares += [gradient.float().square().sum() for gradient in gradients]
            if not self.acted:
                moves.append(squared_norm(update).detach())
            waiting += zip(weight.parameters, gradients, strict=True)
            if not self.safeguard.relative:
                _add(waiting, self.safeguard.strength * scale)
        total, own_norm = _total(values), _total(squares).sqrt()
        self._require_action(moves, total)
        strength = self.safeguard.strength
        if self.safeguard.relative:
            # Only now are both norms known: until here the gradients of all weights had to wait.
            strength = strength * task_norm.item() / own_norm.item() if own_norm else 0.0
            _add(waiting, strength * scale)
        self.recent.append(torch.stack([total, strength * total, strength * own_norm, task_norm.to(total)]))

    def _value(self, weight: GuardedWeight, update: Any) -> Float[Tensor, ""]:
        return self.safeguard.weight_penalty(update, self.guides.get(weight.name))

    def _gradients(self, value: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor, ...]:
        if not value.requires_grad:
            raise InactiveError(
                f"The safeguard {self.safeguard.name} has no gradient; its penalty must depend on the update."
            )
        return torch.autograd.grad(value, parameters, materialize_grads=True)

    def _require_action(self, moves: Sequence[Tensor], total: Tensor) -> None:
        """Raises InactiveError for a penalty of zero on weights that have moved; until they move, it must be zero."""
        if self.acted or not _total(moves):
            return
        if not total:
            raise InactiveError(
                f"The safeguard {self.safeguard.name} is still exactly zero although {len(self.weights)} weights that "
                "it guards have moved; it protects nothing here."
            )
        self.acted = True

    def announce(self) -> str:
        """Says its strength, the number of weights it guards, and what its guides have in common."""
        measure = " of the loss's gradient" if self.safeguard.relative else ""
        weights = f"holds {len(self.weights)} weights ({self.part:.0%} of what is trained)"
        summary = f"strength {self.safeguard.strength:g}{measure}, {weights}"
        return f"{summary}; {self.safeguard.describe(self.guides)}" if self.guides else summary

    def drain(self) -> dict[str, float]:
        """Returns its mean value, the norm of its gradient, and the ratio of that to the loss's."""
        self.contribution = None
        if not self.recent:
            return {}
        value, weighted, own, task = torch.stack(self.recent).double().unbind(1)
        self.recent.clear()
        self.contribution = weighted.mean().item()
        ratio = (own / task.clamp_min(1e-30)).mean().item()
        return {"value": value.mean().item(), "gradient_norm": own.mean().item(), "gradient_ratio": ratio}

    @torch.no_grad()
    def finish(self) -> str:
        """Says its share, after a last check: the last step may have been the first to move anything."""
        if not self.acted:
            updates = [weight.update(scaled=self.safeguard.scaled) for weight in self.weights]
            values = [self._value(*pair) for pair in zip(self.weights, updates, strict=True)]
            self._require_action([squared_norm(update) for update in updates], _total(values))
        if not self.acted:
            _logger.warning("The weights that %s guards never moved, so it had nothing to do.", self.safeguard.name)
        return share_in_words(self.share)

    def report(self) -> PenaltyReport:
        """Returns its strength, the number of guarded weights, its share at the last log, and its guides' numbers."""
        summary = PenaltyReport(strength=self.safeguard.strength, holds=len(self.weights), share=self.share)
        guides = {name: _numbers(guide) for name, guide in self.guides.items()}
        return GuidedPenaltyReport(**vars(summary), guides=guides) if guides else summary


def activate(safeguard: Any, trainer: Trainer) -> ActiveWeightPenalty:
    """Makes a weight penalty run in a trainer, with the model's weights of this moment as anchor.

    Raises:
        InputError: the trainer makes a new model when it trains.
        InactiveError: the optimizer steps in the backward pass.
        UserError: what `ActiveWeightPenalty.on` raises.
    """
    require_fixed_model(safeguard.name, trainer)
    if _steps_in_backward(trainer):
        raise _no_gradient_left(safeguard.name)
    assert trainer.model is not None
    return ActiveWeightPenalty.on(safeguard, trainer.model, tokenizer_of(trainer))


def _steps_in_backward(trainer: Trainer) -> bool:
    """Whether the optimizer is one of those by name; another one is noticed at the first step."""
    return any(kind in str(getattr(trainer.args.optim, "value", trainer.args.optim)) for kind in ("lomo", "layerwise"))


def _no_gradient_left(name: str) -> InactiveError:
    return InactiveError(
        f"The weights that {name} guards have no gradient left when the optimizer is about to step, as with one that "
        "steps in the backward pass (LOMO, GaLore layerwise); use another optimizer, or remove the weight penalties."
    )


def _numbers(guide: Any) -> dict[str, float]:
    return {name: value for name, value in vars(guide).items() if isinstance(value, float)}


def _total(values: Sequence[Tensor]) -> Float[Tensor, ""]:
    """The sum in fp32; the weights of a model may be on several devices."""
    return torch.stack([value.float().to(values[0].device) for value in values]).sum()


@torch.no_grad()
def _add(waiting: list[tuple[Tensor, Tensor]], factor: float) -> None:
    """Adds each gradient, times the factor, to that of its parameter, and empties the list to free their memory."""
    for parameter, gradient in waiting:
        if parameter.grad is None:
            parameter.grad = (factor * gradient).to(parameter.dtype)
        else:
            parameter.grad.add_(gradient.to(parameter.grad.dtype), alpha=factor)
    waiting.clear()
