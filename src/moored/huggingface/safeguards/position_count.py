"""The number of positions that a token penalty guards in each optimizer step."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from moored.errors import InactiveError
from moored.huggingface.distributed.sums import sum_over_processes
from moored.huggingface.safeguards.guarded_logits import guarded_positions
from moored.huggingface.safeguards.interface import Batch


class PositionCount:
    """Counts the guarded positions of a step before it, and checks that its micro-batches have just those.

    Args:
        name: the safeguard's.
        first: as in `guarded_positions`.
    """

    def __init__(self, name: str, first: int | None) -> None:
        self._name, self._first = name, first
        self.in_step, self.in_run = 0, 0
        """The numbers in the present step and in all until now, over all micro-batches and processes."""
        self._expected: list[int] = []
        """The number in each micro-batch of the step that has not been trained on yet."""

    def begin_step(self, batches: Sequence[Any], device: torch.device) -> None:
        """Counts the positions of a step's micro-batches; `device` is that on which processes meet."""
        counts = torch.stack([guarded_positions(batch, self._first).sum() for batch in batches])
        self.in_step = int(sum_over_processes(counts.sum().to(device)))
        self.in_run += self.in_step
        self._expected = counts.tolist()

    def next(self, batch: Batch) -> Bool[Tensor, "row column"]:
        """Marks the guarded positions of the step's next micro-batch.

        Raises:
            InactiveError: the step did not begin here, or the micro-batch is not the one that was counted.
        """
        positions = guarded_positions(batch, self._first)
        if not self._expected:
            raise InactiveError(
                f"The safeguard {self._name} did not see its step begin: this trainer does not fetch its "
                "batches with get_batch_samples; use another version of transformers, or remove the safeguard."
            )
        if self._expected.pop(0) != int(positions.sum()):
            raise InactiveError(
                f"The safeguard {self._name} counted other tokens to learn than this trainer trains on, as "
                "where it generates answers itself; use another trainer, or remove the safeguard."
            )
        return positions
