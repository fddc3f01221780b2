"""Cross-entropy through the output head with its gradients, without ever holding all logits.

The head is z = cap(s(Wh + b)), with cap(u) = c·tanh(u/c) (Gemma 2, arXiv 2408.00118) or none. Softmax and gradient are
computed by hand, because the gradient of a sample's loss by W needs the same numbers: it is Σₜ pₜhₜᵀ, where pₜ is the
gradient by Wh + b. Positions go through in groups of whole samples, a group that is still too large in chunks of the
vocabulary (then the logits are computed twice).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from moored.tensors.head_squares import HeadSquares, inside

_MOST = 2**25
"""Logits held at once: 128 MB in fp32."""


@dataclass(frozen=True)
class Head:
    """The output head: what stands between the last hidden state and the logits."""

    weight: Float[Tensor, "vocab dim"]
    bias: Float[Tensor, " vocab"] | None = None
    scale: float = 1.0
    cap: float | None = None
    dtype: torch.dtype = torch.float32
    """In which the products are taken."""

    def logits(self, hidden: Float[Tensor, "position dim"], chunk: slice) -> Float[Tensor, "position chunk"]:
        """The logits of a part of the vocabulary, in fp32."""
        bias = None if self.bias is None else self.bias[chunk].to(self.dtype)
        raw = F.linear(hidden.to(self.dtype), self.weight[chunk].to(self.dtype), bias).float()
        raw = raw.mul_(self.scale) if self.scale != 1 else raw
        if self.cap is None:
            return raw
        capped = raw.div_(self.cap).tanh_()
        # The backward pass of the tanh reads its result.
        return capped * self.cap if capped.requires_grad else capped.mul_(self.cap)

    def slope(self, logits: Float[Tensor, "position chunk"]) -> Float[Tensor, "position chunk"] | None:
        """The derivative of the cap, or None where there is none."""
        return None if self.cap is None else 1 - (logits / self.cap).square()

    def back(self, gradients: Float[Tensor, "position chunk"], chunk: slice) -> Float[Tensor, "position dim"]:
        """The gradient by the hidden state."""
        return (gradients.to(self.dtype) @ self.weight[chunk].to(self.dtype)).float()


@dataclass(frozen=True)
class HeadGradients:
    """What one pass through the head gives; a sample without any position has zeros."""

    losses: Float[Tensor, " sample"]
    """The mean negative log-likelihood of each sample's targets, in nats."""
    hidden: Float[Tensor, "position dim"]
    """The gradient of the losses' sum by the hidden states, in fp32."""
    squares: HeadSquares
    """The squared norms of the gradients by the head itself."""


def head_gradients(
    head: Head,
    hidden: Float[Tensor, "position dim"],
    targets: Int[Tensor, " position"],
    lengths: list[int],
    *,
    trained: bool = True,
    rows: list[Int[Tensor, " _"]] | None = None,
) -> HeadGradients:
    """Losses, their gradient by the hidden states, and the squared norms of each sample's gradient by the head.

    Args:
        head: the output head.
        hidden: the hidden states that predict a target, sample after sample.
        targets: the token that each of them is to predict.
        lengths: how many of the positions belong to each sample, ≥ 0.
        trained: whether the squares of the head's own gradient are wanted; they are zero otherwise.
        rows: per sample which rows of its weight gradient are wanted, for what shares the matrix; needs `trained`.
    """
    counts = torch.tensor(lengths, device=hidden.device)
    share = (1 / counts.clamp(min=1)).repeat_interleave(counts)
    squares = HeadSquares(lengths, head.weight, rows, biased=head.bias is not None)
    by_hidden = torch.zeros_like(hidden, dtype=torch.float32)
    per_token = hidden.new_zeros(len(hidden), dtype=torch.float32)
    groups = _whole_samples if trained else _any_positions
    for part, members in groups(lengths, max(1, _MOST // len(head.weight))):
        per_token[part], chunks = _pass(head, hidden[part], targets[part], share[part])
        with squares.of(members, hidden[part]) as add:
            for chunk, gradients in chunks:
                by_hidden[part] += head.back(gradients, chunk)
                add(gradients, chunk)
    owner = torch.arange(len(lengths), device=hidden.device).repeat_interleave(counts)
    losses = hidden.new_zeros(len(lengths), dtype=torch.float32).index_add_(0, owner, per_token * share)
    return HeadGradients(losses, by_hidden, squares)


def _any_positions(lengths: list[int], most: int) -> Iterator[tuple[slice, range]]:
    total = sum(lengths)
    yield from ((slice(at, min(at + most, total)), range(0)) for at in range(0, total, most))


def _whole_samples(lengths: list[int], most: int) -> Iterator[tuple[slice, range]]:
    """Runs of samples with at most so many positions together; a longer sample stands alone."""
    begin, first, end = 0, 0, 0
    for sample, length in enumerate([*lengths, most + 1]):
        if end + length - begin > most and end > begin:
            yield slice(begin, end), range(first, sample)
            begin, first = end, sample
        end += length


class _Exponentials(NamedTuple):
    """A chunk of the logits z on the way to their softmax."""

    values: Float[Tensor, "position chunk"]
    """exp(z − peak)."""
    peak: Float[Tensor, " position"]
    chosen: Float[Tensor, " position"]
    """The targets' logits; 0 for a target outside the chunk."""
    slope: Float[Tensor, "position chunk"] | None


def _pass(
    head: Head, hidden: Tensor, targets: Tensor, share: Tensor
) -> tuple[Float[Tensor, " position"], Iterator[tuple[slice, Float[Tensor, "position chunk"]]]]:
    """Each target's negative log-likelihood, and chunk by chunk the losses' gradient by Wh + b."""
    width = max(1, _MOST // max(1, len(hidden)))
    begins = range(0, len(head.weight), width)
    exponentials = partial(_exponentials, head, hidden, targets, width)
    # What is held whole need not be computed twice.
    exponentials = cache(exponentials) if len(begins) == 1 else exponentials
    sums, chosen = zip(*((e.peak + e.values.sum(1).log(), e.chosen) for e in map(exponentials, begins)), strict=True)
    normalizer = torch.stack(sums).logsumexp(0)

    def gradients() -> Iterator[tuple[slice, Tensor]]:
        for begin in begins:
            values, peak, _, slope = exponentials(begin)
            chunk = slice(begin, begin + values.shape[1])
            values.mul_(((peak - normalizer).exp() * share * head.scale)[:, None])
            here = inside(targets, chunk)
            values[here, targets[here] - begin] -= share[here] * head.scale
            yield chunk, values if slope is None else values.mul_(slope)

    return normalizer - torch.stack(chosen).sum(0), gradients()


def _exponentials(head: Head, hidden: Tensor, targets: Tensor, width: int, begin: int) -> _Exponentials:
    chunk = slice(begin, min(begin + width, len(head.weight)))
    logits = head.logits(hidden, chunk)
    slope = head.slope(logits)
    here = inside(targets, chunk)
    chosen = torch.zeros_like(targets, dtype=torch.float32)
    chosen[here] = logits[here, targets[here] - begin]
    peak = logits.amax(1)
    # In place: a fresh buffer of this size costs more than the arithmetic.
    return _Exponentials(logits.sub_(peak[:, None]).exp_(), peak, chosen, slope)
