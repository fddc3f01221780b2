"""The glue between safeguards and a Trainer: it supplies what they need, scales them, and notices an idle one."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from tqdm.auto import tqdm
from transformers.trainer_utils import get_last_checkpoint, rotate_checkpoints

from moored.errors import InactiveError, InputError
from moored.huggingface.gradients import Scores, score
from moored.huggingface.models import folded_adapter, make_whole, unstackable
from moored.huggingface.safeguards.hidden_states import hidden_states
from moored.huggingface.safeguards.interface import Running, Safeguard, checked
from moored.huggingface.safeguards.readable import cuts_documents, require_labelled_rows, require_readable
from moored.huggingface.safeguards.row_selection import OnlineSelection
from moored.huggingface.safeguards.token_penalty import HeldTokens
from moored.huggingface.safeguards.weight_penalty import HeldPenalty
from moored.huggingface.training.checkpoints import check_safeguards, mark_complete, write_safeguards
from moored.huggingface.training.divergence import Divergence
from moored.huggingface.training.drift import SafetyDrift
from moored.regularizers import TokenPenalty, WeightPenalty
from moored.selection import GradientSelection

if TYPE_CHECKING:
    from transformers import Trainer as _Trainer
else:
    _Trainer = object


class SafeguardMixin(_Trainer):
    """Adds safeguards to any transformers Trainer: `class Mine(SafeguardMixin, SFTTrainer)`.

    A `GradientSelection` chooses, before the first micro-batch of each optimizer step, which of the step's rows are
    trained on; the loss is then the mean over *their* tokens. A weight penalty counts once per optimizer step and a
    token penalty is the mean over the step's guarded positions, whatever the accumulation and the number of processes.
    The logged `loss` stays the task's; each active safeguard is logged under its own name. A checkpoint gets a marker
    once it is whole. A `SafetyDrift` among the callbacks logs through the trainer.

    Args:
        *args: what the Trainer takes.
        safeguards: selection and penalties; one with keep 1 or strength 0 is off.
        **kwargs: what the Trainer takes.

    Raises:
        InputError: a safeguard that this trainer cannot supply, or two of one name.
        ModelError: a safeguard that reads the output head or the rows' labels, and a model that is not causal.
        InactiveError: a safeguard that finds nothing to choose from or to guard or, while training, a penalty that
            stays at exactly zero although the weights that it guards have moved.
        DivergedError: at a checkpoint or at the end of a training with a safeguard on, a loss or trained weights that
            are not finite; set `refuse_divergence` to choose.
    """

    def __init__(self, *args: Any, safeguards: Sequence[Safeguard] = (), **kwargs: Any) -> None:
        active = checked(safeguards)
        super().__init__(*args, **kwargs)
        self.safeguards = tuple(safeguards)
        # Without a safeguard the run is the plain one, which goes on.
        self.refuse_divergence = bool(active)
        self._divergence = Divergence()
        if active and (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            raise InputError("Safeguards cannot read sharded weights yet; run without FSDP and DeepSpeed.")
        self._require_stackable()
        penalties = [each for each in active if not isinstance(each, GradientSelection)]
        if penalties and self.model_init is not None:
            raise InputError(
                f"{penalties[0].name} would hold a model that is not trained, since train() makes another one by "
                "model_init; pass model."
            )
        chosen = [self._selecting(each) for each in active if isinstance(each, GradientSelection)]
        self._selection = chosen[0] if chosen else None
        assert self.model is not None
        # A processor of several kinds of input has a tokenizer inside.
        self._tokenizer: Any = getattr(self.processing_class, "tokenizer", self.processing_class)
        self._held = [
            HeldPenalty.on(each, self.model, self._tokenizer) for each in active if isinstance(each, WeightPenalty)
        ]
        self._tokens = [self._guarding(each) for each in active if isinstance(each, TokenPenalty)]
        self._in_loss: torch.Tensor | None = None
        self._bind_drift()

    def _require_stackable(self) -> None:
        """A run must not find at its end that its result cannot be saved."""
        model: Any = self.model
        if model is None or folded_adapter(model) is None:
            return
        for config in model.peft_config.values():
            name = unstackable(config)
            if name is not None:
                raise InputError(
                    f"The adapter could not be saved as one with that which moored.load folded in; leave {name} out of "
                    "its LoraConfig."
                )

    def _selecting(self, settings: GradientSelection) -> OnlineSelection:
        require_labelled_rows(self, settings.name)
        cut = cuts_documents(self.args)
        if cut is not None:
            raise InputError(
                f"{settings.name} keeps or drops whole documents, which packing_strategy: {cut} cuts apart; use bfd."
            )
        if self.args.fp16:
            raise InputError(f"Gradients too small for fp16 would distort {settings.name}; train in bf16 or fp32.")
        assert self.model is not None
        require_readable(self.model, head=settings.make_rule().scored)
        per_step = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        packed = getattr(self, "padding_free", False)
        return OnlineSelection(settings, process=self.args.process_index, pool=None if packed else per_step)

    def _guarding(self, settings: Any) -> HeldTokens:
        require_labelled_rows(self, settings.name)
        cut = cuts_documents(self.args)
        if cut is not None and settings.first is not None:
            raise InputError(
                f"{settings.name} with first looks for the beginning of each answer, and packing_strategy: {cut} cuts "
                "answers apart; use bfd, or leave first out."
            )
        if self.args.n_gpu > 1:
            raise InputError(f"{settings.name} needs one process for each GPU; start with accelerate launch.")
        if self._tokenizer is None:
            raise InputError(f"{settings.name} looks tokens up by their text; give the trainer its processing_class.")
        assert self.model is not None
        return HeldTokens(
            settings, self.model, self._tokenizer, processes=self.args.world_size, total=self._over_processes
        )

    def _over_processes(self, tensor: torch.Tensor) -> torch.Tensor:
        everywhere: Any = self.accelerator.reduce(tensor, "sum")
        return everywhere

    def _running(self) -> Iterator[Running]:
        if self._selection is not None:
            yield self._selection
        yield from self._held
        yield from self._tokens

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Trains, after printing what is active; see `transformers.Trainer.train`."""
        self._bind_drift()
        asked = resume_from_checkpoint
        checkpoint = get_last_checkpoint(str(self.args.output_dir)) if asked is True else asked
        if checkpoint:
            check_safeguards(Path(checkpoint), self.safeguards)
        for held in self._tokens:
            if held.unprepared:
                with self._each_row_once() as batches, self.accelerator.autocast():
                    held.prepare(*batches)
        if self.safeguards:
            self.accelerator.print(self._summary())
        self._divergence = Divergence()
        output = super().train(resume_from_checkpoint, *args, **kwargs)
        self._require_finite()
        if any(held.share is None for held in (*self._held, *self._tokens)):
            self._drained(output.training_loss)  # The run was too short to log its loss.
        for running in self._running():
            self.accelerator.print(f"{running.safeguard.name} {running.finish()}.")
        return output

    @contextmanager
    def _each_row_once(self) -> Iterator[tuple[Iterable[Any], Callable[[int], Any]]]:
        """The training set in batches, this process's part of it, and what shows how many rows are done."""
        rows: Any = self.train_dataset
        if not hasattr(rows, "__len__"):
            raise InputError("Reference logits of a stream cannot be cached; set reference: model.")
        # Workers that stayed would go on serving these rows; the last rows are needed also where steps leave them out.
        own = {name: getattr(self.args, name) for name in ("dataloader_persistent_workers", "dataloader_drop_last")}
        for name in own:
            setattr(self.args, name, False)
        bar = tqdm(total=len(rows), desc="reference logits", disable=self.args.disable_tqdm)
        try:
            # A loader draws a number for its workers.
            with torch.random.fork_rng(devices=[]), bar:
                yield map(self._prepare_inputs, self.get_eval_dataloader(rows)), bar.update
        finally:
            for name, value in own.items():
                setattr(self.args, name, value)

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
        if not batches:
            return batches, items
        if self._selection is not None:
            batches = self._selected(self._selection, batches)
            items = self._count_tokens(batches, device)
        for held in self._tokens:
            held.begin(batches)
        return batches, items

    def _selected(self, selection: OnlineSelection, batches: list[Any]) -> list[Any]:
        """The rows that a selection keeps, in as many micro-batches."""
        assert self.model is not None
        # As the training step does: an evaluation leaves the model in eval mode, where nothing is checkpointed.
        self.model.train()
        # A schedule-free optimizer lends the weights another value for an evaluation.
        to_train = getattr(self.optimizer, "train", None)
        if callable(to_train):
            to_train()
        batches = [self._prepare_inputs(batch) for batch in batches]
        return [*selection.choose(batches, self._score, self.state.global_step)]

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
        """The Trainer's loss and, while training, a micro-batch's part of the token penalties."""
        if self._selection is not None and model.training:
            self._selection.require_chosen()
        if not (self._tokens and model.training):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        with self.accelerator.autocast():
            # Before the forward pass: the weights change places for it.
            references = [held.reference(inputs) for held in self._tokens]
        given = dict(inputs)
        with hidden_states(model) as seen:
            result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        with self.accelerator.autocast():
            parts = zip(self._tokens, references, strict=True)
            penalty = torch.stack([held.penalty(given, seen, each, self._scale) for held, each in parts]).sum()
        self._in_loss = penalty.detach()
        # Trainer divides the loss by the number of micro-batches, unless the number of tokens did so already.
        divided = not self._loss_is_scaled(num_items_in_batch)
        penalty = penalty * (self.current_gradient_accumulation_steps if divided else 1)
        return (result[0] + penalty, *result[1:]) if isinstance(result, tuple) else result + penalty

    def _loss_is_scaled(self, num_items_in_batch: Any) -> bool:
        """Whether `training_step` leaves the loss undivided; the rule of `transformers.Trainer.training_step`."""
        stated = getattr(self, "loss_is_scaled_for_ga", None)
        if stated is not None:
            return stated
        counted = self.model_accepts_loss_kwargs and num_items_in_batch is not None
        return counted or self.compute_loss_func is not None

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The Trainer's, whose loss is the task's alone; before an optimizer step come the weight penalties."""
        loss = super().training_step(*args, **kwargs)
        if self._in_loss is not None:
            loss, self._in_loss = loss - self._in_loss.to(loss), None
        self._divergence.watch(loss, self.state.global_step + 1)
        # DDP has averaged the gradients by now, and all processes have the same penalty.
        if self._held and self.accelerator.sync_gradients:
            scale = self._scale()
            task_norm = self._gradient_norm() / scale
            for held in self._held:
                held.add_gradients(scale, task_norm)
        return loss

    def _scale(self) -> float:
        """The factor that gradients carry against underflow in fp16."""
        return 1.0 if self.accelerator.scaler is None else self.accelerator.scaler.get_scale()

    def _gradient_norm(self) -> torch.Tensor:
        """Of what the loss left on the guarded weights."""
        guarded = [parameter for weight in self._held[0].weights for parameter in weight.parameters]
        gradients = [each.grad for each in guarded if each.grad is not None]
        if not gradients:
            raise InactiveError(
                f"The weights that {self._held[0].safeguard.name} guards have no gradient left where the optimizer is "
                "to step, as with one that steps in the backward pass (LOMO, GaLore layerwise); use another optimizer, "
                "or take weight penalties out."
            )
        return nn.utils.get_total_norm(gradients)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Logs, with what each safeguard did since the last log."""
        if "loss" in logs:
            logs.update(self._drained(logs["loss"]))
        super().log(logs, *args, **kwargs)

    def _drained(self, loss: float) -> dict[str, float]:
        """What each safeguard did since the last call; a penalty's share is of the loss and all penalties together."""
        drained = {running.safeguard.name: running.drain() for running in self._running()}
        acting = [held for held in (*self._held, *self._tokens) if drained[held.safeguard.name]]
        whole = loss + sum(held.weighed for held in acting)
        for held in acting:
            held.share = held.weighed / whole if whole else 0.0
            drained[held.safeguard.name][f"safety/{held.safeguard.name}/share"] = held.share
        return {key: value for logs in drained.values() for key, value in logs.items()}

    def save_model(self, output_dir: str | Path | None = None, _internal_call: bool = False) -> None:
        """Saves as the Trainer does; an adapter on top of one that `moored.load` folded in becomes one that holds both.

        Checkpoints keep the adapter as it is trained, to go on from.
        """
        assert self.model is not None
        folder, below = str(output_dir or self.args.output_dir), folded_adapter(self.model)
        with warnings.catch_warnings():
            if below is not None:  # PEFT looks for the vocabulary of the base, which is no single folder.
                warnings.filterwarnings("ignore", "Could not find a config file in", UserWarning)
            super().save_model(folder, _internal_call)
        if below is not None and not _internal_call and self.args.should_save:
            make_whole(Path(folder), below)

    def _require_finite(self) -> None:
        if self.refuse_divergence:
            assert self.model is not None
            self._divergence.refuse(self.model, self.state.global_step, self._over_processes)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._require_finite()
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
