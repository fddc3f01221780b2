"""All ways to per-sample norms find the same, so that the benchmark compares like with like."""

import pytest
import torch
from tests.adapters import random_adapter
from tests.tiny import tiny_model

from benchmarks.speed import gradient_norms as ways
from benchmarks.speed import training_step


def _model(trained):
    torch.manual_seed(0)
    return random_adapter("llama") if trained == "lora" else tiny_model("llama")


@pytest.mark.parametrize("trained", ["lora", "full"])
@pytest.mark.parametrize("prompt", [2, 9])
def test_every_way_finds_the_norms_of_the_loop(trained, prompt):
    model = _model(trained).train()
    batch = training_step.random_tokens(5, 12, prompt, model.config.vocab_size)
    found = {name: ways.WAYS[name](model, batch)() for name in ("loop", "moored", "vmap")}
    assert len(found["loop"]) == 5 and (found["loop"] > 0).all()
    for norms in found.values():
        torch.testing.assert_close(norms, found["loop"], rtol=1e-4, atol=0)


def test_the_loss_is_the_mean_over_the_answer():
    model = _model("full")
    batch = training_step.random_tokens(1, 12, 5, model.config.vocab_size)
    expected = model(**batch).loss
    torch.testing.assert_close(ways.losses(model, *batch.values())[0], expected)
