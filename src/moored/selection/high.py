"""The highest gradient norms, whatever the loss.

Source: the "High-G" group of arXiv 2604.17215 (its table 2), which is said to pull hardest towards the pretrained
model. That the loss band does not come first is our choice: the paper's groups are shares of the whole data.
"""

from dataclasses import dataclass

from jaxtyping import Int64
from torch import Tensor

from moored.selection._rule import Rule, Scores


@dataclass(frozen=True, kw_only=True)
class High(Rule):
    """Keeps the samples of highest gradient norm; ties go to the lower row."""

    def choose(self, scores: Scores, count: int, step: int) -> Int64[Tensor, " kept"]:
        """Keeps the samples of highest norm."""
        return scores.norms.argsort(stable=True, descending=True)[:count]
