"""A token penalty at work in a trainer: it adds a term to each micro-batch's loss, and notices when it does nothing."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, Trainer

from moored.errors import InactiveError, InputError
from moored.huggingface.data import token_text
from moored.huggingface.distributed.processes import process_count
from moored.huggingface.distributed.sums import sum_over_processes
from moored.huggingface.safeguards.cached_logits import cached_logits, relative_rounding
from moored.huggingface.safeguards.guarded_logits import SalientHead, guarded_positions
from moored.huggingface.safeguards.guarded_tokens import guarded_tokens
from moored.huggingface.safeguards.hidden_states import HiddenStates
from moored.huggingface.safeguards.interface import ActiveSafeguard, Batch, LossTerm, PenaltyReport, share_in_words
from moored.huggingface.safeguards.readable import cuts_beginnings, require_labelled_rows, require_readable
from moored.huggingface.safeguards.start_logits import ReferenceLogits, StartLogits, StartWeights
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
        self._training_rows, self._scale = training_rows, scale
        ids = guarded_tokens(safeguard, tokenizer)
        self._texts = [] if ids is None else [token_text(token, tokenizer) or f"#{token}" for token in ids]
        self._head = SalientHead(model, ids, centred=safeguard.form == "centred")
        if safeguard.form == "kl" and self._head.size < 2:
            raise InputError(f"{safeguard.name} with form: kl compares tokens, and has only one; name more of them.")
        self._model, self._cached = model, safeguard.reference == "cache"
        self._cache_existed = False
        # A cache is written when the training begins, but from the weights of this moment, as all anchors are.
        self._start_logits: StartLogits | None = StartLogits(
            model, self._head, first=safeguard.first, start=StartWeights(model)
        )
        self._reference: ReferenceLogits | None = None if self._cached else self._start_logits
        self._start = _fingerprint(model)
        self._positions, self._seen, self._acted = 0, 0, False
        self._expected: list[int] = []
        """The guarded positions of each micro-batch of the step that has not been trained on yet."""
        self._sums: Tensor | None = None
        """The running sums of the present optimizer step, also the last entry of `_recent`."""
        self._recent: list[Tensor] = []
        """For each step since the last log: this process's part of the value, and the squared norms at the hidden
        states of the penalty's gradient and of the loss's."""

    def before_training(self) -> None:
        """Writes or opens the cache of reference logits, if it is to have one, and frees the start weights."""
        if self._reference is not None or self._training_rows is None or self._start_logits is None:
            return
        folder = self.safeguard.cache
        self._cache_existed = folder is not None and Path(folder).exists()
        with self._training_rows() as rows:
            self._reference = cached_logits(rows.batches, self._start_logits, folder, advance=rows.advance)
        self._start_logits = None

    def before_step(self, batches: Sequence[Any]) -> Sequence[Any]:
        """Counts the step's guarded positions, over all its micro-batches and processes; keeps the batches."""
        counts = torch.stack([guarded_positions(batch, self.safeguard.first).sum() for batch in batches])
        device = next(self._model.parameters()).device
        self._positions = int(sum_over_processes(counts.sum().to(device)))
        self._expected = counts.tolist()
        self._seen += self._positions
        self._sums = None
        return batches

    def in_loss(self, batch: Batch) -> LossTerm:
        """Asks for the reference logits now: the start weights take the place of the model's, so not amid a pass."""
        reference = self.reference(batch)
        return lambda states: self.penalty(batch, states, reference)

    def reference(self, batch: Batch) -> Float[Tensor, "position token"]:
        """The start weights' logits at a micro-batch's guarded positions."""
        assert self._reference is not None
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
        positions = guarded_positions(batch, self.safeguard.first)
        self._require_counted(positions)
        hidden = states.at(positions)
        logits = self._head.logits(hidden)
        if logits.numel() and not logits.requires_grad:
            raise InactiveError(
                f"The safeguard {self.safeguard.name} has no gradient: nothing that is trained reaches these logits."
            )
        reference = reference.to(logits.device)
        value = self.safeguard.token_penalty(logits, reference).sum()
        self._require_action(logits, reference, value)
        value = value / (max(self._positions, 1) * self._head.size)
        weighted = self.safeguard.strength * process_count() * value
        self._measure(value, weighted, hidden, positions, states)
        return weighted

    def _require_counted(self, positions: Tensor) -> None:
        if not self._expected:
            raise InactiveError(
                f"The safeguard {self.safeguard.name} did not see its step begin: this trainer does not fetch its "
                "batches with get_batch_samples; use another version of transformers, or remove the safeguard."
            )
        if self._expected.pop(0) != int(positions.sum()):
            raise InactiveError(
                f"The safeguard {self.safeguard.name} counted other tokens to learn than this trainer trains on, as "
                "where it generates answers itself; use another trainer, or remove the safeguard."
            )

    def _measure(
        self, value: Tensor, weighted: Tensor, hidden: Tensor, positions: Tensor, states: HiddenStates
    ) -> None:
        """Adds to the step's sums: the value now, the gradient's parts at the hidden states in the backward pass."""
        if self._sums is None:
            self._sums = torch.zeros(3, device=value.device)
            self._recent.append(self._sums)
        sums = self._sums
        sums[0] += value.detach()
        if hidden.numel():
            (own,) = torch.autograd.grad(weighted, hidden, retain_graph=True)
            sums[1] += own.float().square().sum()
            # What flows back there is the gradient of the loss, and of the penalty if that came from the same states,
            # times the scale of fp16.
            part = torch.zeros_like(own) if states.noisy else own
            states.on_gradient(lambda whole: sums[2].add_(_squared_rest(whole / self._scale(), positions, part)))

    @torch.no_grad()
    def _require_action(self, logits: Tensor, reference: Tensor, value: Tensor) -> None:
        """Notes whether the penalty ever acts; raises InactiveError if the logits stay while the weights move."""
        if self._acted or not logits.numel():
            return
        distance = (logits - reference).norm()
        if distance:
            # A cached reference was computed in another batch, which alone changes the last digits.
            rounding = relative_rounding(self._head.dtype) if self._cached else 0.0
            self._acted = bool(value > 0 and distance > rounding * reference.norm())
        elif self._weights_moved():
            raise InactiveError(
                f"The logits that {self.safeguard.name} guards are exactly those of the start although the weights "
                "have moved; it protects nothing here."
            )

    def _weights_moved(self) -> bool:
        """Whether the weights are further from the start than the logits' precision could hide.

        In bf16, or early in a warm-up, many steps may pass before a logit changes.
        """
        moved = abs(_fingerprint(self._model) - self._start)
        return moved > torch.finfo(self._head.dtype).eps * max(self._start, 1.0)

    def announce(self) -> str:
        """Says its strength, tokens and positions, and where the reference comes from."""
        size, first = self._head.size, self.safeguard.first
        shown = [*map(repr, self._texts[:_SHOWN]), *(["…"] if size > len(self._texts[:_SHOWN]) else [])]
        where = "all answer positions" if first is None else f"the first {first} positions of each answer"
        random = "" if self.safeguard.control is None else "random "
        tokens = f"holds {size} {random}tokens ({', '.join(shown)}) at {where}"
        return f"strength {self.safeguard.strength:g}, {tokens}; reference: {self._source()}"

    def _source(self) -> str:
        if not self._cached:
            return "a pass with the first weights"
        if self.safeguard.cache is None:
            return "logits computed beforehand"
        return f"logits {'found' if self._cache_existed else 'written'} in {self.safeguard.cache}"

    def drain(self) -> dict[str, float]:
        """Returns its mean value, the norm of its gradient, and the ratio of that to the loss's."""
        self.contribution = None
        if not self._recent:
            return {}
        sums = sum_over_processes(torch.stack(self._recent)).double()
        self._recent.clear()
        value = sums[:, 0].mean().item()
        own, task = (sums[:, column].sqrt() / process_count() for column in (1, 2))
        self.contribution = self.safeguard.strength * value
        ratio = (own / task.clamp_min(1e-30)).mean().item()
        return {"value": value, "gradient_norm": own.mean().item(), "gradient_ratio": ratio}

    def finish(self) -> str:
        """Says its share; raises InactiveError where no row had a position to guard."""
        if not self._seen:
            raise InactiveError(
                f"The safeguard {self.safeguard.name} guarded nothing: no row that was trained on had a token to learn."
            )
        if not self._acted:
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


def _squared_rest(whole: Tensor, positions: Tensor, own: Tensor) -> Float[Tensor, ""]:
    """The squared norm of a gradient at all positions, minus the penalty's own part at the guarded ones."""
    rest = whole.float()
    rest[positions.to(rest.device)] -= own.float()
    return rest.square().sum()


@torch.no_grad()
def _fingerprint(model: nn.Module) -> float:
    """A number that changes when the trained weights do."""
    trained = [parameter.detach() for parameter in model.parameters() if parameter.requires_grad]
    return sum(parameter.double().square().sum().item() for parameter in trained)
