import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.tiny import tiny_model
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from moored.huggingface.models import plain_name

QUERY = "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("wrapped", "plain"),
    [
        (f"{QUERY}.weight", f"{QUERY}.weight"),
        (f"base_model.model.{QUERY}.base_layer.weight", f"{QUERY}.weight"),
        (f"base_model.model.{QUERY}.lora_A.default.weight", f"{QUERY}.lora_A.weight"),
        (f"base_model.model.{QUERY}.lora_A.weight", f"{QUERY}.lora_A.weight"),
        (f"base_model.model.{QUERY}.lora_B.default.bias", f"{QUERY}.lora_B.bias"),
        (f"base_model.model.{QUERY}.lora_magnitude_vector.default.weight", f"{QUERY}.lora_magnitude_vector.weight"),
        ("base_model.model.model.embed_tokens.lora_embedding_A.other", "model.embed_tokens.lora_embedding_A"),
        ("base_model.model.model.embed_tokens.lora_embedding_A", "model.embed_tokens.lora_embedding_A"),
        ("base_model.model.lm_head.modules_to_save.default.weight", "lm_head.weight"),
        ("base_model.model.lm_head.original_module.weight", "lm_head.original_module.weight"),
        (f"module.{QUERY}.weight", f"{QUERY}.weight"),
        (f"_orig_mod.module.base_model.model.{QUERY}.base_layer.weight", f"{QUERY}.weight"),
        (f"module._orig_mod.{QUERY}.weight", f"{QUERY}.weight"),
        ("model.layers.0._checkpoint_wrapped_module.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
        ("_fsdp_wrapped_module.model.layers.0._fsdp_wrapped_module.norm.weight", "model.layers.0.norm.weight"),
        ("model.layers.0._orig_mod.self_attn.o_proj.bias", "model.layers.0.self_attn.o_proj.bias"),
        ("model.module.gate.weight", "model.module.gate.weight"),
        ("module.model.module.gate.weight", "model.module.gate.weight"),
        ("model.my_module.weight", "model.my_module.weight"),
        ("model.submodule.base_layers.0.weight", "model.submodule.base_layers.0.weight"),
        ("", ""),
    ],
)
def test_a_name_loses_its_wrappers_and_nothing_else(wrapped, plain):
    assert plain_name(wrapped) == plain
    assert plain_name(plain) == plain


def test_real_wrappers_give_the_checkpoint_s_names():
    """A second source of the names: the wrappers themselves, one around the other."""
    names = {name for name, _ in tiny_model().named_parameters()}
    lora = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    model = get_peft_model(tiny_model(), lora, adapter_name="mine")
    layers = model.get_base_model().model.layers
    layers[0] = checkpoint_wrapper(layers[0])
    layers[1] = torch.compile(layers[1])
    wrapped = torch.compile(nn.DataParallel(model))
    found = [plain_name(name) for name, _ in wrapped.named_parameters()]
    assert len(found) == len(set(found))
    factors = {f"model.layers.{at}.self_attn.q_proj.lora_{ab}.weight" for at in (0, 1) for ab in "AB"}
    assert set(found) == names | factors | {"lm_head.original_module.weight"}
