"""The contract of repairs: what all of them state, and what one by a formula computes."""

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

from moored.tensors.low_rank import Matrix

Kind = Literal["example", "formula"]


@runtime_checkable
class Repair(Protocol):
    """A way to turn a fine-tuned model back."""

    name: ClassVar[str]
    kind: ClassVar[Kind]
    """Whether it trains on an example, or computes a new update for each weight."""
    needs_base: ClassVar[bool]
    """Whether it uses the direction aligned − base."""

    @property
    def needs_aligned(self) -> bool:
        """Whether it uses the aligned model."""
        ...

    @property
    def off(self) -> bool:
        """Whether it is set to change nothing."""
        ...


@dataclass(frozen=True)
class RepairedUpdate:
    """The update of one weight after a repair."""

    update: Matrix
    changed: bool = False
    cosine: float | None = None
    """The cosine between the update and its repaired form, for a repair that decides by it."""


@runtime_checkable
class UpdateRepair(Repair, Protocol):
    """A repair by a formula, which takes the update of one weight at a time."""

    def repair_update(self, update: Matrix, difference: Matrix | None) -> RepairedUpdate:
        """Repairs the update W_tuned − W_aligned of one weight; `difference` is W_aligned − W_base."""
        ...
