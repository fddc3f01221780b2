"""Weights are found by their names in memory, however the files name, split or stack them."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.huggingface.models.test_kept_tensors import FAMILIES

from moored.errors import ModelError
from moored.huggingface.models import ModelWeights, iterate_weights
from moored.huggingface.safeguards.differences import differences
from moored.huggingface.safeguards.guarded_weights import guarded_weights

RENAMED = ("experts fused in memory", "renamed in memory", "hybrid", "in x out", "tied")


def _saved(folder, family, seed):
    torch.manual_seed(seed)
    model = FAMILIES[family]()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("family", RENAMED)
def test_every_parameter_is_read_as_it_is_in_memory(tmp_path, family):
    model = _saved(tmp_path, family, 0)
    weights = ModelWeights(tmp_path)
    for name, parameter in model.named_parameters():
        assert weights.holds(name)
        torch.testing.assert_close(weights.read(name), parameter.detach(), rtol=0, atol=0)
    places = {weights.place(name) for name, _ in iterate_weights(tmp_path)}
    assert places <= {None, *model.state_dict()}
    with pytest.raises(ModelError, match=r"holds no tensor nothing\.weight"):
        weights.read("nothing.weight")


@pytest.mark.parametrize("family", RENAMED[:4])
def test_the_direction_of_alignment_is_found_in_files_that_name_weights_otherwise(tmp_path, family):
    base, aligned = (_saved(tmp_path / str(seed), family, seed) for seed in (0, 1))
    weights, before = guarded_weights(aligned), dict(base.named_parameters())
    found = dict(differences(weights, base=str(tmp_path / "0"), adapter=None, files=None))
    assert len(found) == len(weights) > 4
    for weight in weights:
        expected = weight.as_matrix(weight.parameter - before[weight.stored]).detach()
        torch.testing.assert_close(found[weight.name], expected, rtol=1e-5, atol=1e-6)


def test_what_no_model_reads_is_found_by_its_name_in_the_files(tmp_path):
    _saved(tmp_path, "plain", 0)
    tensors = {**load_file(tmp_path / "model.safetensors"), "v_head.weight": torch.ones(1, 16)}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    weights = ModelWeights(tmp_path)
    assert weights.place("v_head.weight") is None and not weights.is_read("v_head.weight")
    torch.testing.assert_close(weights.read("v_head.weight"), torch.ones(1, 16))
