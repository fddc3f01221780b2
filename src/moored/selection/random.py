"""A random share: what training on fewer samples does by itself (a baseline of arXiv 2604.17215)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int64
from torch import Tensor

from moored.selection._rule import DrawingRule, Scores


@dataclass(frozen=True, kw_only=True)
class Random(DrawingRule):
    """Keeps samples drawn without replacement, each as likely as any other; loss and norm play no part."""

    scored: ClassVar[bool] = False

    def choose(self, scores: Scores, count: int, step: int) -> Int64[Tensor, " kept"]:
        """A uniform draw."""
        return torch.randperm(len(scores.losses), generator=self.generator(step))[:count]
