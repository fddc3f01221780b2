"""Answers of a batch, and the probabilities of given ones, are those of each row read alone, for every architecture."""

import pytest
import torch
from tests.conformance.architectures.oracles import ANSWERS, LENGTH, PROMPTS, greedy_answer, log_prob_of
from tests.conformance.architectures.outcomes import NO_ANSWERS, cases
from tests.conformance.architectures.tiny_architectures import tiny_architecture
from tests.tiny import tiny_tokenizer

from moored.errors import ModelError
from moored.huggingface.inference import answer_log_probs, continuation_log_probs, generate

pytestmark = pytest.mark.filterwarnings("ignore")  # Of the libraries: odd models, and configurations made small.
FAST = ("camembert", "git", "mllama", "moshi", "prophetnet", "recurrent_gemma", "rwkv", "trocr", "xlstm")
"""Those whose answers or probabilities were wrong once: they pass over the mask, or count positions otherwise."""


def _answers(model, prompts):
    return generate(model, tiny_tokenizer(), prompts, max_new_tokens=LENGTH, batch_size=8)


@pytest.mark.parametrize(("architecture", "sentence"), cases(NO_ANSWERS, FAST))
def test_answers_and_probabilities_are_those_of_rows_alone(architecture, sentence):
    model, tokenizer = tiny_architecture(architecture), tiny_tokenizer()
    if sentence is not None:
        for ask in (_answers, lambda *args: continuation_log_probs(args[0], tokenizer, args[1], ANSWERS)):
            with pytest.raises(ModelError, match=sentence) as raised:
                ask(model, PROMPTS)
            assert "\n" not in str(raised.value)
        return
    expected = [greedy_answer(model, prompt) for prompt in PROMPTS]
    assert _answers(model, PROMPTS) == expected
    # With this prompt in front, the others share no beginning.
    assert _answers(model, ["zebra", *PROMPTS])[1:] == expected
    log_probs = torch.tensor([[log_prob_of(model, prompt, answer) for answer in ANSWERS] for prompt in PROMPTS])
    found = continuation_log_probs(model, tokenizer, PROMPTS, ANSWERS)
    torch.testing.assert_close(found, log_probs, rtol=1e-4, atol=1e-3)
    pairs = answer_log_probs(model, tokenizer, PROMPTS, ANSWERS)
    torch.testing.assert_close(pairs, log_probs.diag(), rtol=1e-4, atol=1e-3)
