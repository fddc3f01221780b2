"""The glue between safeguards and a Trainer: it calls each safeguard's hooks at their moments of the training step."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from moored.errors import InputError
from moored.huggingface.distributed.sharding import refuse_sharded_run
from moored.huggingface.distributed.sums import mean_over_processes
from moored.huggingface.safeguards.hidden_states import hidden_states
from moored.huggingface.safeguards.interface import Safeguard, is_on, off_setting
from moored.huggingface.safeguards.registry import activate, require_usable
from moored.huggingface.safeguards.trainer_access import gradient_scale
from moored.huggingface.training.adapter_saving import AdapterSavingMixin
from moored.huggingface.training.checkpoint_loading import CheckpointLoadingMixin
from moored.huggingface.training.checkpoint_saving import CheckpointSavingMixin
from moored.huggingface.training.checkpoints import check_safeguards
from moored.huggingface.training.divergence import DivergenceMixin
from moored.huggingface.training.drift import SafetyDrift
from moored.terminal import visible

if TYPE_CHECKING:
    from transformers import Trainer as _Trainer
else:
    _Trainer = object


class SafeguardMixin(DivergenceMixin, CheckpointSavingMixin, CheckpointLoadingMixin, AdapterSavingMixin, _Trainer):
    """Adds safeguards to any transformers Trainer: `class Mine(SafeguardMixin, SFTTrainer)`.

    One optimizer step, with the Trainer's methods on the left and a safeguard's hooks on the right:

        get_batch_samples    fetch the step's micro-batches ──── before_step: drop rows, count tokens
        │
        │  once for each micro-batch:
        ├─ compute_loss      forward pass → loss ─────────────── in_loss: ask before, add a term after
        ├─ training_step     backward pass → .grad grows
        │
        │  after the last micro-batch:
        ├─ training_step     .grad is complete ───────────────── after_backward: add to .grad
        └─                   clip the gradients, optimizer.step()

    A row selection acts at the first hook: the loss is then the mean over the tokens of the kept rows. A token penalty
    adds a term to the loss at the second; the terms of a step add up to the mean over its guarded positions. A weight
    penalty depends on no batch, so it adds its gradient at the third, once per step. Neither accumulation nor the
    number of processes changes any of the three.

    The logged `loss` stays the task's, and each active safeguard is logged under its own name. A checkpoint gets a
    marker once it is complete. A `SafetyDrift` among the callbacks logs through the trainer.

    Args:
        *args: what the Trainer takes.
        safeguards: selection and penalties; one with keep 1 or strength 0 is off.
        **kwargs: what the Trainer takes.

    Raises:
        InputError: a safeguard that does not work with this trainer, or two of one name.
        InactiveError: a safeguard that has nothing to choose from or to guard or, while training, a penalty that
            stays exactly zero although the weights that it guards have moved.
        ModelError: a safeguard that reads the output head or the rows' labels, and a model that is not causal.
        DivergedError: at a checkpoint or at the end of a training with a safeguard on, a loss or trained weights that
            are not finite; set `refuse_divergence` to choose.
    """

    def __init__(self, *args: Any, safeguards: Sequence[Safeguard] = (), **kwargs: Any) -> None:
        require_usable(safeguards)
        super().__init__(*args, **kwargs)
        self.safeguards = tuple(safeguards)
        # Without a safeguard the run is the plain one, which carries on when it diverges.
        self.refuse_divergence = any(is_on(safeguard) for safeguard in safeguards)
        if self.refuse_divergence:
            refuse_sharded_run(self)
        self._rows_chosen = False
        """Whether a safeguard replaced the micro-batches of this step."""
        self._active = activate(safeguards, self)
        self._in_loss: torch.Tensor | None = None
        """What the safeguards added to the loss of the present micro-batch."""
        SafetyDrift.connect(self)

    def _inner_training_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Trains; `auto_find_batch_size` calls it again, with a smaller batch, after it has run out of memory."""
        self._in_loss = None
        for active in self._active:
            active.drain()  # What the attempt before has left belongs to no step.
        return super()._inner_training_loop(*args, **kwargs)

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Trains, and prints which safeguards are active and what they did; see `transformers.Trainer.train`."""
        SafetyDrift.connect(self)
        checkpoint = self.checkpoint_to_resume(resume_from_checkpoint)
        if checkpoint is not None:
            check_safeguards(checkpoint, self.safeguards)
        if self._active and self.args.torch_compile:
            # What was compiled for an earlier run would be used again, and leave out the hook for hidden states.
            torch._dynamo.reset()
        for active in self._active:
            active.before_training()
        if self.safeguards:
            self.accelerator.print(visible(self._announcement()))
        output = super().train(resume_from_checkpoint, *args, **kwargs)
        if all(active.share is None for active in self._active):
            self._drained(output.training_loss)  # The run was too short to log its loss.
        for active in self._active:
            self.accelerator.print(visible(f"{active.safeguard.name} {active.finish()}."))
        return output

    def _announcement(self) -> str:
        """The list of all safeguards, one line each."""
        lines = {safeguard.name: f"off ({off_setting(safeguard)})" for safeguard in self.safeguards}
        lines |= {active.safeguard.name: active.announce() for active in self._active}
        return "\n".join(["Safeguards:", *(f"  {name}: {line}" for name, line in lines.items())])

    def safeguard_report(self) -> list[dict[str, Any]]:
        """Returns what each safeguard did: a penalty's strength, weights and share of the loss; a selection's rows."""
        reports = {active.safeguard.name: {"on": True, **asdict(active.report())} for active in self._active}
        return [{"name": each.name, **reports.get(each.name, {"on": False})} for each in self.safeguards]

    # First hook: the micro-batches of an optimizer step are fetched together, so that here, and only here, a safeguard
    # sees all rows of the step before any of them is trained on.

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """Returns the micro-batches of one optimizer step after `before_step`, and the number of their tokens."""
        if self.state.global_step >= self.state.max_steps:
            # Resumed from the checkpoint of its last step, transformers (5.23) would take one more.
            return [], None
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, items
        chosen: Sequence[Any] = batches
        for active in self._active:
            chosen = active.before_step(chosen)
        self._rows_chosen = chosen is not batches
        if self._rows_chosen:
            items = self._count_tokens([*chosen], device)
        return [*chosen], items

    def _count_tokens(self, batches: list[Any], device: Any) -> torch.Tensor:
        """Counts the tokens that this process divides its loss by.

        Processes may have kept different numbers of tokens. Where each divides by its own, all must divide by the mean
        instead, or a token would weigh more in a process that kept few.
        """
        items = self._get_num_items_in_batch(batches, device)
        if not isinstance(items, torch.Tensor):
            raise InputError(
                "Gradient selection needs a trainer that divides the loss by the tokens of the whole step, and this "
                "one divides by the micro-batches; use TRL's SFTTrainer, or a model that takes num_items_in_batch."
            )
        return items if self.args.average_tokens_across_devices else mean_over_processes(items)

    # Second hook: the loss of a micro-batch. What a penalty needs of the hidden states is caught in the forward pass
    # that the loss runs anyway, unless that has dropout; what it needs of other weights it must compute before.

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Returns the Trainer's loss and, while training, the terms that safeguards add to it."""
        if not (self._active and model.training):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        batch = dict(inputs)  # A copy, since the Trainer's loss may take entries out of the inputs.
        with self.accelerator.autocast():
            terms = [term for active in self._active if (term := active.in_loss(batch)) is not None]
        if not terms:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        with hidden_states(model, batch) as states:
            result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        with self.accelerator.autocast():
            penalty = torch.stack([term(states) for term in terms]).sum()
        self._in_loss = penalty.detach()
        # The terms are scaled for the whole step already; undo the division that the Trainer is about to make.
        if self._trainer_divides(num_items_in_batch):
            penalty = penalty * self.current_gradient_accumulation_steps
        return (result[0] + penalty, *result[1:]) if isinstance(result, tuple) else result + penalty

    def _trainer_divides(self, num_items_in_batch: Any) -> bool:
        """Whether `training_step` divides the loss by the micro-batches, by the rule of `transformers.Trainer`."""
        loss_is_scaled = getattr(self, "loss_is_scaled_for_ga", None)
        if loss_is_scaled is not None:
            return not loss_is_scaled
        counted = self.model_accepts_loss_kwargs and num_items_in_batch is not None
        return not (counted or self.compute_loss_func is not None)

    # Third hook: the gradients, between the last backward pass of a step and the clipping. `sync_gradients` marks the
    # last micro-batch; DDP has averaged the gradients by then, and what is added must be the same in all processes.

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Runs the Trainer's step on a micro-batch and returns the task's loss alone."""
        loss = super().training_step(*args, **kwargs)
        if self._in_loss is not None:
            loss, self._in_loss = loss - self._in_loss.to(loss), None
        if self._active and self.accelerator.sync_gradients:
            self._add_gradients()
        return loss

    def _add_gradients(self) -> None:
        scale = gradient_scale(self)
        # All are called before the first adds anything, so that each sees the gradient of the loss alone.
        additions = [active.after_backward(scale) for active in self._active]
        for add in additions:
            if add is not None:
                add()

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Logs, and adds what each safeguard did since the last log."""
        if "loss" in logs:
            logs.update(self._drained(logs["loss"]))
        super().log(logs, *args, **kwargs)

    def _drained(self, loss: float) -> dict[str, float]:
        """What each safeguard did since the last call; a penalty's share is its part of the loss and all penalties."""
        logs = {
            f"safety/{active.safeguard.name}/{key}": value
            for active in self._active
            for key, value in active.drain().items()
        }
        contributions = [(active, active.contribution) for active in self._active if active.contribution is not None]
        total = loss + sum(contribution for _, contribution in contributions)
        for active, contribution in contributions:
            active.share = logs[f"safety/{active.safeguard.name}/share"] = contribution / total if total else 0.0
        return logs
