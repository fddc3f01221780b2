import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from tests.adapters import save_adapter
from tests.tiny import KINDS, save_tiny
from transformers import GPT2Config, GPT2LMHeadModel

from moored.errors import ModelError
from moored.huggingface.models import FoldedWeights, ModelSource, difference, iterate_weights, load_model


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_those_of_the_merged_model(tmp_path, kind):
    base = save_tiny(tmp_path / "base", kind)
    source = ModelSource(str(base), save_adapter(tmp_path / "adapter", kind, dtype=torch.bfloat16))
    folded, merged = FoldedWeights(source), load_model(source, merge=True).state_dict()
    for name, _ in iterate_weights(base):
        torch.testing.assert_close(folded.read(name), merged[name], rtol=1e-5, atol=1e-6)


def test_weights_that_are_kept_transposed_stay_so(tmp_path):
    model = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=8, n_layer=1, n_head=2, n_positions=16))
    model.save_pretrained(tmp_path / "base")
    config = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False)
    get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    plain = GPT2LMHeadModel.from_pretrained(tmp_path / "base")
    merged = PeftModel.from_pretrained(plain, tmp_path / "adapter").merge_and_unload().state_dict()
    name = "transformer.h.0.attn.c_attn.weight"
    found = FoldedWeights(ModelSource(str(tmp_path / "base"), tmp_path / "adapter")).read(name)
    assert found.shape == (8, 24)
    torch.testing.assert_close(found, merged[name])


def test_a_difference_of_shapes_is_named(tmp_path):
    one, other = (
        FoldedWeights(ModelSource(str(save_tiny(tmp_path / str(size), hidden_size=size)))) for size in (16, 32)
    )
    with pytest.raises(ModelError, match=r"are not of one architecture: model.norm.weight is \(16,\) and \(32,\)"):
        difference(one, other, "model.norm.weight")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float8_e4m3fn])
def test_quantized_weights_are_refused(tmp_path, dtype):
    save_file({"w.weight": torch.ones(2, 2).to(dtype)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="is quantized"):
        FoldedWeights(ModelSource(str(tmp_path))).read("w.weight")
