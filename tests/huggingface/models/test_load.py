import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tests.adapters import save_adapter
from tests.tiny import KINDS, save_tiny, tiny_model, tiny_tokenizer
from transformers import LlamaForCausalLM

from moored.errors import ModelError
from moored.huggingface.models import ModelSource, adapter_base, load, load_model, load_tokenizer, require_chat_template

IDS = torch.tensor([[5, 6, 7, 8]])


def _change(folder, name, change):
    """Rewrites one tensor of a checkpoint."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors[name] = change(tensors[name])
    save_file(tensors, file, metadata={"format": "pt"})


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


@pytest.mark.parametrize("has_kernels", [True, False])
def test_bf16_is_native_where_the_processor_has_kernels_for_it(monkeypatch, has_kernels):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has_kernels, raising=False)
    assert load.bf16_is_native() is has_kernels
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert load.bf16_is_native() is False
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert load.bf16_is_native() is True


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(model, bad):
    _change(model, "model.layers.1.mlp.up_proj.weight", lambda tensor: tensor.index_fill(0, torch.tensor([3]), bad))
    with pytest.raises(ModelError, match=r"^model\.layers\.1\.mlp\.up_proj\.weight in .*model holds NaN or infinity"):
        load_model(ModelSource(str(model)))


def test_an_adapter_that_is_not_finite_is_named(tmp_path, model):
    adapter = save_adapter(tmp_path / "adapter")
    file = adapter / "adapter_model.safetensors"
    save_file({name: tensor * float("nan") for name, tensor in load_file(file).items()}, file)
    with pytest.raises(ModelError, match=r"lora_A\.weight in .*adapter holds NaN"):
        load_model(ModelSource(str(model), adapter))


def test_each_weight_is_read_once(model, monkeypatch):
    """The check looks at what was loaded: reading a large checkpoint twice takes minutes."""
    from moored.huggingface.models import load, weights

    def refuse(*_):
        raise AssertionError("the checkpoint was read a second time")

    monkeypatch.setattr(weights, "iterate_file", refuse)
    monkeypatch.setattr(load, "require_finite", refuse)
    load_model(ModelSource(str(model)))


def test_pickled_weights_are_refused_before_anything_is_loaded(model, monkeypatch):
    from moored.huggingface.models import load

    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    monkeypatch.setattr(load, "AutoModelForCausalLM", None)
    with pytest.raises(ModelError, match=r"pickled weights \(pytorch_model\.bin\)"):
        load_model(ModelSource(str(model)))


def test_a_pickled_adapter_is_refused(tmp_path, model):
    adapter = save_adapter(tmp_path / "adapter")
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"pickled weights \(adapter_model\.bin\)"):
        load_model(ModelSource(str(model), adapter))


def test_a_truncated_checkpoint_is_one_sentence(model):
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"Cannot load .*model as a causal language model") as raised:
        load_model(ModelSource(str(model)))
    assert "\n" not in str(raised.value)


def test_a_checkpoint_that_lacks_weights_is_refused_instead_of_filled_with_random_numbers(model):
    file = model / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.0.mlp.up_proj.weight"], tensors["model.norm.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 2 weights \(model\.layers\.0\.mlp\.up_proj\.weight, say\)"):
        load_model(ModelSource(str(model)))


def test_a_tied_head_is_not_missing(tmp_path):
    folder = save_tiny(tmp_path / "gemma", "gemma")
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    load_model(ModelSource(str(folder)))


def test_weights_of_another_shape_than_the_configuration_s_are_one_sentence(model):
    _change(model, "model.norm.weight", lambda tensor: tensor.repeat(2))
    with pytest.raises(ModelError, match=r"weights in .* do not fit its config\.json"):
        load_model(ModelSource(str(model)))


@pytest.mark.parametrize("config", ["{", '{"model_type": "unheard_of"}', '{"model_type": "llama", "hidden_size": "x"}'])
def test_a_broken_configuration_is_one_sentence(model, config):
    (model / "config.json").write_text(config)
    with pytest.raises(ModelError, match="Cannot load") as raised:
        load_model(ModelSource(str(model)))
    assert "\n" not in str(raised.value)


def test_a_name_that_is_nowhere_is_one_sentence(tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for name, why in (
        ("nobody/nothing", "not in the Hub cache, and HF_HUB_OFFLINE=1 forbids a download"),
        (str(tmp_path / "absent"), "and no name that the Hub could know"),
    ):
        with pytest.raises(ModelError, match=rf"Cannot load .*no folder here, {why}"):
            load_model(ModelSource(name))
        with pytest.raises(ModelError, match=rf"Cannot load the tokenizer of .*no folder here, {why}"):
            load_tokenizer(ModelSource(name))
    with pytest.raises(ModelError, match=r"Cannot load the tokenizer of \(no name\)"):
        load_tokenizer(ModelSource(""))


def test_a_folder_without_a_tokenizer_is_one_sentence(model):
    for file in model.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match=r"put its tokenizer files there.*[^:. ]\.$"):
        load_tokenizer(ModelSource(str(model)))


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


def test_the_tokenizer_beside_the_adapter_counts(tmp_path, model):
    adapter = save_adapter(tmp_path / "adapter")
    assert load_tokenizer(ModelSource(str(model), adapter)).chat_template == tiny_tokenizer().chat_template
    tiny_tokenizer("{{ messages[0].content }}").save_pretrained(adapter)
    assert load_tokenizer(ModelSource(str(model), adapter)).chat_template == "{{ messages[0].content }}"


def test_a_tokenizer_without_padding_pads_with_its_end(model):
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(model)
    assert load_tokenizer(ModelSource(str(model))).pad_token == "<|im_end|>"


def test_a_tokenizer_that_can_neither_pad_nor_end_is_refused(model):
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token = None
    tokenizer.save_pretrained(model)
    with pytest.raises(ModelError, match="names neither a padding nor an end token"):
        load_tokenizer(ModelSource(str(model)))


def test_a_tokenizer_that_cannot_render_a_chat_is_refused():
    require_chat_template(tiny_tokenizer(), "here")
    with pytest.raises(ModelError, match="tokenizer of here has no chat template"):
        require_chat_template(tiny_tokenizer(None), "here")


def test_the_base_of_an_adapter_is_the_one_it_names(tmp_path):
    assert adapter_base(save_adapter(tmp_path / "adapter", base="org/base")) == "org/base"
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": None}))
    with pytest.raises(ModelError, match="names no base"):
        adapter_base(tmp_path / "adapter")


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
        monkeypatch.setattr(load, "_load_checkpoint", lambda path, dtype: dequantized)
    loaded = load_model(ModelSource(str(model)), dtype=torch.float16)
    kept = {name for name, tensor in loaded.named_parameters() if tensor.dtype == torch.float32}
    assert kept == {f"model.layers.{layer}.input_layernorm.weight" for layer in range(2)}
    assert {tensor.dtype for _, tensor in loaded.named_parameters()} == {torch.float16, torch.float32}
    assert loaded.model.rotary_emb.inv_freq.dtype == torch.float32
