"""Comparing what two rules keep."""

from jaxtyping import Int
from torch import Tensor


def overlap(kept: Int[Tensor, " kept"], other: Int[Tensor, " other"]) -> float:
    """The share of `kept` that `other` keeps too, in [0, 1].

    By chance it is the other's share of all samples. Both hold indices without repeats; `kept` at least one.
    """
    return len({*kept.tolist()} & {*other.tolist()}) / len(kept)
