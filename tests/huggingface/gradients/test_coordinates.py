import pytest
import torch
from tests.huggingface.gradients.models import make, padded, rows
from tests.huggingface.gradients.test_dataset import as_lists
from torch import nn

from moored.huggingface.gradients import coordinate_gradients, score

QUERY, DOWN = "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.down_proj.weight"


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2"])
def test_they_are_the_gradients_of_each_sample_alone(family):
    model, samples = make(family), rows()
    coordinates = {QUERY: torch.tensor([0, 7, 100]), DOWN: torch.tensor([3, 500])}
    done = []
    found = coordinate_gradients(model, as_lists(samples), coordinates, max_length=64, advance=done.append)
    model.eval()
    for sample, (ids, labels) in enumerate(samples):
        logits = model(input_ids=ids[None]).logits[0]
        nn.functional.cross_entropy(logits[:-1], labels[1:]).backward()
        for name, at in coordinates.items():
            torch.testing.assert_close(found[name][sample], model.get_parameter(name).grad.flatten()[at])
        model.zero_grad()
    assert done == [1] * 4


def test_all_coordinates_have_the_norm_that_the_scorer_finds():
    model, samples = make("llama"), rows()
    everything = {QUERY: torch.arange(model.get_parameter(QUERY).numel())}
    found = coordinate_gradients(model, as_lists(samples), everything, max_length=9)
    scores = score(model, padded([(ids[:9], labels[:9]) for ids, labels in samples]), by_parameter=True)
    assert scores.squares is not None
    torch.testing.assert_close(found[QUERY].square().sum(1), scores.squares[QUERY], rtol=1e-4, atol=0)


def test_the_model_is_left_as_found_and_nothing_of_full_size_is_kept():
    model = make("llama").train()
    model.lm_head.weight.requires_grad_(False)
    flags = [each.requires_grad for each in model.parameters()]
    coordinates = {QUERY: torch.tensor([1])}
    first = coordinate_gradients(model, as_lists(rows()), coordinates, max_length=64)
    assert [each.requires_grad for each in model.parameters()] == flags
    assert all(each.grad is None for each in model.parameters()) and all(each.training for each in model.modules())
    with pytest.raises(IndexError):
        coordinate_gradients(model, as_lists(rows()), {QUERY: torch.tensor([10**6])}, max_length=64)
    model.zero_grad()
    assert [each.requires_grad for each in model.parameters()] == flags
    again = coordinate_gradients(model, as_lists(rows()), coordinates, max_length=64)
    assert torch.equal(first[QUERY], again[QUERY]), "dropout was on"
