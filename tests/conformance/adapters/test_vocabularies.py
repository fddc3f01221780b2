"""Adapters trained with another vocabulary than their base's, and tokenizers that name tokens which a model lacks."""

import pytest
from tests.conformance.adapters.kinds import ONE_SHOT, Ways, lora, not_by_formula, quietly, refused
from tests.conformance.cases import case
from tests.tiny import CHATML, tiny_tokenizer

from moored.errors import ModelError
from moored.workflows.measure.run import measure
from moored.workflows.recover.run import repair

_BOTH = ["embed_tokens", "lm_head"]
_HEAD, _EMBED = ["lm_head", "q_proj"], ["embed_tokens", "q_proj"]


GROWN = [
    not_by_formula(
        "LoRA on lm_head, saved with its weight", "llama", lora(target_modules=_HEAD), None, "auto", fast=True
    ),
    not_by_formula(
        "LoRA on lm_head, saved with its weight, tied", "tied llama", lora(target_modules=_HEAD), None, "auto"
    ),
    not_by_formula("LoRA on embed_tokens, saved with its weight", "llama", lora(target_modules=_EMBED), None, "auto"),
    not_by_formula("two new tokens, saved by PEFT's own choice", "llama", lora(), 386, True, fast=True),
    not_by_formula("two new tokens, tied ends", "tied llama", lora(), 386, True),
    not_by_formula("two new tokens, Gemma", "gemma", lora(), 386, True),
    not_by_formula("two new tokens, GPT-2", "gpt2", lora(target_modules=["c_attn"]), 386, True),
    not_by_formula("two new tokens, modules_to_save", "llama", lora(modules_to_save=_BOTH), 386, False, fast=True),
    not_by_formula("two new tokens, modules_to_save, tied", "tied llama", lora(modules_to_save=_BOTH), 386, False),
    not_by_formula("a vocabulary padded to a multiple of 64", "llama", lora(), 448, True),
    not_by_formula("a vocabulary that was shrunk", "llama", lora(), 383, True),
]


@pytest.mark.parametrize(("base", "config", "size", "saved", "formula"), GROWN)
def test_an_adapter_brings_its_vocabulary(shelf, tmp_path, monkeypatch, base, config, size, saved, formula):
    trained = shelf.train(base, config, vocabulary=size, save_embedding_layers=saved)
    Ways(trained, tmp_path).all(formula, monkeypatch)


@pytest.mark.parametrize("targets", [case("two new tokens, LoRA on lm_head", ["lm_head", "q_proj"], outcome="refused")])
def test_rows_that_peft_does_not_save_are_refused(shelf, tmp_path, targets):
    """PEFT saves the weight under the adapter, and forgets the other end."""
    trained = shelf.train("llama", lora(target_modules=targets), vocabulary=386, save_embedding_layers=True)
    refused(trained, r"lacks the new rows of model\.embed_tokens", tmp_path)


def _without(part):
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if part not in name}


@pytest.mark.parametrize(
    ("part", "match"),
    [
        case("new tokens without the head's rows", "lm_head", "lacks the new rows of lm_head", outcome="refused"),
        case(
            "new tokens without the embedding's rows",
            "embed_tokens",
            r"lacks the new rows of model\.embed_tokens; save it again with all embeddings",
            outcome="refused",
            fast=True,
        ),
    ],
)
def test_rows_that_nobody_has_are_refused(shelf, tmp_path, part, match):
    trained = shelf.train("llama", lora(), vocabulary=386, save_embedding_layers=True)
    refused(shelf.variant(trained, tmp_path / "adapter", tensors=_without(part)), match, tmp_path)


_SMALL = {"limit": 2, "max_new_tokens": 3, "task": "none", "drift_prompts": 2}


@pytest.mark.parametrize(
    "size", [case("measured against a base with fewer tokens", 386, fast=True), case("with more", 383)]
)
def test_drift_is_measured_on_the_tokens_that_both_models_have(shelf, size):
    trained = shelf.train("llama", lora(), vocabulary=size, save_embedding_layers=True)
    with quietly():
        report = measure(str(trained.base), adapter=trained.adapter, **_SMALL)
    assert report.against is not None


def _tokenizer_beyond(size):
    """A tokenizer whose template uses a token that its model does not have."""
    tokenizer = tiny_tokenizer(CHATML.replace("<|im_start|>", "<|turn|>"))
    names = [f"<|x{number}|>" for number in range(size - len(tokenizer))]
    tokenizer.add_special_tokens({"additional_special_tokens": [*names, "<|turn|>"]})
    return tokenizer


@pytest.mark.parametrize(
    "size", [case("a template whose tokens lie beyond the vocabulary", 400, outcome="refused", fast=True)]
)
def test_tokens_beyond_the_vocabulary_are_refused(shelf, tmp_path, size):
    trained = shelf.variant(shelf.train("llama", lora()), tmp_path / "adapter")
    _tokenizer_beyond(size).save_pretrained(trained.adapter)
    match = r"gives the token 400, which lies beyond the 384 tokens of"
    with quietly(), pytest.raises(ModelError, match=match):
        repair(ONE_SHOT, str(trained.base), adapter=trained.adapter, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with quietly(), pytest.raises(ModelError, match=match):
        measure(str(trained.base), adapter=trained.adapter, **_SMALL)


@pytest.mark.parametrize("size", [case("a tokenizer with more tokens than the model, which no prompt uses", 386)])
def test_tokens_that_are_not_used_do_no_harm(shelf, tmp_path, monkeypatch, size):
    trained = shelf.variant(shelf.train("llama", lora()), tmp_path / "adapter")
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|a|>", "<|b|>"]})
    tokenizer.save_pretrained(trained.adapter)
    Ways(trained, tmp_path).all(None, monkeypatch)
