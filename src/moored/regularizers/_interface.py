"""The contracts of the two kinds of penalty. The kind carries the scaling rule, so that no method can get it wrong."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class TokenPenalty(Protocol):
    """Judges what the model says; the glue averages over the guarded positions of the whole optimizer step."""

    strength: float

    def token_penalty(
        self, salient_logits: Float[Tensor, "position token"], reference_logits: Float[Tensor, "position token"]
    ) -> Float[Tensor, "position token"]:
        """One value per guarded position and salient token, not reduced."""
        ...


@runtime_checkable
class WeightPenalty(Protocol):
    """Judges where one guarded weight went; the glue sums over the weights, once per optimizer step."""

    strength: float

    def weight_penalty(
        self, update: Float[Tensor, "out in"], direction: Float[Tensor, "out in"] | None
    ) -> Float[Tensor, ""]:
        """The penalty of one weight, differentiable in `update` (the weight minus the anchor's).

        `direction` is the aligned weight minus the base model's for those that need the base, else None.
        """
        ...
