"""Safe LoRA: updates that point away from the direction of alignment are projected onto it.

Source: "Safe LoRA: the Silver Lining of Reducing Safety Risks when Fine-tuning Large Language Models" (Hsu et al.,
arXiv 2405.16833): V = W_aligned − W_base; Ĉ = V Vᵀ/‖V‖ replaces the exact projector V (VᵀV)⁻¹ Vᵀ; ΔW becomes Ĉ ΔW
if the cosine between the two is below a threshold τ. Our choices: the default of τ; a weight that alignment did not
change has no direction and keeps its update; `projector` is the exact form, for a V of low rank.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from moored.errors import InputError
from moored.recovery._interface import Kind, RepairedUpdate
from moored.tensors.column_space import Along, orthonormal, principal_factor, published_factor
from moored.tensors.low_rank import LowRank, Matrix, inner, left_times, squared_norm


@dataclass(frozen=True, kw_only=True)
class SafeLora:
    """Projects each update whose cosine with its own projection is too small.

    Raises:
        InputError: The threshold is outside [0, 1], or a rank is below 1 or given without `projector`.
    """

    name: ClassVar[str] = "safe_lora"
    kind: ClassVar[Kind] = "formula"
    needs_aligned: ClassVar[bool] = True
    needs_base: ClassVar[bool] = True

    threshold: float = 0.35
    """τ, from 0, which changes nothing, to 1, which projects every update that is not along the direction."""
    form: Literal["published", "projector"] = "published"
    """The form of Ĉ: `published`, as in the authors' code, which also changes lengths, or `projector`, which is U Uᵀ of
    V's main left singular vectors."""
    rank: int | None = None
    """The number of singular vectors of the projector, ≥ 1; None takes all, if V is a product of thin factors."""

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise InputError(f"SafeLora(threshold=...) must be between 0 and 1, got {self.threshold}.")
        if self.rank is not None and (self.rank < 1 or self.form != "projector"):
            raise InputError(f"SafeLora(rank={self.rank}) must be at least 1 and requires form='projector'.")

    @property
    def off(self) -> bool:
        """Whether it is set to change nothing."""
        return self.threshold == 0

    def repair_update(self, update: Matrix, difference: Matrix | None) -> RepairedUpdate:
        """Returns Ĉ ΔW for one weight if its cosine with ΔW is below τ, and ΔW otherwise.

        Args:
            update: ΔW = W_tuned − W_aligned, in fp32.
            difference: V = W_aligned − W_base, in fp32.

        Returns:
            The new update with the cosine, which is None if V or ΔW is zero.

        Raises:
            InputError: The projector of a V of full rank has no `rank`, and would be the identity.
        """
        assert difference is not None
        factor = self._factor(difference)
        along = left_times(lambda columns: factor @ Along(factor)(columns), update)
        lengths = (squared_norm(update) * squared_norm(along)).sqrt()
        if not lengths:
            return RepairedUpdate(update)
        cosine = float(inner(along, update) / lengths)
        below = cosine < self.threshold
        return RepairedUpdate(along if below else update, changed=below, cosine=cosine)

    def _factor(self, difference: Matrix) -> Float[Tensor, "out m"]:
        """Computes F with F Fᵀ = Ĉ."""
        if self.form == "published":
            return published_factor(difference)
        if self.rank is None and not isinstance(difference, LowRank):
            raise InputError(
                "SafeLora(form='projector') needs a rank, since alignment changed the weights in all directions."
            )
        if not squared_norm(difference):
            return published_factor(difference)
        rank = self.rank or (difference.b.shape[1] if isinstance(difference, LowRank) else 0)
        return orthonormal(principal_factor(difference, rank)[0])
