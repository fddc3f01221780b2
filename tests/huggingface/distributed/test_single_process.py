"""A run of one process gets its own values back; what several make of them is tested by training with two."""

import pytest
import torch
from torch import nn

from moored.errors import InputError
from moored.huggingface.distributed import processes, sums
from moored.huggingface.distributed.sharding import refuse_sharded_parameters, refuse_sharding_settings


def test_one_process_is_told_its_own_values():
    assert (processes.process_count(), processes.process_index(), processes.is_main_process()) == (1, 0, True)
    assert processes.gathered([3, 4]) == [3, 4] and processes.of_main_process("a") == "a"
    assert processes.any_process(True) and not processes.any_process(False)
    assert [*processes.in_step(iter([1, 2]))] == [1, 2]


def test_sums_and_means_of_one_process_are_its_numbers():
    numbers = torch.tensor([1.5, 2.0])
    assert torch.equal(sums.sum_over_processes(numbers), numbers)
    count = torch.tensor(7)
    assert sums.mean_over_processes(count) is count, "not even its type changes"
    assert sums.mean_number(0.25) == 0.25


def test_sharded_weights_are_refused():
    refuse_sharding_settings({"fsdp": "", "learning_rate": 0.1})
    with pytest.raises(InputError, match=r"^Safeguards cannot read sharded weights yet; leave out deepspeed or"):
        refuse_sharding_settings({"deepspeed": {"stage": 3}})
    parameter = nn.Parameter(torch.zeros(2))
    refuse_sharded_parameters([parameter])
    parameter.ds_id = 0
    with pytest.raises(InputError, match="Per-row gradients cannot read sharded weights yet"):
        refuse_sharded_parameters([parameter])
