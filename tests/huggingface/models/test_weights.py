import json
import resource
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.tiny import save_tiny, tiny_model

from moored.errors import InputError, ModelError
from moored.files import whole_folder
from moored.huggingface.models import iterate_weights, require_finite, stored_dtypes, weight_files
from moored.huggingface.models.weights import copy_companions, disk_errors


@pytest.fixture
def sharded(tmp_path):
    tiny_model().save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 2
    return tmp_path / "sharded"


@contextmanager
def no_file_above(size):
    """The operating system itself refuses to write on: as near to a full disk as a test can come."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_every_tensor_comes_once_whether_in_shards_or_not(tmp_path, sharded):
    whole = save_tiny(tmp_path / "whole")
    expected = load_file(whole / "model.safetensors")
    for folder in (whole, sharded):
        found = dict(iterate_weights(folder))
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert len(list(iterate_weights(sharded))) == len(expected)


def test_a_missing_shard_is_named(sharded):
    gone = sorted(sharded.glob("*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(ModelError, match=f"lacks {gone.name}, which its index names"):
        weight_files(sharded)


@pytest.mark.parametrize("content", ["{", "[]", '{"metadata": {}}', '{"weight_map": []}'])
def test_a_broken_index_is_named(sharded, content):
    (sharded / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ModelError, match=r"index\.json is no index of weights"):
        weight_files(sharded)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "adapter_model.bin", "model.pt", "model.pth", "model.ckpt"])
def test_pickles_are_refused_unread(tmp_path, name):
    (tmp_path / name).write_bytes(b"not even a pickle")
    with pytest.raises(ModelError, match=rf"pickled weights \({name}\).*convert"):
        weight_files(tmp_path)


def test_a_folder_that_is_missing_or_holds_no_weights_is_named(tmp_path):
    with pytest.raises(ModelError, match="There is no folder"):
        weight_files(tmp_path / "absent")
    with pytest.raises(ModelError, match=r"holds no model\.safetensors; name a checkpoint"):
        weight_files(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 500, -1])
def test_a_truncated_file_is_named(tmp_path, keep):
    file = save_tiny(tmp_path / "model") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"model\.safetensors is not a valid safetensors file"):
        list(iterate_weights(tmp_path / "model"))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_the_tensor_that_is_not_finite_is_named(tmp_path, bad):
    tensors = {"a": torch.zeros(3), "b": torch.tensor([0.0, bad], dtype=torch.bfloat16), "n": torch.arange(3)}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"^b in .* holds NaN or infinity"):
        require_finite(tmp_path)
    save_file({"a": torch.zeros(3), "eighth": torch.zeros(3).to(torch.float8_e4m3fn)}, tmp_path / "model.safetensors")
    require_finite(tmp_path)


def test_the_stored_precision_is_read_for_each_tensor_by_name(tmp_path):
    tensors = {
        "a.weight": torch.zeros(3, dtype=torch.bfloat16),
        "base_model.model.b.lora_A.weight": torch.zeros(2, dtype=torch.float16),
        "norm.weight": torch.tensor(1.0),
        "positions": torch.arange(3),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    names = {"a.weight": torch.bfloat16, "b.lora_A.default.weight": torch.float16, "norm.weight": torch.float32}
    assert stored_dtypes(tmp_path, names) == names
    assert stored_dtypes(tmp_path, ["renamed"]) == {"renamed": torch.float32}


def test_a_folder_without_floating_point_weights_is_refused(tmp_path):
    save_file({"positions": torch.arange(3)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="holds no floating-point weights"):
        stored_dtypes(tmp_path, ["positions"])


def test_safetensors_failing_on_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    refused = pytest.raises(InputError, match=r"^Cannot write .*out: File too large")
    with no_file_above(10_000), refused, whole_folder(tmp_path / "out") as folder, disk_errors():
        tiny_model().save_pretrained(folder)
    assert list(tmp_path.iterdir()) == []


def test_other_failures_of_safetensors_stay_what_they_are(tmp_path):
    from safetensors import SafetensorError

    with pytest.raises(SafetensorError), disk_errors():
        raise SafetensorError("header too large")


def test_companions_are_all_but_weights_pickles_folders_and_our_records(tmp_path):
    start = save_tiny(tmp_path / "start")
    for name in ("training_args.bin", "optimizer.pt", "moored_run.json", "README.md", "model.safetensors.index.json"):
        (start / name).write_text(json.dumps(name))
    (start / "checkpoint-2").mkdir()
    (tmp_path / "copy").mkdir()
    copy_companions(start, tmp_path / "copy")
    found = {path.name for path in (tmp_path / "copy").iterdir()}
    assert found >= {"README.md", "config.json", "tokenizer.json", "tokenizer_config.json"}
    assert not found & {"model.safetensors", "training_args.bin", "optimizer.pt", "moored_run.json", "checkpoint-2"}
    assert "model.safetensors.index.json" not in found
