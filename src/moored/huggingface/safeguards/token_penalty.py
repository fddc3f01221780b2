"""A token penalty at work in a trainer: it adds a term to each micro-batch's loss, and notices when it does nothing."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, Trainer

from moored.errors import InactiveError, InputError
from moored.huggingface.data import token_text
from moored.huggingface.distributed.processes import process_count
from moored.huggingface.safeguards.guarded_logits import SalientHead
from moored.huggingface.safeguards.guarded_tokens import guarded_tokens
from moored.huggingface.safeguards.hidden_states import HiddenStates
from moored.huggingface.safeguards.interface import ActiveSafeguard, Batch, LossTerm, PenaltyReport, share_in_words
from moored.huggingface.safeguards.logit_watch import LogitWatch
from moored.huggingface.safeguards.position_count import PositionCount
from moored.huggingface.safeguards.readable import cuts_beginnings, require_labelled_rows, require_readable
from moored.huggingface.safeguards.start_reference import StartReference
from moored.huggingface.safeguards.step_sums import StepSums
from moored.huggingface.safeguards.trainer_access import (
    TrainingRows,
    each_row_once,
    gradient_scale,
    require_fixed_model,
    tokenizer_of,
)

_logger = logging.getLogger(__name__)
_SHOWN = 8
"""The number of tokens that the announcement names."""


@dataclass(frozen=True, kw_only=True)
class TokenPenaltyReport(PenaltyReport):
    """What a penalty on tokens did."""

    tokens: Sequence[str]
    """The texts of the guarded tokens, a control's random ones included; empty for the whole vocabulary."""


