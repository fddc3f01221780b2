"""A checkpoint that is loaded, moved and written again holds every tensor that it held, under its name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.tiny import SIZES, save_tiny, tiny_model
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    MixtralConfig,
    MixtralForCausalLM,
    NemotronHConfig,
    NemotronHForCausalLM,
    Qwen3NextConfig,
    Qwen3NextForCausalLM,
)

from moored.errors import ModelError
from moored.huggingface.models import (
    ModelSource,
    copy_companions,
    load_model,
    require_same_tensors,
    require_writable,
    write_back,
)
from moored.huggingface.models.conversion import Conversion
from moored.huggingface.models.weights import stored_tensors


def _rewrite(folder, change):
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    return folder


def _gpt2():
    return GPT2LMHeadModel(GPT2Config(vocab_size=384, n_embd=16, n_layer=2, n_head=2))


def _mixtral():
    return MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=2, num_experts_per_tok=1))


def _nemotron():
    layers = ["mamba", "attention", "moe"]
    sizes = {**SIZES, "num_hidden_layers": 3, "mamba_num_heads": 4, "mamba_head_dim": 8, "ssm_state_size": 8}
    experts = {"n_routed_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8}
    experts |= {"moe_shared_expert_intermediate_size": 8}
    return NemotronHForCausalLM(NemotronHConfig(**sizes, **experts, layers_block_type=layers))


def _qwen3_next():
    heads = {"linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8}
    heads |= {"linear_value_head_dim": 8, "layer_types": ["linear_attention", "full_attention"]}
    experts = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8}
    return Qwen3NextForCausalLM(Qwen3NextConfig(**SIZES, **heads, **experts, shared_expert_intermediate_size=8))


FAMILIES = {
    "plain": tiny_model,
    "tied": lambda: tiny_model("gemma"),
    "in x out": _gpt2,
    "experts fused in memory": _mixtral,
    "renamed in memory": _nemotron,
    "hybrid": _qwen3_next,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_transformers_wrote_comes_out_whole_and_in_its_precisions(tmp_path, family):
    start = FAMILIES[family]().to(torch.bfloat16)
    for name, parameter in start.named_parameters():
        if "norm" in name:
            parameter.data = parameter.data.float()
    start.save_pretrained(tmp_path / "start", max_shard_size="20KB")
    model, left = _moved_and_written(tmp_path)
    assert left == []
    expected = {name: tensor.bfloat16().float() for name, tensor in model.state_dict().items() if "norm" not in name}
    again = load_model(ModelSource(str(tmp_path / "out"))).state_dict()
    for name, tensor in expected.items():
        torch.testing.assert_close(again[name], tensor, rtol=0, atol=0)


def _moved_and_written(folder):
    """Loads a checkpoint, moves every parameter, and writes it back."""
    start, out = folder / "start", folder / "out"
    out.mkdir()
    require_writable(str(start))
    model = load_model(ModelSource(str(start)))
    for parameter in model.parameters():
        parameter.data += 1.0
    copy_companions(start, out)
    left = write_back(model, start, out)
    assert stored_tensors(out) == stored_tensors(start)
    return model, left


@pytest.mark.parametrize(
    ("family", "extra"),
    [
        ("plain", "v_head.summary.weight"),
        ("plain", "model.visual.blocks.0.attn.qkv.weight"),
        ("hybrid", "mtp.fc.weight"),  # transformers does not mention it
        ("experts fused in memory", "vision_tower.patch.weight"),
    ],
)
def test_a_tensor_that_the_model_does_not_read_is_written_as_it_was(tmp_path, family, extra):
    FAMILIES[family]().save_pretrained(tmp_path / "start")
    _rewrite(tmp_path / "start", lambda tensors: {**tensors, extra: torch.arange(4.0).view(2, 2)})
    _, left = _moved_and_written(tmp_path)
    assert left == [extra]
    torch.testing.assert_close(load_file(tmp_path / "out" / "model.safetensors")[extra], torch.arange(4.0).view(2, 2))


def test_a_quantized_checkpoint_is_refused(tmp_path):
    config = json.loads((save_tiny(tmp_path) / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="is quantized, so its weights cannot be moved"):
        require_writable(str(tmp_path))


def _repeated_head(tensors):
    return {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}


def _old_frequencies(tensors):
    return {**tensors, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}


def _headless_names(tensors):
    """As the first GPT-2 checkpoints have them, with their masks."""
    old = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    return {**old, "h.0.attn.masked_bias": torch.tensor(-1e4)}


@pytest.mark.parametrize(
    ("family", "change", "left"),
    [
        ("tied", _repeated_head, []),
        ("plain", _old_frequencies, ["model.layers.0.self_attn.rotary_emb.inv_freq"]),
        ("in x out", _headless_names, ["h.0.attn.masked_bias"]),
    ],
)
def test_what_models_compute_share_or_prefix_is_not_lost(tmp_path, family, change, left):
    FAMILIES[family]().save_pretrained(tmp_path / "start")
    _rewrite(tmp_path / "start", change)
    model, kept = _moved_and_written(tmp_path)
    assert kept == left
    again = load_model(ModelSource(str(tmp_path / "out")))
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda tensor: None, "is missing from what was written"),
        (lambda tensor: tensor.bfloat16(), r"was not written as it was \(\(16,\) F32 and \(16,\) BF16\)"),
        (lambda tensor: tensor.repeat(2), r"was not written as it was \(\(16,\) F32 and \(32,\) F32\)"),
    ],
)
def test_what_was_written_otherwise_than_it_was_is_named(tmp_path, change, match):
    start = save_tiny(tmp_path / "start")
    (tmp_path / "out").mkdir()
    copy_companions(start, tmp_path / "out", weights=True)
    require_same_tensors(start, tmp_path / "out")

    def changed(tensors):
        new = {name: change(t) if name == "model.norm.weight" else t for name, t in tensors.items()}
        return {name: tensor for name, tensor in new.items() if tensor is not None}

    _rewrite(tmp_path / "out", changed)
    with pytest.raises(ModelError, match=rf"^model\.norm\.weight of .*start {match}"):
        require_same_tensors(start, tmp_path / "out")


def test_a_tensor_that_cannot_be_written_under_its_name_is_refused(tmp_path, monkeypatch):
    start = save_tiny(tmp_path / "start")
    model = load_model(ModelSource(str(start)))
    monkeypatch.setattr(Conversion, "as_stored", lambda self, stored: None)
    with pytest.raises(ModelError, match=r"would be written otherwise by transformers' LlamaForCausalLM; repair"):
        write_back(model, start, tmp_path)
