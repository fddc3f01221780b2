"""The files of an adapter: names, precisions and configurations as tools leave them, whole or broken."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conformance.adapters.kinds import Ways, logits_of, lora, quietly, refused
from tests.conformance.cases import case

from moored.errors import ModelError
from moored.huggingface.models import load_model, require_fit
from moored.workflows.inputs.models import resolve_model

_PREFIX = "base_model.model."


@pytest.fixture
def adapter(shelf):
    return shelf.train("llama", lora())


def _same(tensors):
    return tensors


def _renamed(change):
    return lambda tensors: {change(name): tensor for name, tensor in tensors.items()}


def _as(dtype):
    return lambda tensors: {name: tensor.to(dtype) for name, tensor in tensors.items()}


def _with(**changes):
    return lambda config: {**config, **changes}


def _without(*names):
    return lambda config: {name: value for name, value in config.items() if name not in names}


_OLD = (
    *("base_model_name_or_path", "bias", "fan_in_fan_out", "inference_mode", "init_lora_weights", "lora_alpha"),
    *("lora_dropout", "modules_to_save", "peft_type", "r", "target_modules", "task_type"),
)


def _old(config):
    return {**{name: config[name] for name in _OLD}, "enable_lora": None, "merge_weights": False}


def _unsloth(config):
    own = {"base_model_class": "LlamaForCausalLM", "unsloth_fixed": True}
    return {**config, "target_modules": r".*\.(?:self_attn|mlp)\.(?:q|v|down)_proj", "auto_mapping": own}


READ = [
    case(
        "tensors named with the adapter's name", _renamed(lambda name: name.replace(".weight", ".default.weight")), None
    ),
    case("factors in fp64", _as(torch.float64), None),
    case("configuration of an old PEFT", _same, _old),
    case(
        "configuration without what PEFT added later", _same, _without("peft_version", "target_parameters", "use_dora")
    ),
    case("configuration with entries at null that PEFT does not know", _same, _with(brand_new=None, other=False)),
    case("configuration with task_type null", _same, _with(task_type=None)),
    *[
        case(f"configuration with task_type {task}", _same, _with(task_type=task))
        for task in ("SEQ_CLS", "SEQ_2_SEQ_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION")
    ],
    case("configuration with a fractional alpha", _same, _with(lora_alpha=6.0)),
    case("configuration of Unsloth", _same, _unsloth),
    case("base_model_name_or_path null", _same, _with(base_model_name_or_path=None)),
    case("base_model_name_or_path a Hub id", _same, _with(base_model_name_or_path="org/model")),
    case("base_model_name_or_path a path of another machine", _same, _with(base_model_name_or_path="/home/a/model")),
    case("configuration with a revision", _same, _with(revision="main")),
    case("fan_in_fan_out set over Linear layers", _same, _with(fan_in_fan_out=True), fast=True),
]


@pytest.mark.parametrize(("tensors", "config"), READ)
def test_what_tools_write_reads_as_it_was_trained(shelf, tmp_path, monkeypatch, adapter, tensors, config):
    trained = shelf.variant(adapter, tmp_path / "adapter", tensors=tensors, config=config)
    Ways(trained, tmp_path).all(None, monkeypatch)


@pytest.mark.parametrize(
    "config",
    [
        case(
            "configuration with a setting that PEFT does not know",
            _with(brand_new=True),
            outcome="limited",
            note="read as PEFT reads it, without the setting; formula repairs refuse it",
        )
    ],
)
def test_an_unknown_setting_is_no_plain_lora(shelf, tmp_path, monkeypatch, adapter, config):
    trained = shelf.variant(adapter, tmp_path / "adapter", config=config)
    Ways(trained, tmp_path).all(r"more than a plain LoRA \(brand_new\)", monkeypatch)


@pytest.mark.parametrize(
    "targets",
    [
        case("fan_in_fan_out false over Conv1D, square", ["attn.c_proj"], fast=True),
        case("the same, oblong", ["c_attn"]),
    ],
)
def test_the_layer_decides_how_a_weight_lies(shelf, tmp_path, monkeypatch, targets):
    trained = shelf.train("gpt2", lora(target_modules=targets))
    trained = shelf.variant(trained, tmp_path / "adapter", config=_with(fan_in_fan_out=False))
    Ways(trained, tmp_path).all(None, monkeypatch)


@pytest.mark.parametrize(
    "dtype",
    [
        case("factors in fp16", torch.float16),
        case("factors in bf16", torch.bfloat16),
        case("factors in fp8 (e4m3)", torch.float8_e4m3fn),
        case("factors in fp8 (e5m2)", torch.float8_e5m2),
    ],
)
def test_a_precision_is_read_as_its_numbers(shelf, tmp_path, adapter, dtype):
    rounded = shelf.variant(adapter, tmp_path / "low", tensors=_as(dtype))
    wide = shelf.variant(adapter, tmp_path / "wide", tensors=lambda t: _as(torch.float32)(_as(dtype)(t)))
    with quietly():
        require_fit(rounded.source)
        for merge in (True, False):
            found, wanted = (logits_of(load_model(each.source, merge=merge)) for each in (rounded, wide))
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def _half(tensors):
    return {name: tensor for name, tensor in tensors.items() if "layers.0" in name}


def _no_b(tensors):
    return {name: tensor for name, tensor in tensors.items() if "lora_A" in name}


def _k_too(tensors):
    return {**tensors, **{name.replace("v_proj", "k_proj"): t for name, t in tensors.items() if "v_proj" in name}}


def _nan(tensors):
    return {name: tensor * float("nan") for name, tensor in tensors.items()}


def _classifier(tensors):
    return {**tensors, f"{_PREFIX}score.weight": torch.ones(2, 16)}


def _ungathered(tensors):
    return {name: torch.empty(0) for name in tensors}


def _wrapped(name):
    return _renamed(lambda tensor: tensor.replace("layers.0.", f"layers.0.{name}."))


_MISNAMED = "names its tensors otherwise than PEFT does"
_OTHER_BASE = "is for another base: this model has no module"


def _refused(kind, tensors, config, match, *, fast=False):
    return case(kind, tensors, config, match, outcome="refused", fast=fast)


REFUSED = [
    _refused(
        "half of the layers' factors", _half, dict, r"lacks 6 of the tensors that .* calls for \(model\.", fast=True
    ),
    _refused("A without B", _no_b, dict, r"lacks 6 of the tensors .*lora_B", fast=True),
    _refused(
        "target_modules names more than the file",
        _same,
        _with(target_modules=["q_proj", "v_proj", "down_proj", "o_proj"]),
        "lacks 4 of the tensors",
    ),
    _refused(
        "factors of modules that target_modules does not name",
        _k_too,
        dict,
        r"holds tensors of model\.layers\.0\.self_attn\.k_proj, which its",
        fast=True,
    ),
    _refused(
        "target_modules null",
        _same,
        _with(target_modules=None),
        r"holds tensors of model\.layers\.0\.mlp\.down_proj",
        fast=True,
    ),
    _refused("target_modules empty", _same, _with(target_modules=[]), "PEFT cannot apply the adapter"),
    _refused(
        "target_modules a regular expression that misses some",
        _same,
        _with(target_modules=r".*\.q_proj"),
        "holds tensors of",
    ),
    _refused(
        "target_modules of another family",
        _same,
        _with(target_modules=["c_attn"]),
        "is for another base: Target modules",
    ),
    _refused(
        "exclude_modules that leaves out what the file holds",
        _same,
        _with(exclude_modules=["v_proj"]),
        "holds tensors of",
    ),
    _refused(
        "layers_to_transform that leaves out what the file holds",
        _same,
        _with(layers_to_transform=[0]),
        r"holds tensors of model\.layers\.1",
    ),
    _refused(
        "torch.compile's prefix within", _renamed(lambda n: n.replace(_PREFIX, f"{_PREFIX}_orig_mod.")), dict, _MISNAMED
    ),
    _refused("torch.compile's prefix around", _renamed(lambda n: f"_orig_mod.{n}"), dict, _MISNAMED),
    _refused("DDP's prefix", _renamed(lambda n: f"module.{n}"), dict, _MISNAMED),
    _refused("FSDP's prefix", _wrapped("_fsdp_wrapped_module"), dict, _MISNAMED),
    _refused("activation checkpointing's prefix", _wrapped("_checkpoint_wrapped_module"), dict, _MISNAMED),
    _refused("no prefix", _renamed(lambda n: n.removeprefix(_PREFIX)), dict, _MISNAMED),
    _refused("half of the prefix", _renamed(lambda n: n.replace(_PREFIX, "base_model.")), dict, _MISNAMED, fast=True),
    _refused(
        "names of a vision model's language model",
        _renamed(lambda n: n.replace(".model.layers", ".model.language_model.layers")),
        dict,
        _OTHER_BASE,
    ),
    _refused("a renamed module", _renamed(lambda n: n.replace("down_proj", "dense_4h_to_h")), dict, _OTHER_BASE),
    _refused("more layers than the base", _renamed(lambda n: n.replace("layers.1", "layers.5")), dict, _OTHER_BASE),
    _refused("the head of a classifier", _classifier, _with(task_type="SEQ_CLS"), "holds .*score.weight, which has no"),
    _refused("empty tensors of DeepSpeed's shards", _ungathered, dict, "is empty, as DeepSpeed leaves it", fast=True),
    _refused("a file without tensors", lambda _: {}, dict, "lacks 12 of the tensors"),
    _refused("tokens beyond the vocabulary", _same, _with(trainable_token_indices=[5, 390]), "The adapter|PEFT cannot"),
    _refused("NaN in a factor", _nan, dict, "holds NaN or infinity"),
    _refused("int8 factors", _as(torch.int8), dict, "holds integers"),
    _refused(
        "a rank that the file does not have", _same, _with(r=4), r"has the rank 2, but its adapter_config\.json says 4"
    ),
    _refused(
        "a rank_pattern that the file does not have",
        _same,
        _with(rank_pattern={"q_proj": 5}),
        "has the rank 2, but its .* says 5",
    ),
    _refused("r as text", _same, _with(r="8"), r'^r in .*adapter_config\.json is "8", but must be a number'),
    _refused("r of 0", _same, _with(r=0), "PEFT cannot apply the adapter .*positive integer"),
    _refused("r negative", _same, _with(r=-2), "PEFT cannot apply the adapter .*positive integer"),
    _refused(
        "lora_alpha null", _same, _with(lora_alpha=None), "^lora_alpha in .* is null, but must be a number", fast=True
    ),
    _refused("lora_alpha as text", _same, _with(lora_alpha="16"), '^lora_alpha in .* is "16", but must be a number'),
    _refused(
        "use_rslora as text", _same, _with(use_rslora="no"), '^use_rslora in .* is "no", but must be true or false'
    ),
    _refused("rank_pattern as a list", _same, _with(rank_pattern=["q_proj"]), "^rank_pattern in .*, but must be"),
    _refused(
        "peft_type unknown",
        _same,
        _with(peft_type="MAGIC"),
        "names the peft_type MAGIC, which PEFT .* does not know",
        fast=True,
    ),
    _refused("peft_type missing", _same, _without("peft_type"), "names no peft_type"),
    _refused("an empty configuration", _same, lambda _: {}, "names no peft_type"),
    _refused("a configuration that is a list", _same, lambda _: [], "is not a JSON object"),
    _refused("a configuration that is a text", _same, lambda _: "lora", "is not a JSON object"),
    _refused("initialized by corda", _same, _with(init_lora_weights="corda"), "was initialized by corda"),
    _refused(
        "initialized by loftq",
        _same,
        _with(init_lora_weights="loftq", loftq_config={"loftq_bits": 4}),
        "was initialized by loftq",
    ),
    _refused("an initialization that PEFT does not know", _same, _with(init_lora_weights="magic"), "magic"),
    _refused(
        "AdapterHub's configuration",
        _same,
        lambda _: {"model_class": "LlamaForCausalLM"},
        "is an adapter of AdapterHub, not of PEFT",
    ),
]


@pytest.mark.parametrize(("tensors", "config", "match"), REFUSED)
def test_what_would_be_read_wrong_is_refused(shelf, tmp_path, adapter, tensors, config, match):
    refused(shelf.variant(adapter, tmp_path / "adapter", tensors=tensors, config=config), match, tmp_path)


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
        name.removeprefix(_PREFIX).replace(".lora_A.weight", ".lora_a"): t.T.contiguous() for name, t in tensors.items()
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
