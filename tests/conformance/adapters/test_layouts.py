"""The files in the folder of an adapter: other layouts, broken ones, and what else may stand there."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conformance.adapters.edits import PREFIX
from tests.conformance.adapters.kinds import Ways, quietly, refused
from tests.conformance.cases import case

from moored.errors import ModelError
from moored.huggingface.models import require_fit
from moored.workflows.inputs.models import resolve_model


def _pickled(folder):
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()


def _pickled_beside_others(folder):
    _pickled(folder)
    save_file({"x": torch.zeros(2)}, folder / "embeddings.safetensors")


def _sharded(folder):
    tensors = list(load_file(folder / "adapter_model.safetensors").items())
    for number, part in enumerate((tensors[::2], tensors[1::2]), 1):
        save_file(dict(part), folder / f"adapter_model-0000{number}-of-00002.safetensors")
    (folder / "adapter_model.safetensors").unlink()


def _mlx(folder):
    tensors = load_file(folder / "adapter_model.safetensors")
    names = {
        name.removeprefix(PREFIX).replace(".lora_A.weight", ".lora_a"): t.T.contiguous() for name, t in tensors.items()
    }
    save_file(names, folder / "adapters.safetensors")
    (folder / "adapter_model.safetensors").unlink()
    config = {
        "fine_tune_type": "lora",
        "num_layers": 2,
        "lora_parameters": {"rank": 2, "scale": 3.0},
        "model": "org/model",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))


def _mlx_without_configuration(folder):
    _mlx(folder)
    (folder / "adapter_config.json").unlink()


def _gguf(folder):
    for file in list(folder.iterdir()):
        file.unlink()
    (folder / "lora.gguf").write_bytes(b"GGUF")


def _named(folder):
    files = [file for file in folder.iterdir() if file.is_file()]
    for name in ("first", "second"):
        (folder / name).mkdir()
        for file in files:
            shutil.copyfile(file, folder / name / file.name)
    for file in files:
        file.unlink()


def _cut_short(folder):
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:300])


def _torn(folder):
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"')


FOLDERS = [
    case("adapter_model.bin alone", _pickled, r"no adapter_model\.safetensors but pickled weights", outcome="refused"),
    case(
        "adapter_model.bin beside another safetensors file",
        _pickled_beside_others,
        r"no adapter_model\.safetensors but pickled weights \(adapter_model\.bin\)",
        outcome="refused",
        fast=True,
    ),
    case(
        "an adapter in shards",
        _sharded,
        "which is not read; save the adapter with PEFT, in one file",
        outcome="refused",
    ),
    case("mlx-lm's folder", _mlx, "is an adapter of mlx-lm, not of PEFT; fuse it", outcome="refused", fast=True),
    case("mlx-lm's folder without a configuration", _mlx_without_configuration, "of mlx-lm", outcome="refused"),
    case("a folder with a LoRA of llama.cpp (GGUF)", _gguf, "is a LoRA of llama.cpp, not of PEFT", outcome="refused"),
    case(
        "several adapters in folders of their names",
        _named,
        r"name one of its folders \(first, second\)",
        outcome="refused",
    ),
    case("a file cut short", _cut_short, "is not a valid safetensors file", outcome="refused"),
    case("a configuration cut short", _torn, r"adapter_config\.json is not valid JSON", outcome="refused"),
]


@pytest.mark.parametrize(("change", "match"), FOLDERS)
def test_a_folder_of_another_layout_is_refused(shelf, tmp_path, adapter, change, match):
    trained = shelf.variant(adapter, tmp_path / "adapter")
    change(trained.adapter)
    refused(trained, match, tmp_path)
    with pytest.raises(ModelError, match=match):
        resolve_model(str(trained.base), trained.adapter)
        require_fit(trained.source)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        case("a GGUF file", "lora.gguf", "is a LoRA of llama.cpp, not of PEFT", outcome="refused"),
        case(
            "the safetensors file instead of its folder",
            "a.safetensors",
            "is a file; name the folder",
            outcome="refused",
        ),
    ],
)
def test_a_file_is_no_adapter(shelf, tmp_path, name, match):
    (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=match):
        resolve_model(str(shelf.base("llama")), tmp_path / name)


def _bin_beside(folder):
    tensors = load_file(folder / "adapter_model.safetensors")
    torch.save({name: tensor * 0 for name, tensor in tensors.items()}, folder / "adapter_model.bin")


def _other_safetensors(folder):
    save_file({"embedding": torch.tensor([float("nan")])}, folder / "a.safetensors")


def _inner_folder(folder):
    shutil.copytree(folder, folder / "checkpoint-2")


def _trainers_files(folder):
    for name in ("all_results.json", "train_results.json", "trainer_state.json"):
        (folder / name).write_text('{"loss": 1}')
    (folder / "trainer_log.jsonl").write_text("{}\n")
    torch.save({}, folder / "training_args.bin")
    (folder / "Modelfile").write_text("FROM .")


@pytest.mark.parametrize(
    "change",
    [
        case("adapter_model.bin beside the right safetensors file", _bin_beside, fast=True),
        case("another safetensors file beside it", _other_safetensors),
        case("checkpoints within", _inner_folder),
        case("the files that LLaMA-Factory leaves beside it", _trainers_files),
    ],
)
def test_what_stands_beside_an_adapter_does_not_count(shelf, tmp_path, adapter, change):
    trained = shelf.variant(adapter, tmp_path / "adapter")
    change(trained.adapter)
    with quietly():
        Ways(trained, tmp_path).load()
        Ways(trained, tmp_path).formula()
