from dataclasses import replace

import pytest
import torch
from tests.adapters import random_adapter
from tests.huggingface.inference.chats import RENDERED, TOKENIZER, ids_of, plain_log_prob, plain_logits
from tests.tiny import tiny_model

from moored.errors import InputError
from moored.huggingface.inference import DriftProbe, generate, reference_answers
from moored.huggingface.inference.drift_probe import KL_TOKENS

HARMFUL, ORDINARY = RENDERED[:3], RENDERED[3:]
PROBE = DriftProbe(
    tokenizer=TOKENIZER,
    harmful=HARMFUL,
    ordinary=ORDINARY,
    refusing=["Sorry", "I cannot help with that."],
    complying=["Sure, here is how", "It is", "Here"],
)


def _with_reference(model, probe=PROBE):
    sets = {"harmful": probe.harmful, "ordinary": probe.ordinary}
    answers = {name: generate(model, TOKENIZER, texts, max_new_tokens=40) for name, texts in sets.items()}
    return replace(probe, reference=reference_answers(model, probe, answers_of=answers))


def test_the_log_odds_are_those_of_a_loop():
    model = tiny_model()
    expected = []
    for prompt in HARMFUL:
        refusing, complying = (
            sum(2.718281828459045 ** plain_log_prob(model, prompt, text) for text in texts) / len(texts)
            for texts in (PROBE.refusing, PROBE.complying)
        )
        expected.append(float(torch.tensor(refusing / complying).log()))
    scores = PROBE.scores(model)
    assert scores.keys() == {"refusal_log_odds"}
    torch.testing.assert_close(scores["refusal_log_odds"], torch.tensor(expected), rtol=1e-4, atol=1e-4)
    assert PROBE(model) == {"refusal_log_odds": pytest.approx(sum(expected) / 3, abs=1e-4)}


def test_only_the_first_openings_are_scored():
    few = replace(PROBE, openings=1)
    alone = replace(PROBE, refusing=PROBE.refusing[:1], complying=PROBE.complying[:1])
    assert few(tiny_model()) == alone(tiny_model()) != PROBE(tiny_model())


def test_the_divergence_is_taken_at_the_reference_s_own_first_tokens():
    reference, drifted = tiny_model(), random_adapter()
    probe = _with_reference(reference)
    assert probe.reference is not None
    found = probe.scores(drifted)
    for name, prompts, texts in (
        ("kl_harmful", HARMFUL, probe.reference.harmful.texts),
        ("kl_ordinary", ORDINARY, probe.reference.ordinary.texts),
    ):
        for value, prompt, text in zip(found[name], prompts, texts, strict=True):
            whole = generate(reference, TOKENIZER, [prompt], max_new_tokens=40)[0]
            assert len(ids_of(whole)) > KL_TOKENS and text == TOKENIZER.decode(ids_of(whole)[:KL_TOKENS])
            old, new = (plain_logits(model, prompt, text).log_softmax(-1) for model in (reference, drifted))
            expected = (old.exp() * (old - new)).sum(-1).mean()
            # The reference's logits are kept in bf16.
            assert float(value) == pytest.approx(float(expected), rel=0.02)
            assert float(value) > 0.01


def test_the_reference_has_no_divergence_from_itself():
    probe = _with_reference(tiny_model())
    scores = probe(tiny_model())
    assert 0 <= scores["kl_harmful"] < 1e-3 and 0 <= scores["kl_ordinary"] < 1e-3
    assert scores["refusal_log_odds"] == PROBE(tiny_model())["refusal_log_odds"]


def test_an_empty_answer_is_scored_where_it_would_have_begun():
    reference = reference_answers(tiny_model(), PROBE, answers_of={"harmful": ["", "It is", "S"], "ordinary": ["", ""]})
    assert reference.harmful.texts == ["<|im_end|>", "It is", "S"]
    assert [len(logits) for logits in reference.ordinary.logits] == [1, 1]


def test_ordinary_prompts_may_be_missing():
    probe = _with_reference(tiny_model(), replace(PROBE, ordinary=()))
    assert probe(tiny_model()).keys() == {"refusal_log_odds", "kl_harmful"}


@pytest.mark.parametrize("without", ["harmful", "refusing", "complying"])
def test_a_probe_needs_prompts_and_both_kinds_of_openings(without):
    with pytest.raises(InputError, match="needs harmful prompts"):
        replace(PROBE, **{without: []})
    with pytest.raises(InputError, match="at least 1, got 0"):
        replace(PROBE, openings=0)
