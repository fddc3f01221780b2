"""What prompts begin with, encoded once; that scores and answers are those of a loop is tested beside them."""

from functools import wraps

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PrefixTuningConfig, get_peft_model
from tests.huggingface.inference.chats import ENDINGS, RENDERED, TOKENIZER
from tests.huggingface.inference.families import MODELS
from tests.tiny import tiny_model

from moored.huggingface.inference import generate, log_probabilities, shared_start
from moored.huggingface.inference.shared_start import NOTHING, WORTHWHILE

TOKENS = st.lists(st.integers(3, 5), min_size=1, max_size=14)
SHARED = list(range(10, 10 + WORTHWHILE))


@given(st.lists(TOKENS, max_size=4), TOKENS)
def test_it_is_the_longest_common_start_that_leaves_a_token_to_each(rests, start):
    sequences = [SHARED + start + rest for rest in rests]
    found = shared_start._common(sequences)
    assert all(len(each) > found and each[:found] == sequences[0][:found] for each in sequences)
    fuller = {tuple(each[: found + 1]) for each in sequences}
    assert len(sequences) < 2 or len(fuller) > 1 or any(len(each) == found + 1 for each in sequences)


@pytest.mark.parametrize("sequences", [[], [[*SHARED, 3]], [[*SHARED[1:], 3], [*SHARED[1:], 4]], [[3], [3]]])
def test_little_or_nothing_in_common_is_not_worth_a_pass(sequences):
    assert shared_start.encode_shared_start(torch.nn.Identity(), sequences) is NOTHING


@pytest.mark.parametrize(
    ("kind", "gaps", "shares"),
    [("llama", True, True), ("gpt2", True, True), ("gemma2", False, True), ("gemma2", True, False),
     ("mpt", False, True), ("mpt", True, False), ("lfm2", False, False), ("mamba", False, False)],
)  # fmt: skip
def test_a_state_is_shared_where_it_can_be_repeated(kind, gaps, shares):
    """A window, or a bias, that counts places would count the padding between."""
    with torch.no_grad():
        found = shared_start.encode_shared_start(MODELS[kind](), [[*SHARED, 3, 4], [*SHARED, 5]], gaps=gaps)
    assert (found is not NOTHING) == shares and found.length == (WORTHWHILE if shares else 0)


def test_the_start_of_all_prompts_is_encoded_once_for_all_answers(monkeypatch):
    model, seen = tiny_model(), []
    generate(model, TOKENIZER, RENDERED[:1], max_new_tokens=2)  # The model is tried first.
    forward = model.forward
    noting = wraps(forward)(lambda *a, **k: (seen.append(k["input_ids"].shape), forward(*a, **k))[1])
    monkeypatch.setattr(model, "forward", noting)
    generate(model, TOKENIZER, RENDERED, max_new_tokens=2, batch_size=2)
    (one, length), *batches = seen
    assert one == 1 and length >= WORTHWHILE
    longest = max(len(TOKENIZER(text, add_special_tokens=False)["input_ids"]) for text in RENDERED)
    assert max(width for _, width in batches) == longest - length


def test_logits_with_their_graph_share_nothing():
    """Their parts are used up one by one, and the second would miss the graph of what the first freed."""
    whole, parted = tiny_model(), tiny_model()
    for model, batch_size in ((whole, 5), (parted, 2)):
        parts = log_probabilities.answer_logits_in_parts(model, TOKENIZER, RENDERED, ENDINGS, batch_size=batch_size)
        for _, logits in parts:
            sum(each.square().sum() for each in logits).backward()
    for one, other in zip(whole.parameters(), parted.parameters(), strict=True):
        assert one.grad is not None and one.grad.any()
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-3)


def test_nothing_is_shared_with_gradients_or_dropout_or_in_long_texts():
    model, sequences = tiny_model(), [[*SHARED, 3], [*SHARED, 4]]
    assert shared_start.encode_shared_start(model, sequences) is NOTHING
    with torch.no_grad():
        assert shared_start.encode_shared_start(model, sequences) is not NOTHING
        assert shared_start.encode_shared_start(model, [each + [5] * 40 for each in sequences]) is NOTHING
        long = [[3] * 2040 + each for each in sequences]
        assert shared_start.encode_shared_start(model, long) is NOTHING
        assert shared_start.encode_shared_start(model.train(), sequences) is NOTHING


# PEFT passes the state of soft prompts by the name that transformers had for it before 5.24.
@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")
def test_a_state_that_holds_more_than_the_start_is_not_shared():
    """As with an adapter of soft prompts."""
    model = get_peft_model(tiny_model(), PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)).eval()
    with torch.no_grad():
        assert shared_start.encode_shared_start(model, [[*SHARED, 3], [*SHARED, 4]]) is NOTHING
