"""Every tensor of an adapter finds its place in the base, and every place its tensor, or a sentence says why not."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tests.adapters import LORA, save_adapter
from tests.tiny import KINDS, save_tiny, tiny_model
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from moored.errors import ModelError
from moored.huggingface.models import ModelSource, lay_over, load_model, require_fit


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_fits_its_own_base(tmp_path, kind):
    adapter = save_adapter(tmp_path / "adapter", kind, target_modules="all-linear")
    lay_over(tiny_model(kind), adapter)
    require_fit(ModelSource(str(save_tiny(tmp_path / "base", kind)), adapter))


def test_an_adapter_fits_layers_that_keep_their_weight_transposed(tmp_path):
    config = GPT2Config(vocab_size=16, n_positions=8, n_embd=4, n_layer=1, n_head=1)
    adapted = get_peft_model(GPT2LMHeadModel(config), LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True))
    adapted.save_pretrained(tmp_path / "adapter")
    lay_over(GPT2LMHeadModel(config), tmp_path / "adapter")
    with pytest.raises(ModelError, match="for another base"):
        lay_over(GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=16)), tmp_path / "adapter")


def _rewrite(adapter, change):
    file = adapter / "adapter_model.safetensors"
    save_file(change(load_file(file)), file)


def _without(*parts):
    return lambda tensors: {name: t for name, t in tensors.items() if not all(part in name for part in parts)}


def _renamed(old, new):
    return lambda tensors: {name.replace(old, new, 1): t for name, t in tensors.items()}


@pytest.mark.parametrize(
    ("settings", "change", "match"),
    [
        ({}, _without("layers.1", "v_proj"), r"lacks 2 of the tensors .* \(model\.layers\.1\.self_attn\.v_proj\."),
        ({}, _without("lora_B"), r"lacks 6 of the tensors .*q_proj\.lora_B\.weight, say\); fetch it again"),
        ({}, _renamed("v_proj", "k_proj"), r"holds tensors of model\.layers\.0\.self_attn\.k_proj, which .* not name"),
        ({}, _renamed("layers.1", "layers.7"), r"for another base: this model has no module model\.layers\.7\.mlp"),
        ({}, _renamed("model.model.", "model._orig_mod.model."), "names its tensors otherwise than PEFT does"),
        ({}, _renamed("base_model.model.", ""), r"names its tensors otherwise than PEFT does \(model\.layers"),
        ({}, _renamed("base_model.model.model", "base_model.model"), "names its tensors otherwise than PEFT does"),
        ({"modules_to_save": ["lm_head"]}, _without("lm_head"), r"lacks lm_head\.weight, which its"),
        ({}, lambda tensors: {**tensors, "extra": torch.ones(1)}, "holds extra, which has no place in this model"),
        (
            {"kind": "qwen2", "bias": "all"},
            _without("layers.0", "q_proj", "bias"),
            r"lacks model\.layers\.0.*q_proj\.bias",
        ),
    ],
)
def test_a_tensor_without_a_place_or_a_place_without_a_tensor_is_named(tmp_path, settings, change, match):
    adapter, kind = save_adapter(tmp_path / "adapter", **settings), settings.get("kind", "llama")
    _rewrite(adapter, change)
    source = ModelSource(str(save_tiny(tmp_path / "base", kind)), adapter)
    for read in (require_fit, load_model, lambda each: load_model(each, merge=True)):
        with pytest.raises(ModelError, match=rf"^The adapter .*adapter .*{match}.*\.$"):
            read(source)


@pytest.mark.parametrize(
    ("targets", "match"),
    [
        (None, "holds tensors of"),
        (r".*\.k_proj", "holds tensors of"),
        (["nothing"], "for another base: Target modules"),
    ],
)
def test_target_modules_that_miss_what_the_file_holds_are_refused(tmp_path, targets, match):
    file = save_adapter(tmp_path / "adapter") / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "target_modules": targets}))
    if targets is None:
        # Which PEFT takes for the usual ones of a family: q_proj and v_proj here.
        assert "down_proj" in LORA["target_modules"]
    with pytest.raises(ModelError, match=match):
        lay_over(tiny_model(), tmp_path / "adapter")


@pytest.mark.parametrize(("target", "shapes"), [("q_proj", r"\(2, 16\).*\(2, 32\)"), ("v_proj", r"\(2, 16\).*")])
def test_the_shapes_of_a_misfit_are_named(tmp_path, target, shapes):
    adapter = save_adapter(tmp_path / "adapter", target_modules=[target])
    with pytest.raises(
        ModelError, match=rf"for another base: model.layers.0.self_attn.{target}.lora_A.weight is {shapes}"
    ):
        lay_over(tiny_model(hidden_size=32), adapter)


def test_a_second_factor_that_does_not_fit_is_named(tmp_path):
    adapter = save_adapter(tmp_path / "adapter", target_modules=["q_proj"])
    _rewrite(adapter, lambda tensors: {name: t.repeat(2, 1) if "lora_B" in name else t for name, t in tensors.items()})
    with pytest.raises(ModelError, match=r"lora_B.weight is \(32, 2\), where this model needs \(16, 2\)"):
        lay_over(tiny_model(), adapter)


def test_a_rank_that_the_file_does_not_have_is_named(tmp_path):
    file = save_adapter(tmp_path / "adapter") / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "r": 4}))
    with pytest.raises(
        ModelError, match=r"lora_A\.weight of the adapter .* has the rank 2, but its .* says 4; correct"
    ):
        lay_over(tiny_model(), tmp_path / "adapter")


def test_a_base_with_fewer_layers_is_another_base(tmp_path):
    adapter, model = save_adapter(tmp_path / "adapter"), tiny_model()
    model.model.layers = model.model.layers[:1]
    with pytest.raises(ModelError, match=r"this model has no module model\.layers\.1\."):
        lay_over(model, adapter)


@pytest.mark.parametrize("size", [388, 380])
@pytest.mark.parametrize("kind", ["llama", "gemma"])
def test_an_adapter_brings_its_vocabulary(tmp_path, kind, size):
    base = save_tiny(tmp_path / "base", kind)
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(size, mean_resizing=False)
    adapted = get_peft_model(model, LoraConfig(**LORA, init_lora_weights=False, task_type="CAUSAL_LM")).eval()
    adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=True)
    ids = torch.arange(300, 380)[None]
    source = ModelSource(str(base), tmp_path / "adapter")
    require_fit(source)
    for merge in (True, False):
        logits = load_model(source, merge=merge)(input_ids=ids).logits
        assert logits.shape[-1] == size
        torch.testing.assert_close(logits, adapted(input_ids=ids).logits, rtol=1e-4, atol=1e-4)


def test_new_tokens_without_their_rows_of_the_head_are_refused(tmp_path):
    base = save_tiny(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(388, mean_resizing=False)
    get_peft_model(model, LoraConfig(**LORA)).save_pretrained(tmp_path / "adapter", save_embedding_layers=True)
    _rewrite(tmp_path / "adapter", _without("lm_head"))
    with pytest.raises(ModelError, match="with a vocabulary of 388 and lacks the new rows of lm_head; save it again"):
        require_fit(ModelSource(str(base), tmp_path / "adapter"))


def test_a_name_with_meta_in_it_hides_no_error(tmp_path):
    base, adapter = save_tiny(tmp_path / "meta-llama"), save_adapter(tmp_path / "adapter")
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "target_modules": ["metadata"]}))
    with pytest.raises(ModelError, match=r"for another base: Target modules .*metadata.* not found in the base model"):
        require_fit(ModelSource(str(base), adapter))
