"""What prompts begin with, encoded once; that scores and answers are those of a loop is tested beside them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.huggingface.inference.chats import ENDINGS, RENDERED, TOKENIZER
from tests.huggingface.inference.test_log_probabilities import MODELS
from tests.tiny import tiny_model

from moored.huggingface.inference import answer_logits, generate, log_probabilities, shared_start
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
    assert shared_start.shared_start(torch.nn.Identity(), sequences) is NOTHING


@pytest.mark.parametrize(
    ("kind", "gaps", "shares"),
    [("llama", True, True), ("gemma2", False, True), ("gemma2", True, False), ("lfm2", False, False),
     ("mamba", False, False)],
)  # fmt: skip
def test_a_state_is_shared_where_it_can_be_repeated(kind, gaps, shares):
    """A window that looks back by so many places would count the padding between."""
    with torch.no_grad():
        found = shared_start.shared_start(MODELS[kind](), [[*SHARED, 3, 4], [*SHARED, 5]], gaps=gaps)
    assert (found is not NOTHING) == shares and found.length == (WORTHWHILE if shares else 0)


def test_the_start_of_all_prompts_is_encoded_once_for_all_answers(monkeypatch):
    model, seen = tiny_model(), []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda *a, **k: (seen.append(k["input_ids"].shape), forward(*a, **k))[1])
    generate(model, TOKENIZER, RENDERED, max_new_tokens=2, batch_size=2)
    (one, length), *batches = seen
    assert one == 1 and length >= WORTHWHILE
    longest = max(len(TOKENIZER(text, add_special_tokens=False)["input_ids"]) for text in RENDERED)
    assert max(width for _, width in batches) == longest - length


def test_logits_with_their_graph_share_nothing(monkeypatch):
    """Their parts are used up one by one, and the second would miss the graph of what the first freed."""
    monkeypatch.setattr(log_probabilities, "shared_start", None)
    parts = log_probabilities.answer_logits_in_parts(tiny_model(), TOKENIZER, RENDERED, ENDINGS, batch_size=2)
    for _, logits in parts:
        sum(each.sum() for each in logits).backward()
    with pytest.raises(TypeError):
        answer_logits(tiny_model(), TOKENIZER, RENDERED, ENDINGS)
