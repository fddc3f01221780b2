"""The contract of a selection rule."""

from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor


@runtime_checkable
class SelectionRule(Protocol):
    """Chooses samples by what one scoring pass over them measured.

    A rule is a frozen dataclass of its own settings. It sees numbers only, never text, and draws at random only from
    a seed of its own.
    """

    scored: ClassVar[bool]
    """Whether it looks at losses or norms; otherwise nothing need be scored, and both may be NaN."""

    @property
    def keep(self) -> float:
        """Share of the samples to keep, in (0, 1]; at 1 nothing need be scored."""
        ...

    def __call__(
        self,
        losses: Float[Tensor, " sample"],
        norms: Float[Tensor, " sample"],
        lengths: Int[Tensor, " sample"],
        *,
        step: int = 0,
    ) -> Int[Tensor, " kept"]:
        """The indices of the samples to keep, ascending and without repeats, on the device of the losses.

        Args:
            losses: mean loss over the supervised tokens of each sample, in nats.
            norms: norm of each sample's gradient, ≥ 0.
            lengths: supervised tokens of each sample; one of length 0 is never kept, whatever its loss and norm.
            step: the optimizer step; rules that draw do so anew at each, the others do not look at it.
        """
        ...
