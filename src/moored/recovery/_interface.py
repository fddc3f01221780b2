"""What a repair by a formula is: the update of each weight in, a safer one out."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from moored.tensors.low_rank import Matrix


@dataclass(frozen=True)
class RepairedUpdate:
    """What became of one weight's update."""

    update: Matrix
    changed: bool = False
    cosine: float | None = None
    """The cosine of the update with what the repair would make of it, where that decides."""


@runtime_checkable
class UpdateRepair(Protocol):
    """Turns the update of each weight, by itself, into another one."""

    name: str
    needs_base: bool
    """Whether it looks at the direction aligned − base."""

    @property
    def off(self) -> bool:
        """Whether it is declared to change nothing."""
        ...

    def repair_update(self, update: Matrix, difference: Matrix | None) -> RepairedUpdate:
        """The update W_tuned − W_aligned of one weight, repaired; `difference` is W_aligned − W_base."""
        ...
