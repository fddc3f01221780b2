"""A token penalty at work: its tokens, its reference, its recent values, and whether it was seen to act."""

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from moored.errors import InactiveError, InputError
from moored.huggingface.data import random_token_ids, read_token_texts, token_ids, token_text
from moored.huggingface.safeguards.cached_logits import cached_logits, rounding
from moored.huggingface.safeguards.guarded_logits import SalientHead, guarded_positions
from moored.huggingface.safeguards.hidden_states import Seen
from moored.huggingface.safeguards.interface import told_share
from moored.huggingface.safeguards.readable import require_readable
from moored.huggingface.safeguards.rows import Batch
from moored.huggingface.safeguards.start_logits import AnchorLogits, ReferenceLogits, StartWeights

_logger = logging.getLogger(__name__)
_SHOWN = 8


class HeldTokens:
    """One active token penalty on a model.

    Its value for an optimizer step is the mean over the guarded positions of all micro-batches and processes, and over
    the tokens. Norms of gradients are taken at the last hidden state, where the penalty enters the model: those by the
    weights would cost another backward pass.

    Args:
        safeguard: what the user asked for.
        model: the model that is trained, with the weights that are its anchor.
        tokenizer: that of the run.
        processes: over how many DDP averages.
        total: sums a tensor over the processes.

    Raises:
        InputError: no tokens, a single one with the form `kl`, tokens that this tokenizer does not know as one, or a
            head that cannot be read.
        ModelError: the model is not causal, or makes its logits in a way that is not known here.
    """

    def __init__(
        self,
        safeguard: Any,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        *,
        processes: int = 1,
        total: Callable[[Tensor], Tensor] = lambda tensor: tensor,
    ) -> None:
        require_readable(model, head=True)
        self.safeguard = safeguard
        self._processes, self._total = processes, total
        ids = _ids(safeguard, tokenizer)
        self._texts = [] if ids is None else [token_text(token, tokenizer) or f"#{token}" for token in ids]
        self._head = SalientHead(model, ids, centred=safeguard.form == "centred")
        if safeguard.form == "kl" and self._head.size < 2:
            raise InputError(f"{safeguard.name} with form: kl compares tokens, and has only one; name more of them.")
        self._model, self._from_cache = model, safeguard.reference == "cache"
        self._reference: ReferenceLogits | None = None
        self._was_there = False
        if not self._from_cache:
            self._reference = AnchorLogits(model, self._head, first=safeguard.first, start=StartWeights(model))
        self._start = _fingerprint(model)
        self._positions, self._seen, self._acted = 0, 0, False
        self._step: Tensor | None = None
        self._recent: list[Tensor] = []
        """Of each step since the last log: this process's part of the value, and squared norms of the gradients at the
        hidden states, the penalty's and the loss's."""
        self.weighed = 0.0
        self.share: float | None = None
        """Both as in `HeldPenalty`."""

    def prepare(self, batches: Iterable[Batch], advance: Callable[[int], Any]) -> None:
        """Writes or opens the cache of reference logits, if it has one, before the weights move."""
        if self._reference is None:
            self._was_there = self.safeguard.cache is not None and Path(self.safeguard.cache).exists()
            anchor = AnchorLogits(self._model, self._head, first=self.safeguard.first)
            self._reference = cached_logits(batches, anchor, self.safeguard.cache, advance=advance)

    @property
    def unprepared(self) -> bool:
        """Whether `prepare` is still to be called."""
        return self._reference is None

    def begin(self, batches: Sequence[Batch]) -> None:
        """Counts the guarded positions of an optimizer step, over all its micro-batches and processes."""
        counts = [guarded_positions(batch, self.safeguard.first).sum() for batch in batches]
        device = next(self._model.parameters()).device
        self._positions = int(self._total(torch.stack(counts).sum().to(device)))
        self._seen += self._positions
        self._step = None

    def reference(self, batch: Batch) -> Float[Tensor, "position token"]:
        """The anchor's logits at a micro-batch's guarded positions."""
        assert self._reference is not None
        return self._reference.of(batch)

    def penalty(self, batch: Batch, seen: Seen, reference: Tensor, unscale: Callable[[], float]) -> Float[Tensor, ""]:
        """A micro-batch's part of strength · penalty, times the processes that DDP averages over.

        Args:
            batch: the micro-batch.
            seen: the hidden states of its forward pass.
            reference: as `reference` gave them.
            unscale: asked in the backward pass for what the gradients are to be divided by: a GradScaler's scale.

        Raises:
            InactiveError: it has no gradient, or the logits are exactly the reference's although the weights moved.
        """
        positions = guarded_positions(batch, self.safeguard.first)
        if not self._positions and positions.any():
            raise InactiveError(
                f"The safeguard {self.safeguard.name} was not told of its step: this trainer does not fetch its "
                "batches by get_batch_samples; use another version of transformers, or take the safeguard out."
            )
        hidden = seen.at(positions)
        logits = self._head.logits(hidden)
        if logits.numel() and not logits.requires_grad:
            raise InactiveError(f"The safeguard {self.safeguard.name} has no gradient, since it sees nothing trained.")
        reference = reference.to(logits.device)
        value = self.safeguard.token_penalty(logits, reference).sum()
        self._judge(logits, reference, value)
        value = value / (max(self._positions, 1) * self._head.size)
        weighed = self.safeguard.strength * self._processes * value
        sums = self._sums(value.device)
        sums[0] += value.detach()
        if hidden.numel():
            (own,) = torch.autograd.grad(weighed, hidden, retain_graph=True)
            sums[1] += own.float().square().sum()
            seen.when_differentiated(lambda whole: sums[2].add_(_rest(whole / unscale(), positions, own)))
        return weighed

    def _sums(self, device: torch.device) -> Tensor:
        """Those of this step, to be added to."""
        if self._step is None:
            self._step = torch.zeros(3, device=device)
            self._recent.append(self._step)
        return self._step

    @torch.no_grad()
    def _judge(self, logits: Tensor, reference: Tensor, value: Tensor) -> None:
        """Judged once the weights have moved far enough: before that, zero is what the differences must be."""
        if self._acted or not logits.numel():
            return
        apart = (logits - reference).norm()
        if apart:
            other_company = rounding(self._head.dtype) if self._from_cache else 0.0
            self._acted = bool(value > 0 and apart > other_company * reference.norm())
        elif self._have_moved():
            raise InactiveError(
                f"The logits that {self.safeguard.name} guards are exactly those of the start although the weights "
                "have moved; it protects nothing here."
            )

    def _have_moved(self) -> bool:
        """Whether the weights are further from the start than the logits' precision could hide.

        In bf16, or where a warm-up has hardly begun, many steps may go by before a logit changes.
        """
        moved = abs(_fingerprint(self._model) - self._start)
        return moved > torch.finfo(self._head.dtype).eps * max(self._start, 1.0)

    def announce(self) -> str:
        """Strength, tokens, positions and where the reference comes from."""
        size, first = self._head.size, self.safeguard.first
        shown = [*map(repr, self._texts[:_SHOWN]), *(["…"] if size > len(self._texts[:_SHOWN]) else [])]
        where = "all answer positions" if first is None else f"the first {first} positions of each answer"
        drawn = "" if self.safeguard.control is None else "random "
        tokens = f"holds {size} {drawn}tokens ({', '.join(shown)}) at {where}"
        return f"strength {self.safeguard.strength:g}, {tokens}; reference: {self._whence()}"

    def _whence(self) -> str:
        if not self._from_cache:
            return "a pass with the first weights"
        if self.safeguard.cache is None:
            return "logits computed beforehand"
        return f"logits {'found' if self._was_there else 'written'} in {self.safeguard.cache}"

    def drain(self) -> dict[str, float]:
        """Since the last call: mean value, norm of the gradient, and its ratio to the loss's."""
        if not self._recent:
            return {}
        sums = self._total(torch.stack(self._recent)).double()
        self._recent.clear()
        value = sums[:, 0].mean().item()
        own, task = sums[:, 1].sqrt() / self._processes, sums[:, 2].sqrt() / self._processes
        self.weighed = self.safeguard.strength * value
        logs = {"value": value, "gradient_norm": own.mean().item()}
        logs["gradient_ratio"] = (own / task.clamp_min(1e-30)).mean().item()
        return {f"safety/{self.safeguard.name}/{key}": number for key, number in logs.items()}

    def finish(self) -> str:
        """Its share; raises InactiveError where no row had a position to guard."""
        if not self._seen:
            raise InactiveError(
                f"The safeguard {self.safeguard.name} guarded nothing: no row that was trained on had a token to learn."
            )
        if not self._acted:
            _logger.warning(
                "The logits that %s guards never moved by more than rounding does, so it had hardly anything to do.",
                self.safeguard.name,
            )
        return told_share(self.share)

    def report(self) -> dict[str, Any]:
        """Its strength, how many tokens it holds and which, and its share of the loss when last logged.

        Of all tokens none is named; of a control those that were drawn are.
        """
        told = {"strength": self.safeguard.strength, "holds": self._head.size, "share": self.share}
        return {**told, "tokens": self._texts}


