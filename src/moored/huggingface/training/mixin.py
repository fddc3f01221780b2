"""The glue between penalties and a Trainer: it supplies what they need, scales them, and notices an idle one."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.trainer_utils import rotate_checkpoints

from moored.errors import InactiveError, InputError
from moored.huggingface.training.checkpoints import check_safeguards, mark_complete, write_safeguards
from moored.huggingface.training.drift import SafetyDrift
from moored.huggingface.training.updates import Update, guarded_updates
from moored.regularizers import WeightPenalty

if TYPE_CHECKING:
    from transformers import Trainer as _Trainer
else:
    _Trainer = object

_logger = logging.getLogger(__name__)

NEEDS = frozenset({"reference", "base", "hidden_states"})
"""What a safeguard may declare that it needs."""
_SUPPLIED = frozenset({"reference"})


@runtime_checkable
class Safeguard(Protocol):
    """A frozen dataclass that is also a `WeightPenalty` (or, in a later version, a `TokenPenalty`)."""

    name: str
    """Under which it is logged: `safety/<name>/value` and `safety/<name>/share`."""
    strength: float
    """The factor in the loss, ≥ 0; 0 declares it off, and the run is the plain one, bit for bit."""
    needs: frozenset[str]
    """Any of `NEEDS`. `reference`: the anchor, which is the weights that the run starts from."""


class SafeguardMixin(_Trainer):
    """Adds penalties to the loss of any transformers Trainer: `class Mine(SafeguardMixin, SFTTrainer)`.

    A weight penalty counts once per optimizer step, whatever the accumulation and the number of processes. Each
    active safeguard is logged under its own name with its value and its share of the loss. A checkpoint gets a marker
    once it is whole. A `SafetyDrift` among the callbacks logs through the trainer.

    Args:
        *args: what the Trainer takes.
        safeguards: the penalties; one with strength 0 is off.
        **kwargs: what the Trainer takes.

    Raises:
        InputError: a safeguard that this trainer cannot supply, or two of one name.
        InactiveError: a safeguard that finds nothing to guard or, while training, one that stays at exactly zero
            although the weights that it guards have moved.
    """

    def __init__(self, *args: Any, safeguards: Sequence[Safeguard] = (), **kwargs: Any) -> None:
        active = checked(safeguards)
        super().__init__(*args, **kwargs)
        self.safeguards = tuple(safeguards)
        assert self.model is not None
        self._held = [_Held(safeguard, _updates_for(safeguard, self.model)) for safeguard in active]
        self._bind_drift()
        if self._held and (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            raise InputError("Safeguards cannot read sharded weights yet; run without FSDP and DeepSpeed.")

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Trains, after printing what is active; see `transformers.Trainer.train`."""
        self._bind_drift()
        if isinstance(resume_from_checkpoint, str):
            check_safeguards(Path(resume_from_checkpoint), self.safeguards)
        if self.safeguards:
            self.accelerator.print(summary(self.safeguards, self._held))
        output = super().train(resume_from_checkpoint, *args, **kwargs)
        for held in self._held:
            held.judge_at_the_end()
            if held.share is None:
                held.drain(output.training_loss)  # The run was too short to log its loss.
            share = "took no step" if held.share is None else f"was {held.share:.2%} of the loss at the end"
            self.accelerator.print(f"{held.safeguard.name} {share}.")
        return output

    def safeguard_report(self) -> list[dict[str, Any]]:
        """Per safeguard its strength, the weights that it holds, and its share of the loss when last logged."""
        held = {one.safeguard.name: one for one in self._held}
        return [
            {
                "name": safeguard.name,
                "strength": safeguard.strength,
                "holds": len(held[safeguard.name].updates) if safeguard.name in held else 0,
                "share": held[safeguard.name].share if safeguard.name in held else 0.0,
            }
            for safeguard in self.safeguards
        ]

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The Trainer's loss, plus the penalties in the last micro-batch of an optimizer step."""
        result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        # The weights stand still until the step, so that once in its last micro-batch is the whole penalty.
        if not (self._held and model.training and self.accelerator.sync_gradients):
            return result
        # Trainer divides the loss by the number of micro-batches, unless the number of tokens did so already.
        divided = not self._loss_is_scaled(num_items_in_batch)
        factor = self.current_gradient_accumulation_steps if divided else 1
        # DDP averages over the processes, and all have the same penalty: no factor for their number.
        penalty = factor * torch.stack([held.strength * held.penalty() for held in self._held]).sum()
        return (result[0] + penalty, *result[1:]) if isinstance(result, tuple) else result + penalty

    def _loss_is_scaled(self, num_items_in_batch: Any) -> bool:
        """Whether `training_step` leaves the loss undivided; the rule of `transformers.Trainer.training_step`."""
        stated = getattr(self, "loss_is_scaled_for_ga", None)
        if stated is not None:
            return stated
        counted = self.model_accepts_loss_kwargs and num_items_in_batch is not None
        return counted or self.compute_loss_func is not None

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Logs, with each safeguard's mean value and share of the loss since the last log."""
        if "loss" in logs:
            for held in self._held:
                logs.update(held.drain(logs["loss"]))
        super().log(logs, *args, **kwargs)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        # Older checkpoints go only once the new one is marked: otherwise a crash in between would leave none.
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()
        if not self.args.should_save:
            return
        output_dir = self._get_output_dir(trial)
        folder = Path(output_dir) / f"checkpoint-{self.state.global_step}"
        write_safeguards(folder, self.safeguards)
        if not self.args.save_only_model:
            mark_complete(folder)
        best = self.state.best_model_checkpoint
        rotate_checkpoints(output_dir, save_total_limit=limit, best_model_checkpoint=best, use_mtime=True)

    def _bind_drift(self) -> None:
        """Callbacks get no trainer, so the one that logs is given the trainer's log."""
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, SafetyDrift) and callback.log is None:
                callback.log = self.log


