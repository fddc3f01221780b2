"""Gradient-based selection at work in a trainer: the rows of a step go in, the rows to train on come out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from transformers import Trainer

from moored.errors import InactiveError, InputError
from moored.huggingface.distributed.processes import any_process, gathered, process_count, process_index
from moored.huggingface.gradients import Scores, score
from moored.huggingface.safeguards.interface import ActiveSafeguard, Batch, SafeguardReport
from moored.huggingface.safeguards.readable import (
    cuts_documents,
    require_labelled_rows,
    require_labels,
    require_readable,
)
from moored.huggingface.safeguards.row_pool import Candidate, PoolTally, candidates, columns
from moored.huggingface.safeguards.rows import distribute, is_packed, put_together, take_apart, unlabelled
from moored.huggingface.safeguards.trained_loss import require_token_loss, require_token_loss_settings
from moored.selection import GradientSelection


@dataclass(frozen=True, kw_only=True)
class RowSelectionReport(SafeguardReport):
    """What a selection did."""

    rule: str
    keep: float
    seed: int
    rows: int
    """The number of rows seen."""
    kept: int
    """The number of rows trained on."""
    length: float
    """The mean number of tokens to learn from, over the rows seen."""
    length_kept: float
    """The same over the rows trained on."""


class ActiveRowSelection(ActiveSafeguard):
    """One `GradientSelection` in one process of a trainer.

    Args:
        settings: the user's settings.
        trainer: the trainer, which knows the model and the step.
        pool: the number of rows of an optimizer step over all processes, or None where it is not known in advance.

    Raises:
        InactiveError: the pool is a single row, so that there is nothing to choose.
    """

    def __init__(self, settings: GradientSelection, trainer: Any, *, pool: int | None) -> None:
        if pool == 1:
            raise InactiveError(
                f"The safeguard {settings.name} chooses among the rows of one optimizer step, which has only one; "
                "raise per_device_train_batch_size or gradient_accumulation_steps."
            )
        self.safeguard = settings
        self._rule = settings.make_rule()
        self._trainer, self._expected = trainer, pool
        self._is_loss_checked = not self._rule.scored
        self._total, self._recent = PoolTally(), PoolTally()

    def before_step(self, batches: Sequence[Any]) -> list[Batch]:
        """Returns the kept rows of this process."""
        trainer = self._trainer
        for batch in batches:  # Before a trainer that generates its rows does so.
            require_labels(batch, trainer, self.safeguard.name)
        # As the training step itself does: after an evaluation the model is in eval mode, in which activations are
        # not checkpointed, and a schedule-free optimizer still lends it the averaged weights.
        trainer.model.train()
        if callable(getattr(trainer.optimizer, "train", None)):
            trainer.optimizer.train()
        on_device = [trainer._prepare_inputs(batch) for batch in batches]
        self._check_loss(on_device)
        return self.choose(on_device, self._score, trainer.state.global_step)

    def _check_loss(self, batches: Sequence[Batch]) -> None:
        """Checks on the first batch with labels that the loss which is trained is the one that is scored."""
        for batch in batches:
            # Trainers gather their metrics, so all processes check at once.
            if not self._is_loss_checked and not any_process(not _has_labels(batch)):
                require_token_loss(self._trainer, batch, self.safeguard.name)
                self._is_loss_checked = True

    def _score(self, batch: Batch) -> Scores:
        with self._trainer.accelerator.autocast():
            return score(self._trainer.model, batch)

    def choose(self, batches: Sequence[Batch], score: Callable[[Batch], Scores], step: int) -> list[Batch]:
        """Returns the kept rows of this process in as many batches as before.

        Processes exchange only losses, norms and lengths: each trains its own kept rows. A batch that is left without
        any gets a row with nothing to learn, because every process must run every forward and backward pass.

        Args:
            batches: the micro-batches of one optimizer step.
            score: scores a batch at the present weights; not called by rules that do not look.
            step: the number of the optimizer step.

        Raises:
            InputError: batches that cannot be taken apart, or a loss or norm that is not finite.
            InactiveError: no row of the pool has a supervised token.
        """
        rows = [take_apart(batch) for batch in batches]
        own = [
            candidate
            for number, (batch, parts) in enumerate(zip(batches, rows, strict=True))
            for candidate in candidates(number, process_index(), parts, score(batch) if self._rule.scored else None)
        ]
        kept = self._keep(sorted(gathered(own)), step)
        mine = [rows[each.batch][each.row] for each in kept if each.process == process_index()]
        # Documents that came one per batch must stay apart: the model may not be able to separate packed ones.
        packed = is_packed(batches[0]) and any(len(parts) > 1 for parts in rows)
        shares = distribute(mine, len(batches), by_length=packed)
        return [
            put_together(share or [unlabelled(max(parts, key=lambda row: len(row["labels"])))], like)
            for share, parts, like in zip(shares, rows, batches, strict=True)
        ]

    def _keep(self, pool: list[Candidate], step: int) -> list[Candidate]:
        kept = [pool[index] for index in self._rule(*columns(pool), step=step).tolist()]
        self._total.add(pool, kept)
        self._recent.add(pool, kept)
        return kept

    def in_loss(self, batch: Batch) -> None:
        """Adds nothing; raises InactiveError where the trainer never called `before_step`."""
        if not self._total.pool.rows:
            raise InactiveError(
                f"The safeguard {self.safeguard.name} got no rows to choose from: this trainer does not fetch its "
                "batches with get_batch_samples; use another version of transformers, or remove the safeguard."
            )

    def announce(self) -> str:
        """Says the rule, and what it chooses from."""
        keep, rule = f"{self.safeguard.keep:g}", f"by the rule {self.safeguard.rule}"
        if self._expected is None:
            return f"keeps {keep} of the packed documents of each step {rule}"
        count = self._rule.count(self._expected)
        return f"keeps {count} of the {self._expected} rows of each step (keep {keep}) {rule}"

    def drain(self) -> dict[str, float]:
        """Returns the share kept, and the mean norm and length of the pool and of the kept rows."""
        recent, self._recent = self._recent, PoolTally()
        if not recent.pool.rows:
            return {}
        logs = {"kept": recent.kept.rows / recent.pool.rows}
        names: tuple[Literal["length", "norm"], ...] = ("length", "norm") if self._rule.scored else ("length",)
        for name in names:
            logs |= {name: recent.pool.mean(name), f"{name}_kept": recent.kept.mean(name)}
        return logs

    def finish(self) -> str:
        """Says how many rows it kept; raises InactiveError where it kept them all."""
        pool, kept = self._total.pool, self._total.kept
        if pool.rows and pool.rows == kept.rows:
            raise InactiveError(
                f"The safeguard {self.safeguard.name} left no row out, since no step had more than one to choose from; "
                "raise the batch size or the gradient accumulation."
            )
        return (
            f"kept {kept.rows} of {pool.rows} rows, with {kept.mean('length'):.1f} tokens to learn from on average "
            f"(all rows: {pool.mean('length'):.1f})"
        )

    def report(self) -> RowSelectionReport:
        """Returns its settings, the numbers of rows seen and kept, and their mean tokens to learn from."""
        pool, kept = self._total.pool, self._total.kept
        return RowSelectionReport(
            rule=self.safeguard.rule,
            keep=self.safeguard.keep,
            seed=self.safeguard.seed,
            rows=pool.rows,
            kept=kept.rows,
            length=pool.mean("length"),
            length_kept=kept.mean("length"),
        )


def _has_labels(batch: Batch) -> bool:
    """Whether a batch has a token to learn; none is learned at the beginning of a row."""
    return bool((batch["labels"][..., 1:] != -100).any())


def activate(settings: GradientSelection, trainer: Trainer) -> ActiveRowSelection:
    """Makes a selection run in a trainer.

    Raises:
        InputError: the batches are no labelled rows, documents are cut apart, another loss is trained than a rule
            scores, or the run computes in fp16, which loses small gradients.
        ModelError: the model is not causal or, for a rule that scores rows, computes its logits in an unknown way.
        InactiveError: a step has a single row.
    """
    args: Any = trainer.args
    require_labelled_rows(trainer, settings.name)
    strategy = cuts_documents(args)
    if strategy is not None:
        raise InputError(
            f"{settings.name} keeps or drops whole documents, which packing_strategy: {strategy} cuts apart; use bfd."
        )
    if args.fp16:
        raise InputError(
            f"{settings.name} would misjudge gradients that are too small for fp16; train in bf16 or fp32."
        )
    scored = settings.make_rule().scored
    if scored:
        require_token_loss_settings(trainer, settings.name)
    assert trainer.model is not None
    require_readable(trainer.model, head=scored)
    rows = args.train_batch_size * args.gradient_accumulation_steps * process_count()
    return ActiveRowSelection(settings, trainer, pool=None if getattr(trainer, "padding_free", False) else rows)
