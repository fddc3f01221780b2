from functools import wraps
from inspect import signature
from types import SimpleNamespace

import pytest
import torch
from tests.huggingface.inference.chats import (
    ENDINGS,
    PROMPTS,
    RENDERED,
    TOKENIZER,
    ids_of,
    plain_log_prob,
    plain_logits,
)
from tests.huggingface.inference.families import MODELS
from tests.tiny import tiny_model

from moored.huggingface.inference import (
    answer_log_probs,
    answer_logits,
    answer_token_log_probs,
    continuation_log_probs,
    log_probabilities,
)
from moored.huggingface.inference.shared_start import WORTHWHILE


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]()


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_every_pair_has_the_log_probability_of_a_loop(model, batch_size):
    found = continuation_log_probs(model, TOKENIZER, RENDERED, ENDINGS, batch_size=batch_size)
    expected = torch.tensor([[plain_log_prob(model, prompt, ending) for ending in ENDINGS] for prompt in RENDERED])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_every_answer_has_the_log_probability_of_a_loop(model, batch_size):
    found = answer_log_probs(model, TOKENIZER, RENDERED, ENDINGS, batch_size=batch_size)
    expected = [plain_log_prob(model, *pair) for pair in zip(RENDERED, ENDINGS, strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_every_token_has_the_log_probability_of_a_loop(model, batch_size):
    found = answer_token_log_probs(model, TOKENIZER, RENDERED, ENDINGS, batch_size=batch_size)
    for scores, prompt, answer in zip(found, RENDERED, ENDINGS, strict=True):
        rows = zip(plain_logits(model, prompt, answer).double(), ids_of(answer), strict=True)
        expected = torch.tensor([float(row.log_softmax(0)[token]) for row, token in rows])
        torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_every_answer_has_the_logits_of_a_loop(model, batch_size):
    found = answer_logits(model, TOKENIZER, RENDERED, ENDINGS, batch_size=batch_size)
    for logits, prompt, answer in zip(found, RENDERED, ENDINGS, strict=True):
        assert logits.shape == (len(ids_of(answer)), 384)
        torch.testing.assert_close(logits, plain_logits(model, prompt, answer), rtol=1e-5, atol=1e-4)


def test_prompts_differ_in_length_and_some_are_equally_long():
    """What the tests above rely on."""
    lengths = [len(ids_of(text)) for text in RENDERED]
    assert lengths[PROMPTS.index("Hi")] == lengths[PROMPTS.index("Ho")]
    assert len(set(lengths)) == len(lengths) - 1 and min(lengths) > 8
    assert len({len(ids_of(text)) for text in ENDINGS}) == len(ENDINGS)


def test_a_prompt_is_encoded_once_for_all_its_continuations_and_what_all_begin_with_once(monkeypatch):
    model = tiny_model()
    continuation_log_probs(model, TOKENIZER, RENDERED[:1], ENDINGS[:1])  # The model is tried first.
    seen = []
    forward = model.forward
    noting = wraps(forward)(lambda *a, **k: (seen.append(k["input_ids"].shape), forward(*a, **k))[1])
    monkeypatch.setattr(model, "forward", noting)
    continuation_log_probs(model, TOKENIZER, RENDERED, ENDINGS)
    prompts, endings = [ids_of(text) for text in RENDERED], [len(ids_of(text)) for text in ENDINGS]
    shared = next(place for place, tokens in enumerate(zip(*prompts, strict=False)) if len(set(tokens)) > 1)
    assert shared >= WORTHWHILE
    once = shared + sum(len(prompt) - shared for prompt in prompts)
    assert sum(rows * width for rows, width in seen) == once + 5 * 5 * (max(endings) - 1)


class _OldName(torch.nn.Module):
    """A model whose forward pass calls its state `past_key_values`, as before transformers 5.24."""

    name = "past_key_values"

    def __init__(self, inner):
        super().__init__()
        self.inner, self.config = inner, inner.config
        self.theirs = "cache" if "cache" in signature(inner.forward).parameters else "past_key_values"
        self.given = 0

    def forward(self, input_ids, past_key_values=None, **more):
        self.given += past_key_values is not None
        output = self.inner(input_ids=input_ids, **{self.theirs: past_key_values}, **more)
        return SimpleNamespace(logits=output.logits, **{self.name: getattr(output, self.theirs)})


class _NewName(_OldName):
    name = "cache"

    def forward(self, input_ids, cache=None, **more):  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().forward(input_ids, cache, **more)


@pytest.mark.parametrize("kind", [_OldName, _NewName])
def test_a_state_is_passed_and_read_under_the_name_that_the_model_has_for_it(kind):
    model = kind(tiny_model()).eval()
    found = continuation_log_probs(model, TOKENIZER, RENDERED, ENDINGS)
    assert model.given
    torch.testing.assert_close(found, continuation_log_probs(model.inner, TOKENIZER, RENDERED, ENDINGS))


def test_a_state_that_cannot_be_repeated_is_not(monkeypatch):
    monkeypatch.setattr(log_probabilities, "_logits_after", None)
    continuation_log_probs(MODELS["mamba"](), TOKENIZER, RENDERED[:1], ENDINGS[:1])
    with pytest.raises(TypeError):
        continuation_log_probs(tiny_model(), TOKENIZER, RENDERED[:1], ENDINGS[:1])


def test_continuations_of_one_token_and_of_none():
    model = tiny_model()
    found = continuation_log_probs(model, TOKENIZER, RENDERED, ["S", ""])
    assert torch.equal(found[:, 1], torch.zeros(5))
    assert found[2, 0] == pytest.approx(plain_log_prob(model, RENDERED[2], "S"), abs=1e-5)
    assert answer_logits(model, TOKENIZER, [], []) == []
    assert answer_log_probs(model, TOKENIZER, [], []).shape == (0,)


@pytest.mark.parametrize("score", [continuation_log_probs, answer_log_probs, answer_logits])
def test_the_modes_of_the_modules_and_their_gradients_are_left_as_they_were(score):
    model = tiny_model(dropout=0.9).train()
    model.model.norm.eval()
    before = [module.training for module in model.modules()]
    found = score(model, TOKENIZER, RENDERED, ENDINGS)
    assert [module.training for module in model.modules()] == before
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    torch.testing.assert_close(found, score(tiny_model(), TOKENIZER, RENDERED, ENDINGS))


def test_the_modes_come_back_after_a_failure_too():
    model = tiny_model().train()
    with pytest.raises(ValueError, match="zip"):
        answer_logits(model, TOKENIZER, RENDERED, ENDINGS[:1])
    model.forward = None  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError):
        answer_logits(model, TOKENIZER, RENDERED, ENDINGS)
    assert all(module.training for module in model.modules())
