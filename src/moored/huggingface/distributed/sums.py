"""Sums and means over the processes of a run; all of them must call these functions together."""

import torch
from accelerate.utils import gather, reduce

from moored.huggingface.distributed.processes import gathered, process_count


def sum_over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """Returns the elementwise sum of a tensor that has the same shape in every process."""
    total = reduce(tensor, "sum")
    assert isinstance(total, torch.Tensor)
    return total


def mean_over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """Returns the mean of one number of each process, and a single process's number as it is."""
    if process_count() == 1:
        return tensor
    numbers = gather(tensor)
    assert isinstance(numbers, torch.Tensor)
    return numbers.float().mean()


def mean_number(number: float) -> float:
    """Returns the mean of one Python number of each process."""
    numbers = gathered([number])
    return sum(numbers) / len(numbers)
