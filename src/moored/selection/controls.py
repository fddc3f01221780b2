"""The plainest controls of the published rule: the highest norms, the lowest norms, and a random share.

Source: groups and a baseline of arXiv 2604.17215. `high` is its "High-G" group (table 2), which is said to pull hardest
towards the pretrained model; `low` its "Low" group (table 1), there the safest choice and the worst for the task;
`random` shows what training on fewer samples does by itself. That the loss band does not come first is our choice: the
paper's groups are shares of the whole data.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int64
from torch import Tensor

from moored.selection._rule import DrawingRule, Rule, Scores


@dataclass(frozen=True, kw_only=True)
class High(Rule):
    """Keeps the samples of highest gradient norm, whatever their loss; ties go to the lower row."""

    def choose(self, scores: Scores, count: int, step: int) -> Int64[Tensor, " kept"]:
        """Keeps the samples of highest norm."""
        return scores.norms.argsort(stable=True, descending=True)[:count]


@dataclass(frozen=True, kw_only=True)
class Low(Rule):
    """Keeps the samples of lowest gradient norm, whatever their loss; ties go to the lower row."""

    def choose(self, scores: Scores, count: int, step: int) -> Int64[Tensor, " kept"]:
        """Keeps the samples of lowest norm."""
        return scores.norms.argsort(stable=True)[:count]


@dataclass(frozen=True, kw_only=True)
class Random(DrawingRule):
    """Keeps samples drawn without replacement, each as likely as any other; loss and norm play no part."""

    scored: ClassVar[bool] = False

    def choose(self, scores: Scores, count: int, step: int) -> Int64[Tensor, " kept"]:
        """Draws uniformly."""
        return torch.randperm(len(scores.losses), generator=self.generator(step))[:count]
