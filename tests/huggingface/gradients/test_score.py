import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import get_peft_model
from tests.huggingface.gradients.models import (
    ARRANGEMENTS,
    FAMILIES,
    alone,
    assert_equal,
    lora_config,
    make,
    packed,
    padded,
    rows,
)

from moored.huggingface.gradients import score

SOME = ("llama-tied-biases", "gemma2", "mixtral")


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_scores_like_each_sample_alone(family: str, lora: bool, arrangement: str):
    model, samples = make(family, lora=lora), rows()
    assert_equal(score(model, ARRANGEMENTS[arrangement](samples)), alone(model, samples))


@given(chosen=st.lists(st.booleans(), min_size=27, max_size=27), family=st.sampled_from(SOME))
@settings(max_examples=12, deadline=None, derandomize=True)
def test_any_subset_of_the_parameters_can_be_trained(chosen: list[bool], family: str):
    model, samples = make(family), rows()
    for parameter, trained in zip(model.parameters(), [*chosen, True] * 2, strict=False):
        parameter.requires_grad_(trained)
    assert_equal(score(model, padded(samples)), alone(model, samples))


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_the_head_alone_can_be_trained(family: str):
    model, samples = make(family, tie_word_embeddings=False), rows()
    model.requires_grad_(False)
    model.lm_head.weight.requires_grad_(True)
    assert_equal(score(model, padded(samples)), alone(model, samples))


@given(
    lengths=st.lists(st.integers(2, 14), min_size=1, max_size=7),
    prompt=st.integers(0, 1),
    arrangement=st.sampled_from(sorted(ARRANGEMENTS)),
)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_any_lengths_score_alike(lengths: list[int], prompt: int, arrangement: str):
    model, samples = make("gemma3"), rows(tuple(lengths), prompt)
    assert_equal(score(model, ARRANGEMENTS[arrangement](samples)), alone(model, samples), 1e-4)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize("family", SOME)
def test_gradient_checkpointing_changes_nothing(family: str, lora: bool, reentrant: bool):
    model, samples = make(family, lora=lora), rows()
    expected = alone(model, samples)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    model.enable_input_require_grads()
    assert_equal(score(model, padded(samples)), expected)
    runs = _forward_runs(model)
    assert_equal(score(model, padded(samples)), expected)
    assert len(runs) == 2 * model.config.num_hidden_layers, "checkpointing was off"


def _forward_runs(model: Any) -> list[str]:
    """Filled with the name of a layer in each block whenever it runs."""
    runs: list[str] = []
    for name, module in model.named_modules():
        if name.endswith("q_proj"):
            module.register_forward_hook(lambda *_, name=name: runs.append(name))
    return runs


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize("family", SOME)
def test_bf16_scores_within_its_precision(family: str, lora: bool):
    samples = rows()
    model = make(family, lora=lora).bfloat16()
    assert_equal(score(model, padded(samples)), alone(model, samples), 0.03)


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize("family", SOME)
def test_autocast_scores_within_its_precision(family: str, lora: bool):
    model, samples = make(family, lora=lora), rows()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores, expected = score(model, padded(samples)), alone(model, samples)
    assert_equal(scores, expected, 0.03)
    assert scores.norms.dtype == scores.losses.dtype == torch.float32


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_a_row_without_labels_scores_zero(arrangement: str):
    samples = rows()
    samples[1] = (samples[1][0], torch.full_like(samples[1][1], -100))
    model = make("gemma")
    scores = score(model, ARRANGEMENTS[arrangement](samples))
    assert (scores.losses[1], scores.norms[1], scores.lengths[1]) == (0, 0, 0)
    others = [0, 2, 3]
    expected = alone(model, [samples[each] for each in others])
    assert scores.norms[others].tolist() == pytest.approx([each.norm for each in expected], rel=1e-5)


def test_a_batch_without_any_label_scores_zero():
    samples = [(ids, torch.full_like(labels, -100)) for ids, labels in rows()]
    scores = score(make("qwen2"), padded(samples))
    assert not scores.norms.any() and not scores.losses.any() and not scores.lengths.any()


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_lengths_are_the_supervised_tokens(arrangement: str):
    scores = score(make("llama", lora=True), ARRANGEMENTS[arrangement](rows((12, 9, 5, 11), prompt=3)))
    assert scores.lengths.tolist() == [9, 6, 2, 8]


def test_a_documents_first_token_is_not_predicted_by_the_document_before_it():
    samples = rows(prompt=0)
    model = make("llama")
    scores = score(model, packed(samples))
    assert scores.lengths.tolist() == [11, 8, 4, 10]
    assert_equal(scores, alone(model, samples))


def test_several_packed_rows_score_document_by_document():
    samples = rows((5, 7, 8, 4))
    model = make("qwen3")
    halves = [packed(samples[:2]), packed(samples[2:])]
    model.set_attn_implementation("eager")
    both = {key: torch.cat([half[key] for half in halves]) for key in halves[0]}
    assert_equal(score(model, both), alone(model, samples))


def test_a_trained_copy_of_the_head_is_the_one_that_is_scored():
    samples = rows()
    model = make("llama", lora=False)
    adapted = get_peft_model(model, lora_config("llama", modules_to_save=["lm_head", "embed_tokens"]))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "modules_to_save" in name:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    adapted.train()
    assert_equal(score(adapted, padded(samples)), alone(adapted, samples))


def test_large_vocabularies_go_through_in_chunks(monkeypatch: pytest.MonkeyPatch):
    samples = rows()
    for family in ("llama-tied-biases", "gemma2", "llama"):
        model = make(family, lora=family == "llama")
        expected = alone(model, samples)
        for most in (1, 500, 5000):
            monkeypatch.setattr("moored.tensors.output_head._MOST", most)
            assert_equal(score(model, padded(samples)), expected)


def test_scoring_twice_gives_the_same():
    model, batch = make("gemma2", lora=True), padded(rows())
    first, second = score(model, batch), score(copy.deepcopy(model), batch)
    assert torch.equal(first.norms, second.norms)
