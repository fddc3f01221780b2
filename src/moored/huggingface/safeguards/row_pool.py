"""The rows of one optimizer step from which a selection chooses, and running totals of what it chose."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from moored.huggingface.data import IGNORED
from moored.huggingface.gradients import Scores
from moored.huggingface.safeguards.rows import Row


class Candidate(NamedTuple):
    """One row of the pool. Sorted by these fields, the rows of all processes are in the order of the dataset."""

    batch: int
    process: int
    row: int
    loss: float
    norm: float
    length: int
    """The number of tokens to learn from."""


def candidates(batch: int, process: int, rows: Sequence[Row], scores: Scores | None) -> list[Candidate]:
    """The rows of a micro-batch as candidates; without scores, their loss and norm are NaN.

    A row of a single token has nothing to predict and is none: packed batches are filled up with such rows.
    """
    unknown = [float("nan")] * len(rows)
    losses = unknown if scores is None else scores.losses.tolist()
    norms = unknown if scores is None else scores.norms.tolist()
    return [
        Candidate(batch, process, number, loss, norm, int((row["labels"][1:] != IGNORED).sum()))
        for number, (row, loss, norm) in enumerate(zip(rows, losses, norms, strict=True))
        if len(row["labels"]) > 1
    ]


def columns(pool: Sequence[Candidate]) -> tuple[Tensor, Tensor, Tensor]:
    """The losses, norms and lengths of a pool, as a selection rule takes them."""
    losses, norms = torch.tensor([[row.loss, row.norm] for row in pool], dtype=torch.float64).unbind(1)
    return losses, norms, torch.tensor([row.length for row in pool])


@dataclass
class Tally:
    """The number of some rows, and sums over them."""

    rows: int = 0
    supervised: int = 0
    """The rows with something to learn. The others have no norm; counted as zeros they would lower the mean."""
    length: int = 0
    norm: float = 0.0

    def add(self, rows: Sequence[Candidate]) -> None:
        """Counts some more rows."""
        self.rows += len(rows)
        self.supervised += sum(row.length > 0 for row in rows)
        self.length += sum(row.length for row in rows)
        self.norm += sum(row.norm for row in rows)

    def mean(self, name: Literal["length", "norm"]) -> float:
        """The mean over the supervised rows."""
        return getattr(self, name) / self.supervised if self.supervised else 0.0


@dataclass
class PoolTally:
    """The rows that there were to choose from, and those that were kept."""

    pool: Tally = field(default_factory=Tally)
    kept: Tally = field(default_factory=Tally)

    def add(self, pool: Sequence[Candidate], kept: Sequence[Candidate]) -> None:
        """Counts the rows of one more step."""
        self.pool.add(pool)
        self.kept.add(kept)
