"""What the rules share: the ratio to keep, the checks on a batch, and the draws of those that draw."""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from moored.errors import InactiveError, InputError


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What was measured of the samples that can be kept; float64 on the CPU, so that all devices choose alike."""

    losses: Float64[Tensor, " sample"]
    norms: Float64[Tensor, " sample"]
    lengths: Float64[Tensor, " sample"]


@dataclass(frozen=True, kw_only=True)
class Rule(ABC):
    """Keeps the same share of every batch; a subclass says which samples.

    max(1, ⌊keep · samples⌋) are kept, of all samples in the batch: those without a supervised token count, but are
    never kept. They have no loss and take no part in any mean or median, so where too few others are left, fewer are
    kept. A loss or norm that is no number is not skipped in silence: a broken sample or a diverged model would hide
    behind the selection. A caller who wants to go on without such a sample gives it length 0.

    Raises:
        InputError: `keep` outside (0, 1]; or, when called, a sample whose loss or norm is not finite or whose norm is
            negative.
        InactiveError: no sample of the batch has a supervised token.
    """

    scored: ClassVar[bool] = True
    """Whether it looks at losses or norms."""

    keep: float = 0.2
    """Share of the samples to keep, in (0, 1]; 0.2 is the paper's. At 1 all are kept, unseen and without a draw."""

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise InputError(f"A selection's keep must be above 0 and at most 1, got {self.keep}.")

    def __call__(self, losses: Tensor, norms: Tensor, lengths: Tensor, *, step: int = 0) -> Tensor:
        """The indices of the samples to keep, ascending; arguments as in `SelectionRule`."""
        if self.keep == 1:
            return torch.arange(len(losses), device=losses.device)
        rows = (lengths > 0).cpu().nonzero().flatten()
        if not len(rows):
            raise InactiveError(
                f"None of the {len(losses)} samples has a supervised token, so none can be selected; "
                "check the answers and the maximum length."
            )
        loss, norm, length = (each.cpu()[rows].double() for each in (losses, norms, lengths))
        if self.scored:
            _check(rows, loss, norm)
        count = min(self.count(len(losses)), len(rows))
        chosen = self.choose(Scores(losses=loss, norms=norm, lengths=length), count, step)
        return rows[chosen].sort().values.to(losses.device)

    @abstractmethod
    def choose(self, scores: Scores, count: int, step: int) -> Int64[Tensor, " kept"]:
        """`count` different indices into the scores, in any order; 1 ≤ count ≤ samples."""

    def count(self, samples: int) -> int:
        """How many are kept of so many samples, where enough of them have a supervised token."""
        # As a fraction of the digits written: 0.29 · 100 is 28.999… in floating point.
        return max(1, int(Fraction(str(self.keep)) * samples))


@dataclass(frozen=True, kw_only=True)
class DrawingRule(Rule):
    """A rule that draws at random, anew at every step, and never from the global random state."""

    seed: int = 0
    """The seed of the draws; any whole number."""

    def generator(self, step: int) -> torch.Generator:
        """The generator of one step. Hashed, since seed + step would let seed 1 repeat seed 0 a step later."""
        digest = hashlib.sha256(f"{self.seed},{step}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:4]))


def _check(
    rows: Int64[Tensor, " sample"], losses: Float64[Tensor, " sample"], norms: Float64[Tensor, " sample"]
) -> None:
    broken = ~(losses.isfinite() & norms.isfinite() & (norms >= 0))
    if broken.any():
        at = int(broken.nonzero()[0])
        raise InputError(
            f"Sample {int(rows[at])} of the batch has a loss of {losses[at]:.4g} and a gradient norm of "
            f"{norms[at]:.4g}, by which nothing can be selected; check that sample and the learning rate."
        )