class ActiveTokenPenalty(ActiveSafeguard):
    """One penalty on the logits of some tokens.

    Its value for an optimizer step is the mean over the guarded positions of all micro-batches and processes, and over
    the tokens. Norms of gradients are taken at the last hidden state, where the penalty enters the model: the norms at
    the weights would cost another backward pass.

    Args:
        safeguard: the user's settings.
        model: the model that is trained; its present weights are the anchor.
        tokenizer: the run's tokenizer.
        training_rows: opens the training set, for a cache of the reference logits.
        scale: returns the factor that gradients carry at that moment, as under a GradScaler.

    Raises:
        InputError: no tokens, a single one with the form `kl`, tokens that are several for this tokenizer, or a head
            that cannot be read.
        ModelError: the model is not causal, or computes its logits in an unknown way.
    """

    def __init__(
        self,
        safeguard: Any,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        *,
        training_rows: Callable[[], AbstractContextManager[TrainingRows]] | None = None,
        scale: Callable[[], float] = lambda: 1.0,
    ) -> None:
        require_readable(model, head=True)
        self.safeguard = safeguard
        ids = guarded_tokens(safeguard, tokenizer)
        self._texts = [] if ids is None else [token_text(token, tokenizer) or f"#{token}" for token in ids]
        self._head = SalientHead(model, ids, centred=safeguard.form == "centred")
        if safeguard.form == "kl" and self._head.size < 2:
            raise InputError(f"{safeguard.name} with form: kl compares tokens, and has only one; name more of them.")
        self._model = model
        self._reference = StartReference(safeguard, model, self._head, training_rows)
        self._count = PositionCount(safeguard.name, safeguard.first)
        self._watch = LogitWatch(safeguard.name, model, self._head, is_cached=self._reference.is_cached)
        self._sums = StepSums(scale)

    def before_training(self) -> None:
        """Writes or opens the cache of reference logits, if it is to have one, and frees the start weights."""
        self._reference.open()

    def before_step(self, batches: Sequence[Any]) -> Sequence[Any]:
        """Counts the step's guarded positions, over all its micro-batches and processes; keeps the batches."""
        self._count.begin_step(batches, next(self._model.parameters()).device)
        self._sums.begin_step()
        return batches

    def in_loss(self, batch: Batch) -> LossTerm:
        """Asks for the reference logits now: the start weights take the place of the model's, so not amid a pass."""
        reference = self.reference(batch)
        return lambda states: self.penalty(batch, states, reference)

    def reference(self, batch: Batch) -> Float[Tensor, "position token"]:
        """Returns the start weights' logits at a micro-batch's guarded positions."""
        return self._reference.of(batch)

    def penalty(self, batch: Batch, states: HiddenStates, reference: Tensor) -> Float[Tensor, ""]:
        """Computes a micro-batch's part of strength · penalty.

        The step's penalty is the mean over the N guarded positions of all micro-batches and processes, and over the
        V tokens. A micro-batch knows only its own positions, so it contributes the *sum* over them, divided by N · V:
        however the step is cut into micro-batches, their parts add up to the mean. DDP then averages gradients over
        the P processes, which would divide the sum of their parts by P; the factor P undoes that.

        Args:
            batch: the micro-batch.
            states: the hidden states of its forward pass.
            reference: what `reference` returned for it.

        Raises:
            InactiveError: it has no gradient, or the logits are exactly the reference's although the weights moved.
        """
        positions = self._count.next(batch)
        hidden = states.at(positions)
        logits = self._head.logits(hidden)
        if logits.numel() and not logits.requires_grad:
            raise InactiveError(
                f"The safeguard {self.safeguard.name} has no gradient: nothing that is trained reaches these logits."
            )
        reference = reference.to(logits.device)
        value = self.safeguard.token_penalty(logits, reference).sum()
        self._watch.see(logits, reference, value)
        value = value / (max(self._count.in_step, 1) * self._head.size)
        weighted = self.safeguard.strength * process_count() * value
        self._sums.add(value, weighted, hidden, positions, states)
        return weighted

    def announce(self) -> str:
        """Says its strength, tokens and positions, and where the reference comes from."""
        size, first = self._head.size, self.safeguard.first
        shown = [*map(repr, self._texts[:_SHOWN]), *(["…"] if size > len(self._texts[:_SHOWN]) else [])]
        where = "all answer positions" if first is None else f"the first {first} positions of each answer"
        random = "" if self.safeguard.control is None else "random "
        tokens = f"holds {size} {random}tokens ({', '.join(shown)}) at {where}"
        return f"strength {self.safeguard.strength:g}, {tokens}; reference: {self._reference.describe()}"

    def drain(self) -> dict[str, float]:
        """Returns its mean value, the norm of its gradient, and the ratio of that to the loss's."""
        log = self._sums.drain()
        self.contribution = self.safeguard.strength * log["value"] if log else None
        return log

    def finish(self) -> str:
        """Says its share; raises InactiveError where no row had a position to guard."""
        if not self._count.in_run:
            raise InactiveError(
                f"The safeguard {self.safeguard.name} guarded nothing: no row that was trained on had a token to learn."
            )
        if not self._watch.acted:
            _logger.warning(
                "The logits that %s guards never moved by more than rounding does, so it had hardly anything to do.",
                self.safeguard.name,
            )
        return share_in_words(self.share)

    def report(self) -> TokenPenaltyReport:
        """Returns its strength, the number of tokens and which, and its share at the last log."""
        return TokenPenaltyReport(
            strength=self.safeguard.strength, holds=self._head.size, share=self.share, tokens=self._texts
        )


def activate(safeguard: Any, trainer: Trainer) -> ActiveTokenPenalty:
    """Makes a token penalty run in a trainer, with the model's weights of this moment as anchor.

    Raises:
        InputError: the batches are no labelled rows, answers are cut apart, or the trainer has several GPUs per process
            or no tokenizer.
        UserError: what `ActiveTokenPenalty` raises.
    """
    require_fixed_model(safeguard.name, trainer)
    require_labelled_rows(trainer, safeguard.name)
    cutting = cuts_beginnings(trainer.args)
    if cutting is not None and safeguard.first is not None:
        raise InputError(
            f"{safeguard.name} with first looks for the beginning of each answer, and {cutting} cuts answers apart; "
            "change that, or leave first out."
        )
    if trainer.args.n_gpu > 1:
        raise InputError(f"{safeguard.name} needs one process for each GPU; start with accelerate launch.")
    tokenizer = tokenizer_of(trainer)
    if tokenizer is None:
        raise InputError(f"{safeguard.name} looks tokens up by their text; give the trainer its processing_class.")
    assert trainer.model is not None
    rows, scale = partial(each_row_once, trainer), partial(gradient_scale, trainer)
    return ActiveTokenPenalty(safeguard, trainer.model, tokenizer, training_rows=rows, scale=scale)
