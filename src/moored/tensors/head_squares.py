"""The squared norms of each sample's gradient by the output head, collected chunk by chunk of the vocabulary."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor


class HeadSquares:
    """Adds up what the chunks bring; all in fp32, and zero where nothing came.

    Args:
        lengths: how many positions belong to each sample, ≥ 0.
        weight: the head's matrix [vocab, dim].
        wanted: per sample the rows of its weight gradient to keep, or None for no rows.
        biased: whether the head has a bias.
    """

    weight: Float[Tensor, " sample"]
    bias: Float[Tensor, " sample"]
    rows: list[Float[Tensor, "_ dim"]]
    """Per sample the rows of its weight gradient that were asked for."""

    def __init__(self, lengths: list[int], weight: Tensor, wanted: list[Int[Tensor, " _"]] | None, *, biased: bool):
        self._lengths, self._wanted, self._biased = lengths, wanted, biased
        self._vocabulary, self._dim = weight.shape
        self.weight = torch.zeros(len(lengths), device=weight.device)
        self.bias = torch.zeros_like(self.weight)
        self.rows = [torch.zeros(len(each), self._dim, device=weight.device) for each in wanted or []]

    @contextmanager
    def of(
        self, members: range, hidden: Float[Tensor, "position dim"]
    ) -> Iterator[Callable[[Float[Tensor, "position chunk"], slice], None]]:
        """Takes the chunks of some samples, whose hidden states are given: pₜ, the gradient by Wh + b.

        In the ghost form a chunk adds to the Gram matrix of p, in the direct form the squares of its own rows.
        """
        parts = hidden.float().split([self._lengths[sample] for sample in members]) if members else []
        states = {sample: h for sample, h in zip(members, parts, strict=True) if len(h)}
        grams = {sample: h.new_zeros(len(h), len(h)) for sample, h in states.items() if self._ghost(len(h))}

        def add(gradients: Tensor, chunk: slice) -> None:
            own = gradients.split([len(h) for h in states.values()]) if states else []
            for (sample, h), p in zip(states.items(), own, strict=True):
                if sample in grams:
                    grams[sample].addmm_(p, p.mT)
                else:
                    self.weight[sample] += torch.linalg.vector_norm(p.mT @ h).square()
                self._add_rest(sample, h, p, chunk)

        yield add
        for sample, gram in grams.items():
            h = states[sample]
            self.weight[sample] = (gram * (h @ h.mT)).sum().clamp(min=0)

    def _ghost(self, length: int) -> bool:
        """Whether that form takes fewer operations."""
        return length * (self._vocabulary + self._dim) < self._vocabulary * self._dim

    def _add_rest(self, sample: int, h: Tensor, p: Tensor, chunk: slice) -> None:
        if self._biased:
            self.bias[sample] += p.sum(0).square().sum()
        if self._wanted is not None:
            here = inside(self._wanted[sample], chunk)
            self.rows[sample][here] = p[:, self._wanted[sample][here] - chunk.start].mT @ h


def inside(ids: Int[Tensor, " place"], chunk: slice) -> Int[Tensor, " inside"]:
    """The places whose id lies in a chunk of the vocabulary."""
    return ((ids >= chunk.start) & (ids < chunk.stop)).nonzero()[:, 0]
