"""A shortcut is taken only where a model gives the same logits by it; each is tried once per model."""

from functools import wraps

import pytest
import torch
from tests.huggingface.inference.chats import RENDERED, plain_answer
from tests.huggingface.inference.families import MODELS
from tests.tiny import tiny_model, tiny_tokenizer
from transformers import BertConfig, BertLMHeadModel, RwkvConfig, RwkvForCausalLM

from moored.errors import ModelError
from moored.huggingface.inference import answer_log_probs, continuation_log_probs, generate
from moored.huggingface.inference.trials import agree, continues_states, passes_over_padding, tried

TOKENS = [40, 41, 42, 43, 44, 45, 46, 47]


def _rwkv():
    return RwkvForCausalLM(
        RwkvConfig(vocab_size=384, hidden_size=16, attention_hidden_size=16, num_hidden_layers=2, bos_token_id=1)
    ).eval()


@pytest.mark.parametrize("family", MODELS)
def test_models_that_attend_pass_over_padding(family):
    assert passes_over_padding(MODELS[family](), TOKENS)


def test_a_model_without_attention_reads_padding():
    assert not passes_over_padding(_rwkv(), TOKENS)


def test_a_trial_runs_once_per_model():
    model, runs = tiny_model(), []
    for _ in range(2):
        assert tried(model, "anything", lambda: runs.append(1) or True)
    assert len(runs) == 1 and tried(tiny_model(), "anything", lambda: runs.append(1) or True) and len(runs) == 2


def test_a_state_that_is_continued_otherwise_is_noticed(monkeypatch):
    model = tiny_model()
    assert continues_states(model, TOKENS)
    other, forward = tiny_model(), tiny_model().forward

    def forgetful(*args, past_key_values=None, **settings):
        return forward(*args, **settings)

    monkeypatch.setattr(other, "forward", forgetful)
    assert not continues_states(other, TOKENS)


def test_what_is_not_finite_agrees_with_nothing():
    model, broken = tiny_model(), torch.tensor([float("nan"), 1.0])
    assert not agree(model, broken, broken)
    assert agree(model, torch.ones(2), torch.ones(2)) and not agree(model, torch.ones(2), torch.zeros(2))


def test_a_model_that_sees_later_tokens_does_not_answer():
    model = BertLMHeadModel(
        BertConfig(vocab_size=384, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    ).eval()
    tokenizer = tiny_tokenizer()
    for ask in (
        lambda: generate(model, tokenizer, ["What is the capital?"]),
        lambda: continuation_log_probs(model, tokenizer, ["What is the capital?"], ["Paris"]),
        lambda: answer_log_probs(model, tokenizer, ["What is the capital?"], ["Paris"]),
    ):
        with pytest.raises(ModelError, match="In BertLMHeadModel a token sees those after it, so it has no answers"):
            ask()


def test_a_shared_start_is_tried_though_the_first_prompts_were_too_short_for_one(monkeypatch):
    model = tiny_model(seed=1)
    forward = model.forward

    @wraps(forward)
    def misled(*args, **settings):
        output = forward(*args, **settings)
        # The argument has another name from transformers 5.24 on.
        has_state = not {"past_key_values", "cache"}.isdisjoint(name for name in settings if settings[name] is not None)
        if has_state and settings["input_ids"].shape[1] > 1:
            output.logits = -output.logits
        return output

    monkeypatch.setattr(model, "forward", misled)
    tokenizer = tiny_tokenizer()
    for prompts in (["Hi", "Ho"], RENDERED):
        answers = generate(model, tokenizer, prompts, max_new_tokens=4)
        assert answers == [plain_answer(model, prompt, 4) for prompt in prompts]


def _marked_by_padding(share, dtype):
    """A model whose logits are larger by that share behind a padding of one kind."""
    model = tiny_model().to(dtype)

    def mark(_, args, settings, output):
        if settings["input_ids"][0, 0] == TOKENS[5]:
            output.logits = output.logits * (1 + share)
        return output

    model.register_forward_hook(mark, with_kwargs=True)
    return model


@pytest.mark.parametrize(
    ("share", "dtype", "passes"),
    [(0.005, torch.bfloat16, True), (0.03, torch.bfloat16, False), (1e-5, torch.float32, False)],
    ids=str,
)
def test_two_kinds_of_padding_may_differ_by_the_rounding_of_a_model(share, dtype, passes):
    assert passes_over_padding(_marked_by_padding(share, dtype), TOKENS) is passes


def test_tokens_that_a_model_rules_out_agree():
    model = tiny_model()
    model.lm_head.register_forward_hook(lambda _, inputs, logits: logits.index_fill(-1, torch.tensor([7]), -torch.inf))
    assert passes_over_padding(model, TOKENS)
    one, other = torch.tensor([1.0, -torch.inf]), torch.tensor([1.0, 0.5])
    assert agree(model, one, one) and not agree(model, one, other) and not agree(model, other, one)
    assert not agree(model, -one, -one)
