"""Random samples whose answers are as long as those that the published rule keeps.

It tests the suspicion that moderate norms are merely moderate lengths (arXiv 2604.17215, table 10). If only the length
mattered, samples of one length could be exchanged for one another; so the control does just that. The samples are put
in order of length and cut into strata of at most five, but equal lengths are never parted; from each stratum it draws
as many as the published rule keeps there, each sample of the stratum as likely as any other.

Why not the nearest length, without replacement: the nearest to a kept sample is that sample itself, and with those
left out the control would be drawn from the samples that the rule rejects, so from its extremes, not at random.
Why five: at the default keep of 0.2 a stratum holds one kept sample on average, and chance repeats it once in five.
Where the published rule keeps whole strata, no other sample of that length is left and the two agree: their overlap
says how much the comparison can show. A control of our own.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from moored.selection._rule import DrawingRule, Scores
from moored.selection.moderate import moderate

_STRATUM = 5


@dataclass(frozen=True, kw_only=True)
class LengthMatchedRandom(DrawingRule):
    """Keeps random samples, as many of each stratum of length as `Moderate` keeps."""

    def choose(self, scores: Scores, count: int, step: int) -> Int64[Tensor, " kept"]:
        """A uniform draw within each stratum."""
        stratum = _strata(scores.lengths)
        wanted = stratum[moderate(scores.losses, scores.norms, count)].bincount(minlength=len(stratum))
        shuffled = torch.randperm(len(stratum), generator=self.generator(step))
        by_stratum = shuffled[stratum[shuffled].argsort(stable=True)]
        ordered = stratum[by_stratum]
        place_in_stratum = torch.arange(len(ordered)) - torch.searchsorted(ordered, ordered)
        return by_stratum[place_in_stratum < wanted[ordered]]


def _strata(lengths: Float64[Tensor, " sample"]) -> Int64[Tensor, " sample"]:
    """The stratum of each sample, from the shortest up; equal lengths all stand where the first does."""
    place = torch.searchsorted(lengths.sort().values, lengths)
    return place * -(-len(lengths) // _STRATUM) // len(lengths)
