"""Cross-entropy through the output head with its gradients, without ever holding all logits.

The head is z = cap(s(Wh + b)), with cap(u) = c·tanh(u/c) (Gemma 2, arXiv 2408.00118) or none. Softmax and gradient are
computed by hand, because the gradient of a sample's loss by W needs the same numbers: it is Σₜ pₜhₜᵀ, where pₜ is the
gradient by Wh + b. Positions go through in groups of whole samples, a group that is still too large in chunks of the
vocabulary (then the logits are computed twice).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

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
        return raw if self.cap is None else raw.div_(self.cap).tanh_().mul_(self.cap)

    def slope(self, logits: Float[Tensor, "position chunk"]) -> Float[Tensor, "position chunk"] | float:
        """The derivative of the logits by Wh + b."""
        return self.scale if self.cap is None else self.scale * (1 - (logits / self.cap).square())

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
    weight_squares: Float[Tensor, " sample"]
    bias_squares: Float[Tensor, " sample"]
    rows: list[Float[Tensor, "_ dim"]]
    """Per sample the rows of its weight gradient that were asked for."""


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
    share = (1 / counts.clamp(min=1)).repeat_interleave(counts)[:, None]
    made = HeadGradients(
        losses=hidden.new_zeros(len(lengths), dtype=torch.float32),
        hidden=torch.zeros_like(hidden, dtype=torch.float32),
        weight_squares=hidden.new_zeros(len(lengths), dtype=torch.float32),
        bias_squares=hidden.new_zeros(len(lengths), dtype=torch.float32),
        rows=[hidden.new_zeros(len(each), hidden.shape[1], dtype=torch.float32) for each in rows or []],
    )
    per_token = hidden.new_zeros(len(hidden), dtype=torch.float32)
    group_of = _whole_samples if trained else _any_positions
    for part, members in group_of(lengths, max(1, _MOST // len(head.weight))):
        sums = _SampleSums(members, lengths, hidden[part], rows, made, head.weight) if trained else None
        per_token[part] = _pass(head, hidden[part], targets[part], share[part], made.hidden[part], sums)
        if sums is not None:
            sums.finish()
    owner = torch.arange(len(lengths), device=hidden.device).repeat_interleave(counts)
    made.losses.index_add_(0, owner, per_token * share[:, 0])
    return made


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


def _pass(
    head: Head, hidden: Tensor, targets: Tensor, share: Tensor, into: Tensor, sums: "_SampleSums | None"
) -> Float[Tensor, " position"]:
    """Writes the gradient by the hidden states into `into`; returns each target's negative log-likelihood."""
    width = max(1, _MOST // max(1, len(hidden)))
    chunks = [slice(at, min(at + width, len(head.weight))) for at in range(0, len(head.weight), width)]
    logits_of = _once(head, hidden) if len(chunks) == 1 else (lambda chunk: head.logits(hidden, chunk))
    normalizer, chosen = _normalizer(logits_of, chunks, targets)
    for chunk in chunks:
        logits = logits_of(chunk)
        slope = head.slope(logits)
        gradients = logits.sub_(normalizer[:, None]).exp_()
        inside = _inside(targets, chunk)
        gradients[inside, targets[inside] - chunk.start] -= 1
        gradients.mul_(share).mul_(slope)
        into += head.back(gradients, chunk)
        if sums is not None:
            sums.add(gradients, chunk)
    return normalizer - chosen


def _once(head: Head, hidden: Tensor) -> Callable[[slice], Tensor]:
    """Logits that are computed once and read twice."""
    held: list[Tensor] = []

    def logits(chunk: slice) -> Tensor:
        if not held:
            held.append(head.logits(hidden, chunk))
        return held[0]

    return logits


def _normalizer(
    logits_of: Callable[[slice], Tensor], chunks: list[slice], targets: Tensor
) -> tuple[Float[Tensor, " position"], Float[Tensor, " position"]]:
    """The logarithm of the softmax's denominator, and the logit of each target."""
    normalizer = torch.full(targets.shape, -torch.inf, device=targets.device)
    chosen = torch.zeros(targets.shape, device=targets.device)
    for chunk in chunks:
        logits = logits_of(chunk)
        normalizer = torch.logaddexp(normalizer, logits.logsumexp(1))
        inside = _inside(targets, chunk)
        chosen[inside] = logits[inside, targets[inside] - chunk.start]
    return normalizer, chosen


def _inside(ids: Int[Tensor, " place"], chunk: slice) -> Int[Tensor, " inside"]:
    """The places whose id lies in the chunk."""
    return ((ids >= chunk.start) & (ids < chunk.stop)).nonzero()[:, 0]


class _SampleSums:
    """The squares of the head's gradient for a run of samples, collected chunk by chunk of the vocabulary."""

    def __init__(
        self,
        members: range,
        lengths: list[int],
        hidden: Tensor,
        rows: list[Tensor] | None,
        made: HeadGradients,
        weight: Tensor,
    ) -> None:
        self.made, self.rows = made, rows
        states = hidden.float().split([lengths[sample] for sample in members])
        self.states = {sample: h for sample, h in zip(members, states, strict=True) if len(h)}
        vocabulary, dim = weight.shape
        self.grams = {
            sample: h.new_zeros(len(h), len(h))
            for sample, h in self.states.items()
            if len(h) * (vocabulary + dim) < vocabulary * dim
        }

    def add(self, gradients: Float[Tensor, "position chunk"], chunk: slice) -> None:
        """One chunk: the ghost form collects the Gram matrix of p, the direct form squares the chunk's rows."""
        parts = gradients.split([len(h) for h in self.states.values()])
        for (sample, h), p in zip(self.states.items(), parts, strict=True):
            if sample in self.grams:
                self.grams[sample].addmm_(p, p.mT)
            else:
                self.made.weight_squares[sample] += torch.linalg.vector_norm(p.mT @ h).square()
            self.made.bias_squares[sample] += p.sum(0).square().sum()
            if self.rows is not None:
                here = _inside(self.rows[sample], chunk)
                self.made.rows[sample][here] = p[:, self.rows[sample][here] - chunk.start].mT @ h

    def finish(self) -> None:
        """The other Gram matrix of the ghost form."""
        for sample, gram in self.grams.items():
            h = self.states[sample]
            self.made.weight_squares[sample] = (gram * (h @ h.mT)).sum().clamp(min=0)
