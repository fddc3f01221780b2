"""A folded adapter gives the logits that it gives unfolded, or is refused."""

import warnings
from typing import Any

import pytest
import torch
from peft import LoHaConfig, LoraConfig, PeftModel, get_peft_model
from tests.tiny import SIZES, tiny_model
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from moored.errors import ModelError
from moored.huggingface.models import ModelSource, load_model
from moored.huggingface.models import fold as folding

IDS = torch.arange(5, 60).unsqueeze(0)
FAMILIES = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=384, n_embd=16, n_layer=2, n_head=2)),
    "gemma": lambda: tiny_model("gemma"),
    "untied": tiny_model,
}


def _source(folder, family, config, *, dtype=torch.float32, size=0.2):
    """A tiny base and an adapter over it, as a source, and the logits under the adapter."""
    with warnings.catch_warnings(action="ignore"):
        return _made(folder, family, config, dtype, size)


def _made(folder, family, config, dtype, size):
    torch.manual_seed(0)
    FAMILIES[family]().to(dtype).save_pretrained(folder / "base")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder / "base"), config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += (size * torch.randn_like(parameter.data.float())).to(parameter.dtype)
    model.save_pretrained(folder / "adapter", save_embedding_layers=False)
    plain = AutoModelForCausalLM.from_pretrained(folder / "base")
    under = PeftModel.from_pretrained(plain, folder / "adapter").eval()
    with torch.no_grad():
        return ModelSource(str(folder / "base"), folder / "adapter"), under(IDS).logits


def _lora(*targets, **settings):
    return LoraConfig(r=4, lora_alpha=8, target_modules=list(targets), task_type="CAUSAL_LM", **settings)


ENDS = {
    "llama": ("q_proj", "embed_tokens", "lm_head"),
    "gemma": ("q_proj", "embed_tokens", "lm_head"),
    "untied": ("q_proj", "embed_tokens", "lm_head"),
    "gpt2": ("c_attn", "wte", "lm_head"),
}


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to:UserWarning")
@pytest.mark.parametrize("ends", [(0, 1), (0, 2), (0, 1, 2)], ids=["embedding", "head", "both"])
@pytest.mark.parametrize("family", ENDS)
def test_an_adapter_on_an_end_that_is_tied_moves_that_end_alone(tmp_path, family, ends):
    source, wanted = _source(tmp_path, family, _lora(*(ENDS[family][end] for end in ends)))
    folded = load_model(source, merge=True)
    torch.testing.assert_close(folded(IDS).logits, wanted, rtol=1e-4, atol=1e-4)
    # Nor do the ends come together again, in memory or in files.
    folded.tie_weights()
    torch.testing.assert_close(folded(IDS).logits, wanted, rtol=1e-4, atol=1e-4)
    folded.save_pretrained(tmp_path / "merged")
    merged = load_model(ModelSource(str(tmp_path / "merged")))
    torch.testing.assert_close(merged(IDS).logits, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "config",
    [
        LoHaConfig(r=2, target_modules=["lm_head", "q_proj"], task_type="CAUSAL_LM"),
        _lora("q_proj", modules_to_save=["lm_head"]),
        _lora("q_proj", trainable_token_indices=[5, 6, 7]),
        _lora("q_proj", "lm_head", use_dora=True),
    ],
    ids=["another method", "a whole head", "some tokens", "dora"],
)
def test_other_adapters_on_tied_ends_fold_exactly(tmp_path, config):
    source, wanted = _source(tmp_path, "llama", config)
    torch.testing.assert_close(load_model(source, merge=True)(IDS).logits, wanted, rtol=1e-4, atol=1e-4)


def test_ends_that_no_adapter_moves_stay_tied(tmp_path):
    source, wanted = _source(tmp_path, "llama", _lora("q_proj"))
    folded: Any = load_model(source, merge=True)
    assert folded.get_input_embeddings().weight is folded.get_output_embeddings().weight
    assert folded.config.tie_word_embeddings and folded.all_tied_weights_keys
    torch.testing.assert_close(folded(IDS).logits, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [0.2, 1.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_to_half_precision_is_no_difference(tmp_path, dtype, size):
    source, _ = _source(tmp_path, "untied", _lora("q_proj", "down_proj", "lm_head"), dtype=dtype, size=size)
    assert load_model(source, dtype=dtype, merge=True).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_adapter_that_folds_wrongly_is_refused(tmp_path, monkeypatch, dtype):
    source, _ = _source(tmp_path, "llama", _lora("q_proj", "lm_head"), dtype=dtype)
    monkeypatch.setattr(folding, "_untie", lambda model: None)
    match = r"adapter .*adapter cannot be folded .* move by [\d.]+, where rounding explains [\d.]+ at most; merge"
    with pytest.raises(ModelError, match=match):
        load_model(source, dtype=dtype, merge=True)


def test_a_folded_model_whose_logits_are_no_numbers_is_refused(tmp_path, monkeypatch):
    source, _ = _source(tmp_path, "untied", _lora("q_proj"))
    logits = folding._logits
    monkeypatch.setattr(folding, "_logits", lambda m: logits(m) * (1.0 if isinstance(m, PeftModel) else torch.nan))
    with pytest.raises(ModelError, match="logits move by nan"):
        load_model(source, merge=True)
