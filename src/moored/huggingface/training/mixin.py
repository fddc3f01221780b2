"""The glue between safeguards and a Trainer: it supplies what they need, scales them, and notices an idle one."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.trainer_utils import rotate_checkpoints

from moored.errors import InputError
from moored.huggingface.training.checkpoints import check_safeguards, mark_complete, write_safeguards
from moored.huggingface.training.drift import SafetyDrift
from moored.huggingface.training.held_penalty import HeldPenalty
from moored.huggingface.training.online_selection import OnlineSelection
from moored.huggingface.training.safeguards import Running, Safeguard, checked
from moored.huggingface.training.scoring import Scores, score
from moored.selection import GradientSelection

if TYPE_CHECKING:
    from transformers import Trainer as _Trainer
else:
    _Trainer = object


class SafeguardMixin(_Trainer):
    """Adds safeguards to any transformers Trainer: `class Mine(SafeguardMixin, SFTTrainer)`.

    A `GradientSelection` chooses, before the first micro-batch of each optimizer step, which of the step's rows are
    trained on; the loss is then the mean over *their* tokens. A weight penalty counts once per optimizer step,
    whatever the accumulation and the number of processes. Each active safeguard is logged under its own name. A
    checkpoint gets a marker once it is whole. A `SafetyDrift` among the callbacks logs through the trainer.

    Args:
        *args: what the Trainer takes.
        safeguards: selection and penalties; one with keep 1 or strength 0 is off.
        **kwargs: what the Trainer takes.

    Raises:
        InputError: a safeguard that this trainer cannot supply, or two of one name.
        InactiveError: a safeguard that finds nothing to choose from or to guard or, while training, a penalty that
            stays at exactly zero although the weights that it guards have moved.
    """

    def __init__(self, *args: Any, safeguards: Sequence[Safeguard] = (), **kwargs: Any) -> None:
        active = checked(safeguards)
        super().__init__(*args, **kwargs)
        self.safeguards = tuple(safeguards)
        if active and (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            raise InputError("Safeguards cannot read sharded weights yet; run without FSDP and DeepSpeed.")
        chosen = [self._selecting(each) for each in active if isinstance(each, GradientSelection)]
        self._selection = chosen[0] if chosen else None
        assert self.model is not None
        self._held = [HeldPenalty.on(each, self.model) for each in active if not isinstance(each, GradientSelection)]
        self._bind_drift()

    def _selecting(self, settings: GradientSelection) -> OnlineSelection:
        if getattr(self.args, "packing", False) and getattr(self.args, "packing_strategy", None) == "wrapped":
            raise InputError(
                f"{settings.name} keeps or drops whole documents, which packing_strategy: wrapped cuts apart; use bfd."
            )
        if self.args.fp16:
            raise InputError(f"Gradients too small for fp16 would distort {settings.name}; train in bf16 or fp32.")
        per_step = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        packed = getattr(self, "padding_free", False)
        return OnlineSelection(settings, process=self.args.process_index, pool=None if packed else per_step)

    def _running(self) -> Iterator[Running]:
        if self._selection is not None:
            yield self._selection
        yield from self._held

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Trains, after printing what is active; see `transformers.Trainer.train`."""
        self._bind_drift()
        if isinstance(resume_from_checkpoint, str):
            check_safeguards(Path(resume_from_checkpoint), self.safeguards)
        if self.safeguards:
            self.accelerator.print(self._summary())
        output = super().train(resume_from_checkpoint, *args, **kwargs)
        for running in self._running():
            self.accelerator.print(f"{running.safeguard.name} {running.finish(output.training_loss)}.")
        return output

    def _summary(self) -> str:
        """What is active, one line each."""
        told = {running.safeguard.name: running.announce() for running in self._running()}
        off = {each.name: f"off ({_off(each)})" for each in self.safeguards}
        return "\n".join(["Safeguards:", *(f"  {name}: {what}" for name, what in {**off, **told}.items())])

    def safeguard_report(self) -> list[dict[str, Any]]:
        """What each safeguard did: a penalty's strength, weights and share of the loss; a selection's rows."""
        reports = {running.safeguard.name: {"on": True, **running.report()} for running in self._running()}
        return [{"name": each.name, **reports.get(each.name, {"on": False})} for each in self.safeguards]

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The micro-batches of one optimizer step, of selected rows only where a selection is on."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self._selection is None or not batches:
            return batches, items
        assert self.model is not None
        # As the training step does: an evaluation leaves the model in eval mode, where nothing is checkpointed.
        self.model.train()
        # A schedule-free optimizer lends the weights another value for an evaluation.
        to_train = getattr(self.optimizer, "train", None)
        if callable(to_train):
            to_train()
        batches = [self._prepare_inputs(batch) for batch in batches]
        kept = self._selection.choose(batches, self._score, self.state.global_step)
        return [*kept], self._count_tokens([*kept], device)

    def _score(self, batch: Any) -> Scores:
        assert self.model is not None
        with self.accelerator.autocast():
            return score(self.model, batch)

    def _count_tokens(self, batches: list[Any], device: Any) -> torch.Tensor:
        """The tokens that a process divides its loss by: whatever it kept, all kept tokens come to count alike."""
        items = self._get_num_items_in_batch(batches, device)
        if not isinstance(items, torch.Tensor):
            raise InputError(
                "Gradient selection needs a trainer that divides the loss by the tokens of the whole step, and this "
                "one divides by the micro-batches; use TRL's SFTTrainer, or a model that takes num_items_in_batch."
            )
        if self.args.world_size == 1 or self.args.average_tokens_across_devices:
            return items
        everywhere: Any = self.accelerator.gather(items)
        return everywhere.float().mean()

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The Trainer's loss."""
        if self._selection is not None and model.training:
            self._selection.require_chosen()
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The Trainer's; the last one before an optimizer step adds the gradients of the weight penalties."""
        loss = super().training_step(*args, **kwargs)
        # DDP has averaged the gradients by now, and all processes have the same penalty.
        if self._held and self.accelerator.sync_gradients:
            scaler = self.accelerator.scaler
            scale = 1.0 if scaler is None else scaler.get_scale()
            task_norm = self._gradient_norm() / scale
            for held in self._held:
                held.add_gradients(scale, task_norm)
        return loss

    def _gradient_norm(self) -> torch.Tensor:
        """Of what the loss left on the guarded weights."""
        guarded = [parameter for weight in self._held[0].weights for parameter in weight.parameters]
        return nn.utils.get_total_norm([each.grad for each in guarded if each.grad is not None])

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Logs, with what each safeguard did since the last log."""
        if "loss" in logs:
            for running in self._running():
                logs.update(running.drain(logs["loss"]))
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


def _off(safeguard: Any) -> str:
    return "keep 1" if isinstance(safeguard, GradientSelection) else "strength 0"
