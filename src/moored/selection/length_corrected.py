"""The published rule on norms from which the length of the answer has been taken out.

A sample's loss is the mean over its n answer tokens, so its gradient is g = (1/n)·Σ g_t. Where the tokens' gradients
point in unrelated directions, their squares add up: ‖g‖² = (1/n²)·n·E‖g_t‖², so ‖g‖ falls as 1/√n, and short answers
have large norms whatever they say. The correction divides by that trend, which is to *multiply* by √n. (Dividing by √n
would double the trend.) The paper's own audit (arXiv 2604.17215, table 10) shows it: from 201.7 to 11.5 answer tokens
the mean norm rises from 1.35 to 16.77, by a factor of 12.4; times √n from 19.2 to 56.9, by 3.0; divided by √n by 52.
What is left there may be the loss, which rises too. The rule is a control of our own.
"""

from dataclasses import dataclass

from jaxtyping import Int64
from torch import Tensor

from moored.selection._rule import Rule, Scores
from moored.selection.moderate import moderate


@dataclass(frozen=True, kw_only=True)
class LengthCorrected(Rule):
    """Keeps the samples of moderate norm · √length among those of ordinary loss."""

    def choose(self, scores: Scores, count: int, step: int) -> Int64[Tensor, " kept"]:
        """Keeps the samples of the loss band that are nearest its median corrected norm."""
        return moderate(scores.losses, scores.norms * scores.lengths.sqrt(), count)