def checked(safeguards: Sequence[Safeguard]) -> list[Safeguard]:
    """The safeguards that are on.

    Raises:
        InputError: what is wrong with one of them, in one sentence.
    """
    names = [safeguard.name for safeguard in safeguards]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"The safeguard {twice} is given twice; give it once with the strength you want.")
    for safeguard in safeguards:
        unknown = sorted(safeguard.needs - NEEDS)
        if unknown:
            known = ", ".join(sorted(NEEDS))
            raise InputError(f"The safeguard {safeguard.name} needs {unknown[0]}, which is none of {known}.")
        if not 0 <= safeguard.strength < float("inf"):
            raise InputError(f"The strength of {safeguard.name} is {safeguard.strength}; give a number of 0 or more.")
        missing = sorted(safeguard.needs - _SUPPLIED)
        if safeguard.strength and (missing or not isinstance(safeguard, WeightPenalty)):
            what = f"what it needs ({missing[0]})" if missing else "penalties of its kind"
            raise InputError(f"The safeguard {safeguard.name} cannot run: this version does not supply {what}.")
    return [safeguard for safeguard in safeguards if safeguard.strength]


def _updates_for(safeguard: Safeguard, model: nn.Module) -> list[Update]:
    updates = guarded_updates(model)
    if not updates:
        raise InactiveError(
            f"The safeguard {safeguard.name} guards nothing: the model has no trainable LoRA module and no trainable "
            "linear layer."
        )
    return updates


@dataclass(eq=False)
class _Held:
    """One active safeguard at work: its guarded weights, its recent values, and whether it was seen to act."""

    safeguard: Safeguard
    updates: list[Update]
    acted: bool = False
    share: float | None = None
    """Of the loss, over the steps of the last log, or of the whole run where nothing was logged."""
    values: list[Tensor] = field(default_factory=list)

    @property
    def strength(self) -> float:
        return self.safeguard.strength

    def penalty(self) -> Float[Tensor, ""]:
        """The sum over the guarded weights, not yet multiplied by the strength."""
        updates = [update() for update in self.updates]
        value = torch.stack([self._of(update) for update in updates]).sum()
        if updates[0].requires_grad and not value.requires_grad:
            raise InactiveError(
                f"The safeguard {self.safeguard.name} has no gradient; its penalty must depend on the update."
            )
        self._judge(updates, value)
        self.values.append(value.detach())
        return value

    def _of(self, update: Tensor) -> Tensor:
        assert isinstance(self.safeguard, WeightPenalty)
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

    @torch.no_grad()
    def judge_at_the_end(self) -> None:
        """The last step may have been the first to move anything."""
        if self.acted:
            return
        updates = [update() for update in self.updates]
        self._judge(updates, torch.stack([self._of(update) for update in updates]).sum())
        if not self.acted:
            _logger.warning("The weights that %s guards never moved, so it had nothing to do.", self.safeguard.name)

    def drain(self, loss: float) -> dict[str, float]:
        """Mean value and share of the loss since the last call, for the log."""
        if not self.values:
            return {}
        value = torch.stack(self.values).mean().item()
        self.values.clear()
        self.share = self.strength * value / loss if loss else 0.0
        return {f"safety/{self.safeguard.name}/value": value, f"safety/{self.safeguard.name}/share": self.share}


def summary(safeguards: Sequence[Safeguard], held: Sequence[_Held]) -> str:
    """What is active, one line each."""
    guarded = {one.safeguard.name: len(one.updates) for one in held}
    lines = [
        f"  {safeguard.name}: strength {safeguard.strength:g}, holds {guarded[safeguard.name]} weights"
        if safeguard.name in guarded
        else f"  {safeguard.name}: off (strength 0)"
        for safeguard in safeguards
    ]
    return "\n".join(["Safeguards:", *lines])
