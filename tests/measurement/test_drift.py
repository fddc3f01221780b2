import math

import pytest
import torch

from moored.errors import UserError
from moored.measurement import drift, kl_divergence, refusal_log_odds


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_log_odds_by_a_loop():
    refusing, complying = 5 * random(4, 3) - 20, 5 * random(4, 2, seed=1) - 20
    for row, value in enumerate(refusal_log_odds(refusing, complying).tolist()):
        refuses = sum(math.exp(x) for x in refusing[row].tolist()) / 3
        complies = sum(math.exp(x) for x in complying[row].tolist()) / 2
        assert value == pytest.approx(math.log(refuses / complies), abs=1e-5)


def test_a_longer_list_of_openings_has_no_head_start():
    refusing, complying = random(4, 3), random(4, 2, seed=1)
    torch.testing.assert_close(
        refusal_log_odds(refusing.repeat(1, 5), complying), refusal_log_odds(refusing, complying)
    )


def test_log_odds_change_sign_with_the_sides_and_bear_tiny_probabilities():
    refusing, complying = random(4, 3) - 5000, random(4, 2, seed=1) - 5000
    odds = refusal_log_odds(refusing, complying)
    assert odds.isfinite().all()
    torch.testing.assert_close(odds, -refusal_log_odds(complying, refusing))


def test_log_odds_need_openings_on_both_sides():
    with pytest.raises(ValueError, match="at least one"):
        refusal_log_odds(random(2, 0), random(2, 1))


def test_kl_by_a_loop():
    reference, model = 3 * random(5, 7), 3 * random(5, 7, seed=1)
    for position, value in enumerate(kl_divergence(reference, model).tolist()):
        p = [math.exp(x) for x in reference[position].tolist()]
        q = [math.exp(x) for x in model[position].tolist()]
        p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
        assert value == pytest.approx(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)), abs=1e-5)


def test_kl_of_a_model_to_itself_is_zero():
    logits = random(5, 7)
    assert torch.equal(kl_divergence(logits, logits + 0.0), torch.zeros(5))


def test_kl_is_computed_in_fp32():
    reference, model = random(5, 7).bfloat16(), random(5, 7, seed=1).bfloat16()
    divergence = kl_divergence(reference, model)
    assert divergence.dtype == torch.float32
    torch.testing.assert_close(divergence, kl_divergence(reference.double(), model.double()))


@pytest.mark.parametrize("chunk", [1, 2, 5, 99])
def test_chunks_do_not_change_kl(monkeypatch, chunk):
    reference, model = random(5, 7), random(5, 7, seed=1)
    whole = kl_divergence(reference, model)
    monkeypatch.setattr(drift, "CHUNK", chunk)
    assert torch.equal(kl_divergence(reference, model), whole)


def test_a_token_that_the_reference_rules_out_adds_nothing():
    reference, model = random(1, 7), random(1, 7, seed=1)
    reference[0, 3] = -torch.inf
    without = [0, 1, 2, 4, 5, 6]
    lost = -torch.log(1 - model.softmax(-1)[0, 3]).float()
    expected = kl_divergence(reference[:, without], model[:, without]) + lost
    torch.testing.assert_close(kl_divergence(reference, model), expected)
    model[0, 3] = -torch.inf
    torch.testing.assert_close(kl_divergence(reference, model), kl_divergence(reference[:, without], model[:, without]))


def test_no_positions_give_no_divergences():
    assert kl_divergence(random(0, 7), random(0, 7)).shape == (0,)


def test_two_vocabularies_cannot_be_compared():
    with pytest.raises(UserError, match=r"\(5, 7\).*\(5, 8\)"):
        kl_divergence(random(5, 7), random(5, 8))
