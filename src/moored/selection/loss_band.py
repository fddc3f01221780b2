"""The loss band alone, then a random share of it: what the norms add to steps 1 and 2 of Algorithm 1 (2604.17215).

A control of our own.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from moored.selection._rule import DrawingRule, Scores

# Equal losses, and two equally large groups of them, lie on the edge of their own band, and rounding must not push them
# over it.
_EDGE = 1 + 1e-9


@dataclass(frozen=True, kw_only=True)
class LossBand(DrawingRule):
    """Keeps samples drawn without replacement among those of ordinary loss; the norm plays no part."""

    def choose(self, scores: Scores, count: int, step: int) -> Int64[Tensor, " kept"]:
        """A uniform draw within the band."""
        band = loss_band(scores.losses, count)
        return band[torch.randperm(len(band), generator=self.generator(step))[:count]]


def loss_band(losses: Float64[Tensor, " sample"], count: int) -> Int64[Tensor, " candidate"]:
    """The samples whose loss lies within one standard deviation of the mean, ascending; at least `count` of them.

    Both ends belong to the band. The deviation is the batch's own, divided by its size (our choice: the paper names no
    divisor), and is defined for a single sample. Where too few lie inside, those nearest the mean follow (our choice).
    """
    distances = (losses - losses.mean()).abs()
    inside = int((distances <= distances.square().mean().sqrt() * _EDGE).sum())
    return distances.argsort(stable=True)[: max(count, inside)].sort().values
