from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tests.adapters import save_adapter
from tests.tiny import KINDS, save_tiny, tiny_model
from transformers import LlamaForCausalLM

from moored.errors import ModelError
from moored.huggingface.models import ModelSource, load, load_model

IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture
def model(tmp_path):
    return save_tiny(tmp_path / "model")


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_laid_over_the_checkpoint_or_folded_in(tmp_path, kind):
    source = ModelSource(str(save_tiny(tmp_path / "model", kind)), save_adapter(tmp_path / "adapter", kind))
    laid, folded = load_model(source), load_model(source, merge=True)
    assert isinstance(laid, PeftModel) and not isinstance(folded, PeftModel)
    plain = load_model(ModelSource(source.path))
    assert not torch.allclose(laid(IDS).logits, plain(IDS).logits, atol=1e-2)
    torch.testing.assert_close(folded(IDS).logits, laid(IDS).logits, rtol=1e-4, atol=1e-4)
    assert torch.equal(plain(IDS).logits, tiny_model(kind)(IDS).logits)


def test_what_is_trainable_is_the_adapter_or_everything_or_nothing(tmp_path, model):
    adapter = save_adapter(tmp_path / "adapter")
    base, adapted = ModelSource(str(model)), ModelSource(str(model), adapter)

    def moving(source, **how):
        loaded = load_model(source, **how)
        assert loaded.training == how.get("trainable", False)
        return {name for name, parameter in loaded.named_parameters() if parameter.requires_grad}

    everything = {name for name, _ in tiny_model().named_parameters()}
    assert moving(base) == moving(adapted) == moving(adapted, merge=True) == set()
    assert moving(base, trainable=True) == moving(adapted, merge=True, trainable=True) == everything
    assert all(".lora_" in name for name in moving(adapted, trainable=True))
    assert len(moving(adapted, trainable=True)) == 12


@pytest.mark.parametrize("native", [True, False])
def test_the_precision_is_the_one_asked_for_or_the_checkpoint_s_own_where_that_is_fast(tmp_path, monkeypatch, native):
    monkeypatch.setattr(load, "bf16_is_native", lambda: native)
    tiny_model().to(torch.bfloat16).save_pretrained(tmp_path / "half")
    half, full = ModelSource(str(tmp_path / "half")), ModelSource(str(save_tiny(tmp_path / "full")))
    assert load_model(half).dtype == torch.float32
    assert load_model(half, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert load_model(half, dtype="auto").dtype == (torch.bfloat16 if native else torch.float32)
    assert load_model(full, dtype="auto").dtype == torch.float32


def test_an_adapter_that_is_not_finite_is_named(tmp_path, model):
    adapter = save_adapter(tmp_path / "adapter")
    file = adapter / "adapter_model.safetensors"
    save_file({name: tensor * float("nan") for name, tensor in load_file(file).items()}, file)
    with pytest.raises(ModelError, match=r"lora_A\.weight in .*adapter holds NaN"):
        load_model(ModelSource(str(model), adapter))


def test_a_pickled_adapter_is_refused(tmp_path, model):
    adapter = save_adapter(tmp_path / "adapter")
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"pickled weights \(adapter_model\.bin\)"):
        load_model(ModelSource(str(model), adapter))


def test_an_adapter_for_another_base_is_refused(tmp_path, model):
    other = save_adapter(tmp_path / "adapter", "gemma", target_modules="all-linear")
    file = other / "adapter_model.safetensors"
    wide = {name: tensor.repeat(1, 2) if "lora_A" in name else tensor for name, tensor in load_file(file).items()}
    save_file(wide, file)
    with pytest.raises(
        ModelError,
        match=r"for another base: .*lora_A.weight is \(2, 32\), where this model needs \(2, 16\)",
    ):
        load_model(ModelSource(str(model), other))


@pytest.mark.parametrize("wrapper", ["_orig_mod", "module"])
def test_an_adapter_that_peft_would_leave_out_is_refused(tmp_path, model, wrapper):
    adapter = save_adapter(tmp_path / "adapter")
    file = adapter / "adapter_model.safetensors"
    renamed = {
        name.replace("base_model.model", f"base_model.model.{wrapper}", 1): t for name, t in load_file(file).items()
    }
    save_file(renamed, file)
    with pytest.raises(
        ModelError, match=rf"names its tensors otherwise than PEFT does \(base_model\.model\.{wrapper}\."
    ):
        load_model(ModelSource(str(model), adapter))


def test_a_folder_that_is_no_adapter_is_named(tmp_path, model):
    with pytest.raises(ModelError, match=r"holds no adapter_config\.json"):
        load_model(ModelSource(str(model), tmp_path))


def test_a_source_is_described_by_what_was_typed():
    assert ModelSource("/cache/x", name="embedded:base").describe() == "embedded:base"
    assert ModelSource("m", Path("a")).describe() == "m + a"
    assert ModelSource("m", Path("a"), name="a").describe() == "a"


@pytest.mark.parametrize("was_quantized", [False, True])
def test_what_transformers_keeps_in_fp32_stays_in_fp32(monkeypatch, model, was_quantized):
    monkeypatch.setattr(LlamaForCausalLM, "_keep_in_fp32_modules_strict", ["input_layernorm"])
    if was_quantized:
        dequantized = LlamaForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
        monkeypatch.setattr(load, "quantization", lambda config: {})
        monkeypatch.setattr(load, "load_checkpoint", lambda path, dtype: dequantized)
    loaded = load_model(ModelSource(str(model)), dtype=torch.float16)
    kept = {name for name, tensor in loaded.named_parameters() if tensor.dtype == torch.float32}
    assert kept == {f"model.layers.{layer}.input_layernorm.weight" for layer in range(2)}
    assert {tensor.dtype for _, tensor in loaded.named_parameters()} == {torch.float16, torch.float32}
    assert loaded.model.rotary_emb.inv_freq.dtype == torch.float32
