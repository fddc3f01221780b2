from dataclasses import dataclass

import pytest
import torch
from tests.adapters import random_adapter

from moored.huggingface.safeguards import weight_penalty
from moored.huggingface.safeguards.weight_penalty import ActiveWeightPenalty
from moored.regularizers import UpdateNorm


@dataclass(frozen=True, kw_only=True)
class Watching(UpdateNorm):
    def weight_penalty(self, update, guide=None):
        seen.add(torch.get_num_threads())
        return super().weight_penalty(update, guide)


seen: set[int] = set()


@pytest.mark.parametrize(("small", "threads"), [(2**21, {1}), (1, {3})])
def test_small_weights_are_held_by_one_thread_and_large_ones_by_all(monkeypatch, small, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    seen.clear()
    try:
        monkeypatch.setattr(weight_penalty, "SMALL", small)
        model = random_adapter().train()
        held = ActiveWeightPenalty.on(Watching(strength=1.0), model)
        for parameter in model.parameters():
            parameter.data = parameter.data + 0.1
        held.add_gradients(1.0, torch.ones(()))
        assert seen == threads and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
