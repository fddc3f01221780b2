"""Which sample each position of a batch belongs to.

A batch is flattened to positions. In a padded batch a sample is a row; in a packed one it is a document, and several
stand in a row. The formulas see neither: they get blocks in which every row is one sample.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor


@dataclass(frozen=True)
class Block:
    """Samples of similar length, arranged one a row."""

    samples: Int[Tensor, " row"]
    index: Int[Tensor, "row width"] | None
    """The flat position of each place, or None where the positions stand in that order already."""
    filled: Bool[Tensor, "row width"] | None

    def arrange(self, flat: Shaped[Tensor, "position ..."]) -> Shaped[Tensor, "row width ..."]:
        """The block's part of a value per position; places that no position fills are zero."""
        if self.index is None or self.filled is None:
            return flat.unflatten(0, (len(self.samples), -1))
        arranged = flat[self.index]
        empty = ~self.filled
        return arranged.masked_fill_(empty.view(*empty.shape, *[1] * (flat.ndim - 1)), 0)


@dataclass(frozen=True)
class Samples:
    """The samples of a batch of `len(of)` positions."""

    count: int
    of: Int[Tensor, " position"]
    """The sample of each position, from 0; `count` where it belongs to none."""
    blocks: tuple[Block, ...]

    def total(self, flat: Shaped[Tensor, "position ..."]) -> Shaped[Tensor, "sample ..."]:
        """The sum over each sample's positions, in fp32."""
        sums = flat.new_zeros(self.count + 1, *flat.shape[1:], dtype=torch.float32)
        return sums.index_add_(0, self.of, flat.float())[: self.count]

    def positions(self) -> list[Int[Tensor, " own"]]:
        """The flat positions of each sample."""
        lengths = torch.bincount(self.of, minlength=self.count + 1)
        return list(self.of.argsort(stable=True).split(lengths.tolist()))[: self.count]


def one_a_row(rows: int, width: int, device: torch.device | str = "cpu") -> Samples:
    """The samples of a padded batch: row i is sample i. Padding needs no mask, its gradient is zero anyway."""
    samples = torch.arange(rows, device=device)
    return Samples(rows, samples.repeat_interleave(width), (Block(samples, None, None),))


def from_ids(of: Int[Tensor, " position"], count: int) -> Samples:
    """The samples of positions that carry their sample's number, in any order; `count` stands for none.

    Samples are put into blocks by length, each at most twice as wide as its shortest, so that little is filled up.
    """
    order = of.argsort(stable=True)
    lengths = torch.bincount(of, minlength=count + 1)[:count]
    starts = lengths.cumsum(0) - lengths
    return Samples(count, of, tuple(_blocks(order, starts, lengths)))


def _blocks(order: Tensor, starts: Tensor, lengths: Tensor) -> Iterator[Block]:
    sizes = lengths.tolist()
    by_width: dict[int, list[int]] = {}
    for sample, length in enumerate(sizes):
        if length:
            by_width.setdefault((length - 1).bit_length(), []).append(sample)
    for members in by_width.values():
        samples = torch.tensor(members, device=order.device)
        places = torch.arange(max(sizes[member] for member in members), device=order.device)
        filled = places < lengths[samples, None]
        yield Block(samples, order[torch.where(filled, starts[samples, None] + places, 0)], filled)
