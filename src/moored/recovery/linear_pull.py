"""A linear pull back to the aligned weights, the plainest repair and the control of all others.

Source: interpolation of weights after fine-tuning, WiSE-FT (Wortsman et al., arXiv 2109.01903, equation 1), which
interpolates between a zero-shot and a fine-tuned model. Using the aligned model instead of the zero-shot one is our
choice.
"""

from dataclasses import dataclass
from typing import ClassVar

from moored.errors import InputError
from moored.recovery._interface import Kind, RepairedUpdate
from moored.tensors.low_rank import Matrix, left_times


@dataclass(frozen=True, kw_only=True)
class LinearPull:
    """Moves the weights a share of the way back: θ = θ_tuned + α (θ_aligned − θ_tuned).

    Raises:
        InputError: The share is outside [0, 1].
    """

    name: ClassVar[str] = "linear_pull"
    kind: ClassVar[Kind] = "formula"
    needs_aligned: ClassVar[bool] = True
    needs_base: ClassVar[bool] = False

    share: float = 0.5
    """α, from 0, which changes nothing, to 1, which restores the aligned model."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InputError(f"LinearPull(share=...) must be between 0 and 1, got {self.share}.")

    @property
    def off(self) -> bool:
        """Whether it is set to change nothing."""
        return self.share == 0

    def repair_update(self, update: Matrix, difference: Matrix | None = None) -> RepairedUpdate:
        """Returns (1 − α) ΔW for one weight, with ΔW = W_tuned − W_aligned."""
        return RepairedUpdate(left_times(lambda columns: (1 - self.share) * columns, update), changed=self.share > 0)
