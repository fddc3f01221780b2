"""The lowest gradient norms, whatever the loss.

Source: the "Low" group of arXiv 2604.17215 (its table 1), there the safest choice and the worst for the task. That the
loss band does not come first is our choice: the paper's groups are shares of the whole data.
"""

from dataclasses import dataclass

from jaxtyping import Int64
from torch import Tensor

from moored.selection._rule import Rule, Scores


@dataclass(frozen=True, kw_only=True)
class Low(Rule):
    """Keeps the samples of lowest gradient norm; ties go to the lower row."""

    def choose(self, scores: Scores, count: int, step: int) -> Int64[Tensor, " kept"]:
        """Keeps the samples of lowest norm."""
        return scores.norms.argsort(stable=True)[:count]
