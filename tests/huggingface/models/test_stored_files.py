"""The files that are checked, hashed and rewritten are those that transformers and PEFT load."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.adapters import save_adapter
from tests.tiny import save_tiny, tiny_model, tiny_tokenizer
from transformers import AutoModelForCausalLM

from moored.errors import ModelError
from moored.huggingface.models import (
    FoldedWeights,
    ModelSource,
    adapter_updates,
    copy_companions,
    iterate_weights,
    load_model,
    require_fit,
    rewrite_weights,
    weight_files,
)

INDEX = "model.safetensors.index.json"
IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture
def model(tmp_path):
    return save_tiny(tmp_path / "model")


@pytest.fixture
def sharded(tmp_path):
    tiny_model().save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    tiny_tokenizer().save_pretrained(tmp_path / "sharded")
    return tmp_path / "sharded"


def _move_last_shard(folder, name):
    """Puts the last shard elsewhere and names it so in the index."""
    last = sorted(folder.glob("*.safetensors"))[-1]
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(last, folder / name)
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"] = {k: str(name) if v == last.name else v for k, v in index["weight_map"].items()}
    (folder / INDEX).write_text(json.dumps(index))


def test_other_safetensors_beside_the_weights_do_not_count(model, sharded):
    for folder in (model, sharded):
        before = weight_files(folder)
        save_file({"stale": torch.tensor([float("nan")])}, folder / "consolidated.safetensors")
        assert weight_files(folder) == before
        load_model(ModelSource(str(folder)))


def test_one_file_counts_before_an_index_as_in_transformers(model, sharded, tmp_path):
    shutil.copyfile(sharded / INDEX, model / INDEX)
    assert weight_files(model) == [model / "model.safetensors"]
    (tmp_path / "out").mkdir()
    rewrite_weights(model, tmp_path / "out", lambda _, tensor: tensor)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["model.safetensors"]


def test_a_file_under_another_name_is_no_checkpoint(model):
    (model / "model.safetensors").rename(model / "consolidated.safetensors")
    (model / "training_args.bin").write_bytes(b"")
    with pytest.raises(
        ModelError, match=r"no model\.safetensors but consolidated\.safetensors, which is not read; save"
    ):
        weight_files(model)


def test_a_configuration_may_not_name_another_weight_file(model):
    save_file({"other": torch.zeros(1)}, model / "other.safetensors")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "transformers_weights": "other.safetensors"}))
    with pytest.raises(ModelError, match=r"names its own weight file \(transformers_weights: other\.safetensors\)"):
        load_model(ModelSource(str(model)))


@pytest.mark.parametrize("name", ["../x.safetensors", "sub/../../x.safetensors", "/tmp/x.safetensors", "x.bin"])
def test_an_index_that_leaves_its_folder_or_names_a_pickle_is_refused(sharded, name):
    index = json.loads((sharded / INDEX).read_text())
    index["weight_map"][next(iter(index["weight_map"]))] = name
    (sharded / INDEX).write_text(json.dumps(index))
    for read in (weight_files, lambda folder: load_model(ModelSource(str(folder)))):
        with pytest.raises(ModelError, match=rf"names {name}, which is no safetensors file inside its folder"):
            read(sharded)


def test_a_hub_id_s_index_is_checked_too(sharded, monkeypatch):
    from moored.huggingface.models import checkpoint

    _move_last_shard(sharded, "../x.safetensors")
    monkeypatch.setattr(checkpoint, "snapshot_download", lambda *_, **__: str(sharded))
    monkeypatch.setattr(checkpoint, "AutoModelForCausalLM", None)
    with pytest.raises(ModelError, match=r"names \.\./x\.safetensors, which is no safetensors file inside its folder"):
        load_model(ModelSource("somebody/something"))


def test_shards_in_folders_of_their_own_are_read_and_rewritten(sharded, tmp_path):
    expected = dict(iterate_weights(sharded))
    _move_last_shard(sharded, "shards/x.safetensors")
    assert dict(iterate_weights(sharded)).keys() == expected.keys()
    for out, write in (
        ("rewritten", lambda folder: rewrite_weights(sharded, folder, lambda _, tensor: 2 * tensor)),
        ("copied", lambda folder: copy_companions(sharded, folder, weights=True)),
    ):
        (tmp_path / out).mkdir()
        write(tmp_path / out)
        found = dict(iterate_weights(tmp_path / out))
        factor = 2 if out == "rewritten" else 1
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], factor * expected[name]) for name in expected)
        shutil.copyfile(sharded / "config.json", tmp_path / out / "config.json")
        AutoModelForCausalLM.from_pretrained(tmp_path / out)


def test_indexes_of_other_weights_are_left_behind(model, tmp_path):
    (model / "consolidated.safetensors.index.json").write_text("{}")
    (tmp_path / "out").mkdir()
    copy_companions(model, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*safetensors*"))


@pytest.fixture
def adapter(tmp_path):
    return save_adapter(tmp_path / "adapter")


def _refused_everywhere(model, adapter, match):
    source = ModelSource(str(model), adapter)
    for read in (load_model, require_fit, FoldedWeights):
        with pytest.raises(ModelError, match=match):
            read(source)
    for read in (weight_files, adapter_updates):
        with pytest.raises(ModelError, match=match):
            read(adapter)


def test_a_pickled_adapter_is_refused_whatever_stands_beside_it(model, adapter):
    file = adapter / "adapter_model.safetensors"
    torch.save(load_file(file), adapter / "adapter_model.bin")
    file.rename(adapter / "embeddings.safetensors")
    _refused_everywhere(
        model, adapter, r"holds no adapter_model\.safetensors but pickled weights \(adapter_model\.bin\)"
    )


def test_an_adapter_in_shards_is_refused(model, adapter):
    file = adapter / "adapter_model.safetensors"
    tensors = list(load_file(file).items())
    for number, part in enumerate((tensors[::2], tensors[1::2]), 1):
        save_file(dict(part), adapter / f"adapter_model-0000{number}-of-00002.safetensors")
    file.unlink()
    match = r"no adapter_model\.safetensors but adapter_model-00001.*, which is not read; save the adapter .* one file"
    _refused_everywhere(model, adapter, match)


def test_other_safetensors_beside_an_adapter_do_not_count(model, adapter):
    save_file({"embedding": torch.tensor([float("nan")])}, adapter / "a.safetensors")
    assert weight_files(adapter) == [adapter / "adapter_model.safetensors"]
    load_model(ModelSource(str(model), adapter))


def test_an_adapter_is_no_checkpoint_even_with_one_s_files_beside_it(model, adapter):
    for file in adapter.iterdir():
        shutil.copyfile(file, model / file.name)
    with pytest.raises(ModelError, match="model is an adapter"):
        load_model(ModelSource(str(model)))
