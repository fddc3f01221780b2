"""What a repair is: weights that are to be moved and a loss over them in, the same weights repaired out."""

from collections.abc import Callable, Iterable
from typing import Protocol

from torch import Tensor
from torch.nn import Parameter


class Repair(Protocol):
    """Moves parameters in place, given a closure that computes the loss of the safety example at their values."""

    def repair(self, parameters: Iterable[Parameter], loss: Callable[[], Tensor]) -> list[float]:
        """Returns the loss before the first step and after each one."""
        ...
