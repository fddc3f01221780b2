"""Each parameter's squared gradient norm, against batch-size-1 backward."""

from typing import Any

import pytest
import torch
from tests.huggingface.gradients.models import ARRANGEMENTS, make, padded, rows
from torch import Tensor, nn

from moored.huggingface.gradients import score
from moored.huggingface.models import plain_name

CASES = {
    "llama": {"family": "llama"},
    "qwen2": {"family": "qwen2"},
    "gemma-tied": {"family": "gemma"},
    "mixtral": {"family": "mixtral"},
    "gpt2": {"family": "gpt2"},
    "llama-lora": {"family": "llama", "lora": True},
    "mixtral-lora": {"family": "mixtral", "lora": True},
}


def alone(model: Any, samples: list[tuple[Tensor, Tensor]]) -> dict[str, list[float]]:
    """Each sample by itself: an ordinary backward pass in eval mode, and ‖.grad‖² of each parameter."""
    trained = {plain_name(name): each for name, each in model.named_parameters() if each.requires_grad}
    squares: dict[str, list[float]] = {name: [] for name in trained}
    model.eval()
    for ids, labels in samples:
        logits = model(input_ids=ids[None], use_cache=False).logits[0].float()
        nn.functional.cross_entropy(logits[:-1], labels[1:]).backward()
        for name, parameter in trained.items():
            gradient = parameter.grad if parameter.grad is not None else torch.zeros(())
            squares[name].append(gradient.double().square().sum().item())
        model.zero_grad(set_to_none=True)
    model.train()
    return squares


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("case", CASES)
def test_each_parameter_s_squares_are_those_of_each_sample_alone(case: str, arrangement: str):
    model, samples = make(**CASES[case]), rows()
    scores = score(model, ARRANGEMENTS[arrangement](samples), by_parameter=True)
    expected = alone(model, samples)
    assert scores.squares is not None and scores.squares.keys() == expected.keys()
    for name, squares in expected.items():
        # Relative to the sample: rounding alone makes up a gradient that vanishes, as a key's bias has.
        allowed = 1e-6 * max(sum(each) for each in zip(*expected.values(), strict=True))
        torch.testing.assert_close(scores.squares[name], torch.tensor(squares), rtol=1e-4, atol=allowed, msg=name)


def test_they_add_up_to_the_squared_norm_and_a_tied_matrix_is_one_of_them():
    model = make("gemma")
    scores = score(model, padded(rows()), by_parameter=True)
    assert scores.squares is not None
    assert "model.embed_tokens.weight" in scores.squares and "lm_head.weight" not in scores.squares
    torch.testing.assert_close(torch.stack([*scores.squares.values()]).sum(0), scores.norms.square())


def test_nothing_is_kept_apart_unless_asked_for():
    model, batch = make("llama"), padded(rows())
    plain, apart = score(model, batch), score(model, batch, by_parameter=True)
    assert plain.squares is None
    assert torch.equal(plain.norms, apart.norms) and torch.equal(plain.losses, apart.losses)
