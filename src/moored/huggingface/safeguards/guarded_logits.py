"""The positions that a token penalty guards, and the logits of a few tokens there, without the whole vocabulary."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from moored.errors import InputError
from moored.huggingface.data import IGNORED
from moored.huggingface.gradients.causal_model import split
from moored.huggingface.gradients.score import targets_of
from moored.tensors.output_head import Head


def guarded_positions(batch: Mapping[str, Any], first: int | None = None) -> Bool[Tensor, "row column"]:
    """The positions whose hidden state predicts a supervised token of the same document.

    Args:
        batch: `input_ids` and `labels` [row, column]; padded with an `attention_mask`, or packed with `position_ids`
            that start again from 0 at each document.
        first: of each answer, which is a run of supervised tokens, only so many from its beginning, ≥ 1; None for all.

    Raises:
        InputError: the batch lacks one of the two.
    """
    missing = [name for name in ("input_ids", "labels") if batch.get(name) is None]
    if missing:
        raise InputError(f"The batches hold no {missing[0]}, without which safety tokens find no answers in them.")
    guarded = targets_of(batch) != IGNORED
    if first is None:
        return guarded
    # A document's last position predicts nothing, so that no run goes on into the next document.
    count = guarded.cumsum(1)
    before = torch.where(guarded, 0, count).cummax(1).values
    return guarded & (count - before <= first)


class _Rows(NamedTuple):
    """Some rows of the output head's matrix, and of its bias."""

    weight: Float[Tensor, "token dim"]
    bias: Float[Tensor, " token"] | None

    def each(self, change: Callable[[Tensor], Tensor]) -> "_Rows":
        return _Rows(change(self.weight), None if self.bias is None else change(self.bias))


class SalientHead:
    """The output head of a causal language model, of some tokens alone.

    Args:
        model: the model, maybe with a PEFT adapter, maybe wrapped by DDP; the head may be trained, or tied.
        tokens: ids of the vocabulary; None for all of it.
        centred: whether to subtract, at each position, the mean logit over the whole vocabulary, so that a shift of all
            logits alike makes no difference.

    Raises:
        InputError: a token that the vocabulary lacks, or centred logits of a model with a soft-cap.
        ModelError: an output head that is no plain linear layer, as under LoRA.
    """

    def __init__(self, model: nn.Module, tokens: Sequence[int] | None, *, centred: bool = False) -> None:
        self._parts = split(model)
        self.tokens = None if tokens is None else tuple(tokens)
        self.centred = centred
        size = len(self._parts.weight)
        strange = [token for token in self.tokens or () if not 0 <= token < size]
        if strange:
            raise InputError(f"The model's vocabulary has {size} tokens and none with the id {strange[0]}.")
        if centred and self._parts.cap is not None:
            raise InputError(
                f"{type(self._parts.whole).__name__} caps its logits, whose mean over the vocabulary then takes the "
                "whole of it; take the logits as they are instead of centred."
            )
        self._frozen: tuple[_Rows, _Rows | None] | None = None

    @property
    def size(self) -> int:
        """The number of tokens."""
        return len(self._parts.weight) if self.tokens is None else len(self.tokens)

    @property
    def dtype(self) -> torch.dtype:
        """In which the products are taken at this moment: the head's own type, or that of the surrounding autocast."""
        return self._parts.dtype

    def logits(self, hidden: Float[Tensor, "position dim"]) -> Float[Tensor, "position token"]:
        """The tokens' logits in fp32, differentiable in the hidden states and in the head's weights."""
        rows, mean = self._rows()
        hidden = hidden.to(rows.weight.device)
        logits = self._of(rows, hidden)
        return logits if mean is None else logits - self._of(mean, hidden)

    def _of(self, rows: _Rows, hidden: Tensor) -> Tensor:
        return Head(*rows, self._parts.scale, self._parts.cap, self.dtype).logits(hidden, slice(None))

    def _rows(self) -> tuple[_Rows, _Rows | None]:
        """The tokens' rows, and the mean over all rows; read once where nothing trains them."""
        weight, bias = self._parts.weight, self._parts.bias
        if weight.requires_grad or (bias is not None and bias.requires_grad):
            return self._read(weight, bias)
        if self._frozen is None:
            self._frozen = self._read(weight.detach(), None if bias is None else bias.detach())
        return self._frozen

    def _read(self, weight: Tensor, bias: Tensor | None) -> tuple[_Rows, _Rows | None]:
        rows, mean = _Rows(weight, bias), None
        if self.centred:
            mean = rows.each(lambda values: values.mean(0, keepdim=True, dtype=torch.float32))
        if self.tokens is not None:
            own = torch.tensor(self.tokens, device=weight.device)
            rows = rows.each(lambda values: values[own])
        return rows, mean
