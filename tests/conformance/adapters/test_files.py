"""The tensors and configurations of an adapter as tools write them: read as they were trained."""

import pytest
import torch
from tests.conformance.adapters.edits import changed, in_precision, renamed, same, without
from tests.conformance.adapters.kinds import Ways, logits_of, lora, quietly
from tests.conformance.cases import case

from moored.huggingface.models import load_model, require_fit

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
        "tensors named with the adapter's name", renamed(lambda name: name.replace(".weight", ".default.weight")), None
    ),
    case("factors in fp64", in_precision(torch.float64), None),
    case("configuration of an old PEFT", same, _old),
    case("configuration without what PEFT added later", same, without("peft_version", "target_parameters", "use_dora")),
    case("configuration with entries at null that PEFT does not know", same, changed(brand_new=None, other=False)),
    case("configuration with task_type null", same, changed(task_type=None)),
    *[
        case(f"configuration with task_type {task}", same, changed(task_type=task))
        for task in ("SEQ_CLS", "SEQ_2_SEQ_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION")
    ],
    case("configuration with a fractional alpha", same, changed(lora_alpha=6.0)),
    case("configuration of Unsloth", same, _unsloth),
    case("base_model_name_or_path null", same, changed(base_model_name_or_path=None)),
    case("base_model_name_or_path a Hub id", same, changed(base_model_name_or_path="org/model")),
    case("base_model_name_or_path a path of another machine", same, changed(base_model_name_or_path="/home/a/model")),
    case("configuration with a revision", same, changed(revision="main")),
    case("fan_in_fan_out set over Linear layers", same, changed(fan_in_fan_out=True), fast=True),
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
            changed(brand_new=True),
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
    trained = shelf.variant(trained, tmp_path / "adapter", config=changed(fan_in_fan_out=False))
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
    rounded = shelf.variant(adapter, tmp_path / "low", tensors=in_precision(dtype))
    wide = shelf.variant(
        adapter, tmp_path / "wide", tensors=lambda t: in_precision(torch.float32)(in_precision(dtype)(t))
    )
    with quietly():
        require_fit(rounded.source)
        for merge in (True, False):
            low, high = (logits_of(load_model(trained.source, merge=merge)) for trained in (rounded, wide))
            torch.testing.assert_close(low, high, rtol=1e-4, atol=1e-4)
