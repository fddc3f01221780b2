"""The published rule: a loss near the mean, then a gradient norm near the median.

Source: "Continual Safety Alignment via Gradient-Based Sample Selection" (arXiv 2604.17215), Algorithm 1: a band of one
standard deviation around the mean loss, the median norm *within* it, and those of the band that lie nearest to it,
⌊ρ·|B|⌋ of them, |B| being the *whole* batch, ρ = 0.2. Our choices: at least one sample; the deviation of the batch
itself; the mean of the two middle norms as the median of an even number; ties to the lower row; where the band holds
too few, those outside whose loss is nearest the mean.
"""

from dataclasses import dataclass

from jaxtyping import Float64, Int64
from torch import Tensor

from moored.selection._rule import Rule, Scores
from moored.selection.loss_band import loss_band


@dataclass(frozen=True, kw_only=True)
class Moderate(Rule):
    """Keeps the samples of moderate gradient norm among those of ordinary loss."""

    def choose(self, scores: Scores, count: int, step: int) -> Int64[Tensor, " kept"]:
        """Keeps the samples of the loss band that are nearest its median norm."""
        return moderate(scores.losses, scores.norms, count)


def moderate(
    losses: Float64[Tensor, " sample"], norms: Float64[Tensor, " sample"], count: int
) -> Int64[Tensor, " kept"]:
    """Algorithm 1: the `count` samples of the loss band whose norms lie nearest the band's median."""
    band = loss_band(losses, count)
    # Of fp32's precision, the two middle norms are exactly equally far from their mean: a tie, not a matter of noise.
    within = norms[band].float().double()
    distances = (within - _median(within)).abs()
    return band[distances.argsort(stable=True)[:count]]


def _median(values: Float64[Tensor, " sample"]) -> Float64[Tensor, ""]:
    """The middle value, or the mean of the two: `torch.median` would take the lower."""
    ordered = values.sort().values
    return (ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) / 2
