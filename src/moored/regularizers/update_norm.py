"""The plainest penalty on the weights, and the control of every cleverer one."""

from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from moored.regularizers._interface import require_strength
from moored.tensors.low_rank import Matrix, squared_norm


@dataclass(frozen=True, kw_only=True)
class UpdateNorm:
    """λ Σ ‖ΔW‖²: whatever moves away from the start costs the same (also known as L2-SP, arXiv 1802.01483).

    Args:
        strength: λ, ≥ 0; 0 is off.
        scaled: whether a LoRA's ΔW is (α/r) BA, as the model sees it, or the bare BA.
        relative: whether `strength` is the norm of the penalty's gradient over that of the loss's, on the guarded
            weights and step by step, in place of λ (our choice).

    Raises:
        InputError: a strength below 0.
    """

    strength: float
    scaled: bool = False
    relative: bool = False
    name: str = field(default="update_norm", init=False, repr=False)
    needs: frozenset[str] = field(default=frozenset({"reference"}), init=False, repr=False)

    def __post_init__(self) -> None:
        require_strength(self)

    def weight_penalty(self, update: Matrix, guide: Any = None) -> Float[Tensor, ""]:
        """‖ΔW‖² of one weight."""
        return squared_norm(update)
