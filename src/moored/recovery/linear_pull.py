"""A straight pull back to the aligned weights, the plainest repair and the control of every cleverer one.

Source: interpolation of weights after fine-tuning, WiSE-FT (Wortsman et al., arXiv 2109.01903, equation 1), there
between a zero-shot and a fine-tuned model. Taking the aligned model in the place of the zero-shot one is our choice.
"""

from dataclasses import dataclass

from moored.errors import InputError
from moored.recovery._interface import RepairedUpdate
from moored.tensors.low_rank import Matrix, left_times


@dataclass(frozen=True, kw_only=True)
class LinearPull:
    """Goes a part of the way back: θ = θ_tuned + α (θ_aligned − θ_tuned).

    Raises:
        InputError: a share outside [0, 1].
    """

    share: float = 0.5
    """α, the part of the way, from 0, where nothing changes, to 1, where the aligned model is back."""
    needs_base: bool = False
    name: str = "linear_pull"

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InputError(f"LinearPull(share=...) must lie between 0 and 1, got {self.share}.")

    @property
    def off(self) -> bool:
        """Whether it is declared to change nothing."""
        return self.share == 0

    def repair_update(self, update: Matrix, difference: Matrix | None = None) -> RepairedUpdate:
        """(1 − α) ΔW of one weight, with ΔW = W_tuned − W_aligned."""
        return RepairedUpdate(left_times(lambda columns: (1 - self.share) * columns, update), changed=self.share > 0)
