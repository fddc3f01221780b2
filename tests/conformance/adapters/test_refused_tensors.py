"""The tensors of an adapter whose names, shapes or numbers would be read wrong."""

import pytest
import torch
from tests.conformance.adapters.edits import PREFIX, changed, in_precision, refusal, renamed
from tests.conformance.adapters.kinds import refused


def _half(tensors):
    return {name: tensor for name, tensor in tensors.items() if "layers.0" in name}


def _no_b(tensors):
    return {name: tensor for name, tensor in tensors.items() if "lora_A" in name}


def _k_too(tensors):
    return {**tensors, **{name.replace("v_proj", "k_proj"): t for name, t in tensors.items() if "v_proj" in name}}


def _nan(tensors):
    return {name: tensor * float("nan") for name, tensor in tensors.items()}


def _classifier(tensors):
    return {**tensors, f"{PREFIX}score.weight": torch.ones(2, 16)}


def _ungathered(tensors):
    return {name: torch.empty(0) for name in tensors}


def _wrapped(name):
    return renamed(lambda tensor: tensor.replace("layers.0.", f"layers.0.{name}."))


_MISNAMED = "names its tensors otherwise than PEFT does"
_OTHER_BASE = "is for another base: this model has no module"


REFUSED = [
    refusal(
        "half of the layers' factors", _half, dict, r"lacks 6 of the tensors that .* calls for \(model\.", fast=True
    ),
    refusal("A without B", _no_b, dict, r"lacks 6 of the tensors .*lora_B", fast=True),
    refusal(
        "factors of modules that target_modules does not name",
        _k_too,
        dict,
        r"holds tensors of model\.layers\.0\.self_attn\.k_proj, which its",
        fast=True,
    ),
    refusal(
        "torch.compile's prefix within", renamed(lambda n: n.replace(PREFIX, f"{PREFIX}_orig_mod.")), dict, _MISNAMED
    ),
    refusal("torch.compile's prefix around", renamed(lambda n: f"_orig_mod.{n}"), dict, _MISNAMED),
    refusal("DDP's prefix", renamed(lambda n: f"module.{n}"), dict, _MISNAMED),
    refusal("FSDP's prefix", _wrapped("_fsdp_wrapped_module"), dict, _MISNAMED),
    refusal("activation checkpointing's prefix", _wrapped("_checkpoint_wrapped_module"), dict, _MISNAMED),
    refusal("no prefix", renamed(lambda n: n.removeprefix(PREFIX)), dict, _MISNAMED),
    refusal("half of the prefix", renamed(lambda n: n.replace(PREFIX, "base_model.")), dict, _MISNAMED, fast=True),
    refusal(
        "names of a vision model's language model",
        renamed(lambda n: n.replace(".model.layers", ".model.language_model.layers")),
        dict,
        _OTHER_BASE,
    ),
    refusal("a renamed module", renamed(lambda n: n.replace("down_proj", "dense_4h_to_h")), dict, _OTHER_BASE),
    refusal("more layers than the base", renamed(lambda n: n.replace("layers.1", "layers.5")), dict, _OTHER_BASE),
    refusal(
        "the head of a classifier", _classifier, changed(task_type="SEQ_CLS"), "holds .*score.weight, which has no"
    ),
    refusal("empty tensors of DeepSpeed's shards", _ungathered, dict, "is empty, as DeepSpeed leaves it", fast=True),
    refusal("a file without tensors", lambda _: {}, dict, "lacks 12 of the tensors"),
    refusal("NaN in a factor", _nan, dict, "holds NaN or infinity"),
    refusal("int8 factors", in_precision(torch.int8), dict, "holds integers"),
]


@pytest.mark.parametrize(("tensors", "config", "match"), REFUSED)
def test_what_would_be_read_wrong_is_refused(shelf, tmp_path, adapter, tensors, config, match):
    refused(shelf.variant(adapter, tmp_path / "adapter", tensors=tensors, config=config), match, tmp_path)
