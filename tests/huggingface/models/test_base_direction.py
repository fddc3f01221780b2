from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.adapters import save_adapter
from tests.tiny import KINDS, Kind, save_tiny, tiny_model

from moored.errors import ModelError
from moored.huggingface.models import ModelSource, find_base_direction, load_model

_PARTS = [f"self_attn.{each}_proj.weight" for each in "qkvo"]
_PARTS += [f"mlp.{each}_proj.weight" for each in ("gate", "up", "down")]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_base_minus_aligned_at_the_largest_coordinates(tmp_path: Path, kind: Kind):
    base, aligned = tiny_model(kind, seed=1), tiny_model(kind, seed=2)
    save_tiny(tmp_path, kind, seed=1)
    found = find_base_direction(aligned, tmp_path, top=20)
    matrices = {f"model.layers.{layer}.{part}" for layer in (0, 1) for part in _PARTS}
    assert found.directions.keys() == matrices and found.identical == found.missing == ()
    for name, direction in found.directions.items():
        r = (base.get_parameter(name) - aligned.get_parameter(name)).detach().flatten()
        at = direction.coordinates
        assert len(at) == 20 and torch.equal(direction.values, r[at])
        others = r.abs()[[each for each in range(len(r)) if each not in set(at.tolist())]]
        assert others.max() <= direction.values.abs().min()
        assert direction.norm == pytest.approx(r.norm().item())
        assert direction.share == pytest.approx((r[at].norm() / r.norm()).item() ** 2)


def test_what_an_adapter_does_not_touch_is_identical(tmp_path: Path):
    base = save_tiny(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", target_modules=["v_proj"], layers_to_transform=[1])
    aligned = load_model(ModelSource(str(base), adapter), merge=True)
    found = find_base_direction(aligned, base, top=5)
    assert [*found.directions] == ["model.layers.1.self_attn.v_proj.weight"]
    assert len(found.identical) == 13 and "model.layers.0.self_attn.v_proj.weight" in found.identical


def test_only_coordinates_that_are_not_zero_count(tmp_path: Path):
    save_tiny(tmp_path)
    aligned = tiny_model()
    with torch.no_grad():
        aligned.get_parameter("model.layers.0.mlp.up_proj.weight")[2, 3] += 0.5
    (direction,) = find_base_direction(aligned, tmp_path, top=1000).directions.values()
    assert direction.coordinates.tolist() == [2 * 16 + 3]
    assert direction.values.item() == pytest.approx(-0.5) and direction.share == pytest.approx(1)


def test_a_matrix_that_the_base_names_otherwise_is_missing(tmp_path: Path):
    tensors = load_file(save_tiny(tmp_path, seed=1) / "model.safetensors")
    tensors["other"] = tensors.pop("model.layers.0.mlp.up_proj.weight")
    save_file(tensors, tmp_path / "model.safetensors")
    assert find_base_direction(tiny_model(), tmp_path, top=5).missing == ("model.layers.0.mlp.up_proj.weight",)


def test_a_base_that_does_not_fit_is_refused(tmp_path: Path):
    save_tiny(tmp_path / "wide", hidden_size=32)
    with pytest.raises(ModelError, match=r"is \(.*\) and \(.*\); name another base"):
        find_base_direction(tiny_model(), tmp_path / "wide", top=5)
    save_tiny(tmp_path / "same")
    with pytest.raises(ModelError, match=r"of the model equal those of .*same; name the base before alignment"):
        find_base_direction(tiny_model(), tmp_path / "same", top=5)
    (tmp_path / "strange").mkdir()
    save_file({"other": torch.zeros(2)}, tmp_path / "strange" / "model.safetensors")
    with pytest.raises(ModelError, match="holds none of this model's matrices"):
        find_base_direction(tiny_model(), tmp_path / "strange", top=5)
