"""Safe LoRA: updates that point away from the direction of alignment are projected onto it.

Source: "Safe LoRA: the Silver Lining of Reducing Safety Risks when Fine-tuning Large Language Models" (Hsu et al.,
arXiv 2405.16833): V = W_aligned − W_base; Ĉ = V Vᵀ/‖V‖ in place of the exact projector V (VᵀV)⁻¹ Vᵀ; ΔW becomes Ĉ ΔW
where the cosine of the two falls below a threshold τ. Our choices: τ by default; a weight that alignment left as it was
has no direction and keeps its update; `projector` is the exact form, for a V of low rank.
"""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from moored.errors import InputError
from moored.recovery._interface import RepairedUpdate
from moored.tensors.column_space import Along, orthonormal, principal_factor, published_factor
from moored.tensors.low_rank import LowRank, Matrix, inner, left_times, squared_norm


@dataclass(frozen=True, kw_only=True)
class SafeLora:
    """Projects the update of every weight whose cosine with its own projection is too small.

    Raises:
        InputError: a threshold that is no cosine, or a rank without a projector or below 1.
    """

    threshold: float = 0.35
    """τ, from 0, where nothing changes, to 1, where every update is projected that lies off the direction."""
    form: Literal["published", "projector"] = "published"
    """Whether Ĉ is that of the code, which also shrinks or stretches, or U Uᵀ of V's main left singular vectors."""
    rank: int | None = None
    """Singular vectors of the projector, ≥ 1; None takes all, for a V that is a product of thin factors."""
    needs_base: bool = True
    name: str = "safe_lora"

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise InputError(f"SafeLora(threshold=...) must lie between 0 and 1, got {self.threshold}.")
        if self.rank is not None and (self.rank < 1 or self.form != "projector"):
            raise InputError(f"SafeLora(rank={self.rank}) must be at least 1, and goes with form='projector' only.")

    @property
    def off(self) -> bool:
        """Whether it is declared to change nothing."""
        return self.threshold == 0

    def repair_update(self, update: Matrix, difference: Matrix | None) -> RepairedUpdate:
        """Ĉ ΔW of one weight where its cosine with ΔW is below τ, else ΔW.

        Args:
            update: ΔW = W_tuned − W_aligned, in fp32.
            difference: V = W_aligned − W_base, in fp32.

        Returns:
            The update that stays, with the cosine; None where V or ΔW is zero.

        Raises:
            InputError: the projector of a whole V without a rank, which would be the identity.
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
        """F with F Fᵀ = Ĉ."""
        if self.form == "published":
            return published_factor(difference)
        if self.rank is None and not isinstance(difference, LowRank):
            raise InputError("SafeLora(form='projector') needs rank where alignment moved weights in all directions.")
        if not squared_norm(difference):
            return published_factor(difference)
        rank = self.rank or (difference.b.shape[1] if isinstance(difference, LowRank) else 0)
        return orthonormal(principal_factor(difference, rank)[0])
