"""Comparing what two rules keep."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jaxtyping import Float, Int
from scipy import stats
from torch import Tensor

from moored.selection._registry import RULES
from moored.selection.gradient_selection import GradientSelection


def overlap(kept: Int[Tensor, " kept"], other: Int[Tensor, " other"]) -> float:
    """The share of `kept` that `other` keeps too, in [0, 1].

    By chance it is the other's share of all samples. Both hold indices without repeats; `kept` at least one.
    """
    return len({*kept.tolist()} & {*other.tolist()}) / len(kept)


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """How much of what was kept another rule keeps too, beside what chance would give."""

    kept: int
    """Samples that the other rule keeps."""
    share: float
    """The share of our samples that it keeps too, in [0, 1]."""
    chance: float
    """That share if ours were a random choice among all that can be kept."""
    chance_low: float
    chance_high: float
    """Between these lie 95 % of random choices (hypergeometric)."""

    def as_dict(self) -> dict[str, Any]:
        """The overlap as it stands in `report.json`."""
        return asdict(self)


def overlaps(
    kept: Int[Tensor, " kept"],
    chosen: GradientSelection,
    losses: Float[Tensor, " sample"],
    norms: Float[Tensor, " sample"],
    lengths: Int[Tensor, " sample"],
) -> Mapping[str, Overlap]:
    """For every other rule what it keeps of `kept`, at the same share and seed.

    Args:
        kept: the indices that `chosen` keeps, at least one.
        chosen: the rule with its settings.
        losses: of all samples, as in `SelectionRule`.
        norms: likewise.
        lengths: likewise; samples of length 0 cannot be kept.
    """
    able = int((lengths > 0).sum())
    found = {}
    for name in RULES:
        if name != chosen.rule:
            rule = GradientSelection(rule=name, keep=chosen.keep, seed=chosen.seed).make_rule()
            other = rule(losses, norms, lengths)
            other = other[lengths[other] > 0]
            found[name] = _beside_chance(kept, other, able)
    return found


def _beside_chance(kept: Int[Tensor, " kept"], other: Int[Tensor, " other"], able: int) -> Overlap:
    drawn = stats.hypergeom(able, len(other), len(kept))
    low, high = (float(drawn.ppf(at)) / len(kept) for at in (0.025, 0.975))
    share, chance = overlap(kept, other), len(other) / able
    return Overlap(kept=len(other), share=share, chance=chance, chance_low=low, chance_high=high)
