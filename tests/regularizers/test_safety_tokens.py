from dataclasses import FrozenInstanceError

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from tests.regularizers.unchecked import remade

from moored.errors import InputError
from moored.regularizers import REGULARIZERS, SafetyTokens, TokenPenalty
from moored.settings import typed

FORMS = ("logits", "centred", "kl", "hinge")


def _logits(positions, tokens, seed):
    """The model's and the reference's, of ordinary size."""
    both = torch.randn(2, positions, tokens, generator=torch.Generator().manual_seed(seed)) * 5
    return both[0], both[1]


LOGITS = st.builds(_logits, st.integers(1, 6), st.integers(1, 9), st.integers(0, 2**31))


def _penalty(form):
    return SafetyTokens(strength=1.0, form=form).token_penalty


@given(LOGITS)
def test_the_squares_are_those_of_a_loop(logits):
    current, reference = logits
    for form in ("logits", "centred"):
        found = _penalty(form)(current, reference)
        for position, row in enumerate(found.tolist()):
            for token, value in enumerate(row):
                assert value == pytest.approx(float(current[position, token] - reference[position, token]) ** 2)


@given(LOGITS)
def test_the_hinge_sees_lost_logits_alone(logits):
    current, reference = logits
    found = _penalty("hinge")(current, reference)
    for value, now, then in zip(found.flatten(), current.flatten(), reference.flatten(), strict=True):
        assert float(value) == pytest.approx(max(0.0, float(then) - float(now)) ** 2)


@given(LOGITS)
def test_the_terms_add_up_to_the_divergence_of_two_categorical_distributions(logits):
    current, reference = logits
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=reference), torch.distributions.Categorical(logits=current)
    )
    torch.testing.assert_close(_penalty("kl")(current, reference).sum(1), expected, rtol=1e-4, atol=1e-5)


@given(LOGITS)
def test_the_gradient_of_the_divergence_is_the_difference_of_the_probabilities(logits):
    current, reference = logits
    current.requires_grad_()
    _penalty("kl")(current, reference).sum().backward()
    torch.testing.assert_close(current.grad, current.detach().softmax(1) - reference.softmax(1))


@given(LOGITS, st.sampled_from([form for form in FORMS if form != "kl"]))
def test_each_square_has_a_gradient_at_its_own_logit_alone(logits, form):
    current, reference = logits
    current.requires_grad_()
    _penalty(form)(current, reference).sum().backward()
    step = 2 * (current.detach() - reference)
    torch.testing.assert_close(current.grad, step.clamp(max=0) if form == "hinge" else step)


@given(LOGITS, st.sampled_from(FORMS))
def test_equal_logits_cost_nothing_and_pull_nowhere(logits, form):
    same = logits[0].clone().requires_grad_()
    found = _penalty(form)(same, logits[0])
    found.sum().backward()
    assert not found.any()
    torch.testing.assert_close(same.grad, torch.zeros_like(same), rtol=0, atol=1e-6)


@given(LOGITS, st.floats(100, 200))
def test_a_constant_on_all_logits_is_nothing_to_the_divergence_alone(logits, shift):
    current, reference = logits
    for form in FORMS:
        before, after = _penalty(form)(current, reference), _penalty(form)(current - shift, reference)
        assert torch.allclose(before, after, rtol=1e-3, atol=1e-4) == (form == "kl")


@pytest.mark.parametrize("form", FORMS)
def test_half_precision_is_judged_in_full(form):
    current, reference = _logits(3, 4, 0)
    found = _penalty(form)(current.bfloat16(), reference.bfloat16())
    assert found.dtype == torch.float32 and found.shape == (3, 4)
    assert torch.equal(found, _penalty(form)(current.bfloat16().float(), reference.bfloat16().float()))


def test_a_token_that_the_reference_rules_out_adds_nothing_to_the_divergence():
    current, reference = _logits(2, 5, 1)
    current[:, 3] = reference[:, 3] = -torch.inf
    current.requires_grad_()
    found = _penalty("kl")(current, reference)
    found.sum().backward()
    rest = [0, 1, 2, 4]
    torch.testing.assert_close(found[:, rest], _penalty("kl")(current.detach()[:, rest], reference[:, rest]))
    assert current.grad is not None
    assert not found[:, 3].any() and current.grad.isfinite().all()


@pytest.mark.parametrize("form", FORMS)
def test_no_position_is_no_penalty(form):
    assert _penalty(form)(torch.zeros(0, 3), torch.zeros(0, 3)).shape == (0, 3)


def test_it_is_frozen_and_says_what_it_is():
    safeguard = SafetyTokens(strength=0.1, tokens=[" cannot", "Sorry"], first=5)
    assert safeguard.tokens == (" cannot", "Sorry") and isinstance(hash(safeguard), int)
    assert safeguard.name == "safety_tokens" and safeguard.needs == {"reference", "hidden_states"}
    assert isinstance(safeguard, TokenPenalty) and REGULARIZERS[safeguard.name] is SafetyTokens
    with pytest.raises(FrozenInstanceError):
        safeguard.strength = 0.5


def test_the_settings_of_a_training_file_arrive_with_their_types():
    stated = {"strength": "1e-1", "tokens": [" cannot", "Sorry"], "form": "kl", "first": 3, "cache": "a/folder"}
    made = SafetyTokens(**typed(stated, SafetyTokens))
    assert made == SafetyTokens(strength=0.1, tokens=(" cannot", "Sorry"), form="kl", first=3, cache="a/folder")
    assert SafetyTokens(**typed({"strength": 1, "tokens": "tokens.txt"}, SafetyTokens)).tokens == "tokens.txt"
    with pytest.raises(InputError, match="form is 'square', but it must be logits, centred, kl, hinge"):
        typed({"form": "square"}, SafetyTokens)


def test_the_whole_vocabulary_is_one_word():
    assert SafetyTokens(strength=1.0, tokens="vocabulary", form="kl", reference="model").all_tokens
    assert not SafetyTokens(strength=1.0, tokens="tokens.json", form="kl", reference="model").all_tokens


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"form": "square"}, "must be one of logits, centred, kl, hinge, got square"),
        ({"reference": "base"}, "must be one of cache, model, got base"),
        ({"control": "other"}, "must be one of random_tokens, got other"),
        ({"first": 0}, "must be at least 1, got 0"),
        ({"tokens": ()}, "is empty; name some tokens"),
        ({"tokens": []}, "is empty; name some tokens"),
        ({"tokens": ("no", "")}, "holds '', which is no text"),
        ({"tokens": ("no", " no", "no")}, "names 'no' twice"),
        ({"tokens": ""}, "is empty; name some tokens"),
        ({"cache": "folder", "reference": "model"}, "leave one of the two out"),
        ({"tokens": "vocabulary"}, 'needs form="kl" and reference="model", but they are logits and cache'),
        ({"tokens": "vocabulary", "form": "kl"}, "but they are kl and cache"),
        (
            {"tokens": "vocabulary", "form": "kl", "reference": "model", "control": "random_tokens"},
            "no other tokens to draw",
        ),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_in_one_sentence(settings, message):
    with pytest.raises(InputError, match=message) as caught:
        remade(SafetyTokens(strength=1.0), **settings)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
