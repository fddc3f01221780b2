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


def guarded_positions(batch: Any, first: int | None = None) -> Bool[Tensor, "row column"]:
    """Marks the positions whose hidden state predicts a supervised token of the same document.

    Args:
        batch: `input_ids` and `labels` [row, column]; padded with an `attention_mask`, or packed with `position_ids`
            that start again from 0 at each document.
        first: the number of positions to guard at the beginning of each answer, which is a run of supervised tokens;
            ≥ 1, None for all.

    Raises:
        InputError: the batch lacks `input_ids` or `labels`.
    """
    held = batch if isinstance(batch, Mapping) else {}
    missing = [name for name in ("input_ids", "labels") if held.get(name) is None]
    if missing:
        raise InputError(
            f"The batches have no {missing[0]}, without which safety tokens cannot find the answers in them."
        )
    guarded = targets_of(batch) != IGNORED
    if first is None:
        return guarded
    # The last position of a document predicts nothing, so no run of guarded positions continues into the next one.
    count = guarded.cumsum(1)
    before = torch.where(guarded, 0, count).cummax(1).values
    return guarded & (count - before <= first)


class _Rows(NamedTuple):
    """Some rows of the output head's matrix and of its bias."""

    weight: Float[Tensor, "token dim"]
    bias: Float[Tensor, " token"] | None

    def map(self, change: Callable[[Tensor], Tensor]) -> "_Rows":
        return _Rows(change(self.weight), None if self.bias is None else change(self.bias))


class SalientHead:
    """The output head of a causal language model, restricted to some tokens.

    Args:
        model: the model, maybe with a PEFT adapter, maybe wrapped by DDP; the head may be trained, or tied.
        tokens: their ids; None for the whole vocabulary.
        centred: whether to subtract, at each position, the mean logit over the whole vocabulary, which makes the
            same shift of all logits count for nothing.

    Raises:
        InputError: a token that the vocabulary lacks, or centred logits of a model with a soft-cap.
        ModelError: an output head that is not a plain linear layer, as under LoRA.
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
                f"{type(self._parts.whole).__name__} caps its logits, so their mean would need the logits of the whole "
                "vocabulary; use form: logits instead of centred."
            )
        self._frozen: tuple[_Rows, _Rows | None] | None = None

    @property
    def size(self) -> int:
        """The number of tokens."""
        return len(self._parts.weight) if self.tokens is None else len(self.tokens)

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the products at this moment: the head's own, or that of the surrounding autocast."""
        return self._parts.dtype

    def logits(self, hidden: Float[Tensor, "position dim"]) -> Float[Tensor, "position token"]:
        """Computes the tokens' logits in fp32, differentiable in the hidden states and in the head's weights."""
        rows, mean = self._rows()
        hidden = hidden.to(rows.weight.device)
        logits = self._of(rows, hidden)
        return logits if mean is None else logits - self._of(mean, hidden)

    def _of(self, rows: _Rows, hidden: Tensor) -> Tensor:
        return Head(*rows, self._parts.scale, self._parts.cap, self.dtype).logits(hidden, slice(None))

    def _rows(self) -> tuple[_Rows, _Rows | None]:
        """The tokens' rows, and the mean over all rows; read only once if the head is frozen."""
        weight, bias = self._parts.weight, self._parts.bias
        if weight.requires_grad or (bias is not None and bias.requires_grad):
            return self._read(weight, bias)
        if self._frozen is None:
            self._frozen = self._read(weight.detach(), None if bias is None else bias.detach())
        return self._frozen

    def _read(self, weight: Tensor, bias: Tensor | None) -> tuple[_Rows, _Rows | None]:
        rows, mean = _Rows(weight, bias), None
        if self.centred:
            mean = rows.map(lambda values: values.mean(0, keepdim=True, dtype=torch.float32))
        if self.tokens is not None:
            ids = torch.tensor(self.tokens, device=weight.device)
            rows = rows.map(lambda values: values[ids])
        return rows, mean