def _rest(whole: Tensor, positions: Tensor, own: Tensor) -> Float[Tensor, ""]:
    """The squared norm of a gradient at all positions, less what is the penalty's own at the guarded ones."""
    rest = whole.float()
    rest[positions.to(rest.device)] -= own.float()
    return rest.square().sum()


def _ids(safeguard: Any, tokenizer: PreTrainedTokenizerBase) -> list[int] | None:
    if safeguard.all_tokens:
        return None
    if safeguard.tokens is None:
        raise InputError(
            f"{safeguard.name} has no tokens; give it tokens=[each.text for each in moored.find_safety_tokens(model, "
            "tokenizer)], texts of your own, or the path of a file."
        )
    ids = token_ids(_texts(safeguard), tokenizer)
    return random_token_ids(ids, tokenizer, safeguard.seed) if safeguard.control == "random_tokens" else ids


def _texts(safeguard: Any) -> Sequence[str]:
    stated = safeguard.tokens
    if not isinstance(stated, str):
        return stated
    if not Path(stated).is_file():
        raise InputError(
            f"{safeguard.name} has tokens {stated!r}, and there is no such file; texts go in a list, as [{stated!r}]."
        )
    return read_token_texts(stated)


@torch.no_grad()
def _fingerprint(model: nn.Module) -> float:
    """Changes when the trained weights do."""
    return sum(each.detach().double().square().sum().item() for each in model.parameters() if each.requires_grad)
