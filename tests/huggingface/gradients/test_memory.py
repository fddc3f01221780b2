"""Scoring holds about what a plain step holds: counted in the bytes that the allocator hands out, not in seconds."""

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest
import torch
from tests.huggingface.gradients.models import make, padded, rows

from moored.huggingface.gradients import score
from moored.tensors.gradient_squares import dense_squares
from moored.tensors.samples import one_a_row


def _peak(run: Callable[[], Any]) -> int:
    """The most bytes held at once on the CPU, beyond what was there before."""
    run()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    events = [each for each in profiler.profiler.kineto_results.events() if each.name() == "[memory]"]
    return max(accumulate(each.nbytes() for each in sorted(events, key=lambda each: each.start_ns())))


def _step(model: Any, batch: dict[str, torch.Tensor]) -> None:
    model(**batch, use_cache=False).loss.backward()
    model.zero_grad(set_to_none=True)


@pytest.mark.parametrize("checkpointing", [True, False], ids=["checkpointing", "plain"])
@pytest.mark.parametrize("trained", ["lora", "full", "one"])
def test_the_peak_is_near_that_of_a_plain_step(trained: str, checkpointing: bool):
    model = make("llama", lora=trained == "lora", hidden_size=64, intermediate_size=256, head_dim=32)
    if trained == "one":
        model.requires_grad_(False)
        model.model.layers[0].mlp.up_proj.weight.requires_grad_(True)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    batch = padded(rows((32,) * 16))
    assert _peak(lambda: score(model, batch)) <= 1.15 * _peak(lambda: _step(model, batch))


@pytest.mark.parametrize("width", [2, 64], ids=["ghost", "direct"])
def test_few_samples_matrices_exist_at_once(width: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("moored.tensors.gradient_squares._MOST", 4096)
    samples = one_a_row(64, width)
    x, g = torch.randn(64 * width, 64), torch.randn(64 * width, 64)
    # One chunk's matrices and their factors, not 64 matrices of 64 × 64.
    assert _peak(lambda: dense_squares(samples, x, g)) <= 4 * 4 * 4096
