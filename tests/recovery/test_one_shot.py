import math

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from moored.errors import InactiveError, InputError
from moored.recovery import PUBLISHED_PROMPT, PUBLISHED_REFUSAL, OneShot, Steps

RATE, EPS = 0.05, 1e-8


def _weights():
    draw = torch.Generator().manual_seed(0)
    return [Parameter(torch.randn(shape, generator=draw)) for shape in ((3, 2), (2,))]


def _loss_of(weights):
    def loss() -> Tensor:
        matrix, bias = weights
        return (matrix.square() @ bias.exp()).mean()

    return loss


def _gradients(weights):
    """By hand: d/dm = 2·m·e^b / 3 and d/db = Σ m² · e^b / 3."""
    matrix, bias = (weight.detach() for weight in weights)
    return [2 * matrix * bias.exp() / 3, matrix.square().sum(0) * bias.exp() / 3]


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_steps_are_adamw_s_written_out(steps):
    """Loshchilov & Hutter (2019), algorithm 2, betas 0.9 and 0.999, no decay, bias-corrected."""
    weights, expected = _weights(), [weight.detach().clone() for weight in _weights()]
    firsts = [torch.zeros_like(weight) for weight in expected]
    seconds = [torch.zeros_like(weight) for weight in expected]
    for step in range(1, steps + 1):
        for at, gradient in enumerate(_gradients(expected)):
            firsts[at] = 0.9 * firsts[at] + 0.1 * gradient
            seconds[at] = 0.999 * seconds[at] + 0.001 * gradient**2
        for at in range(2):
            mean, square = firsts[at] / (1 - 0.9**step), seconds[at] / (1 - 0.999**step)
            expected[at] = expected[at] - RATE * mean / (square.sqrt() + EPS)
    taken = OneShot(learning_rate=RATE, steps=steps).repair(weights, _loss_of(weights))
    history = taken.loss
    for weight, wanted in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight.detach(), wanted, rtol=1e-5, atol=1e-6)
    assert len(history) == steps + 1 and taken.kept == steps and taken.learning_rate == RATE
    assert history[0] == pytest.approx(_loss_of(_weights())().item())
    assert history[-1] == pytest.approx(_loss_of(expected)().item(), rel=1e-5)


def test_no_steps_do_nothing_at_all():
    weights = _weights()
    assert OneShot(steps=0).repair(weights, pytest.fail) == Steps()
    assert all(torch.equal(weight, start) for weight, start in zip(weights, _weights(), strict=True))


def test_it_stops_once_the_example_is_learned():
    weights = _weights()
    every = OneShot(learning_rate=RATE, steps=20).repair(weights, _loss_of(weights)).loss
    stop = (every[4] + every[5]) / 2
    weights = _weights()
    stopped = OneShot(learning_rate=RATE, steps=20, stop_at=stop).repair(weights, _loss_of(weights))
    assert stopped.loss == every[:6] and stopped.kept == 5
    weights = _weights()
    none = OneShot(learning_rate=RATE, stop_at=every[0]).repair(weights, _loss_of(weights))
    assert none.loss == every[:1] and none.kept == 0 and none.learning_rate is None
    assert all(torch.equal(weight, start) for weight, start in zip(weights, _weights(), strict=True))


def test_a_gradient_that_was_there_before_plays_no_part_and_none_is_left():
    weights = _weights()
    for weight in weights:
        weight.grad = torch.full_like(weight, 7.0)
    OneShot(learning_rate=RATE, steps=1).repair(weights, _loss_of(weights))
    fresh = _weights()
    OneShot(learning_rate=RATE, steps=1).repair(fresh, _loss_of(fresh))
    assert all(torch.equal(weight, other) for weight, other in zip(weights, fresh, strict=True))
    assert all(weight.grad is None for weight in weights)


def test_a_repair_that_would_do_nothing_raises():
    with pytest.raises(InactiveError, match="no parameters to change"):
        OneShot().repair([], lambda: torch.tensor(1.0))
    weights = _weights()
    with pytest.raises(InactiveError, match="no gradient to any parameter"):
        OneShot().repair(weights, lambda: torch.tensor(1.0))
    with pytest.raises(InactiveError, match="no gradient to any parameter"):
        OneShot().repair(weights, lambda: (weights[0] * 0).sum() + 1)
    frozen = [Parameter(torch.ones(2), requires_grad=False)]
    with pytest.raises(InactiveError, match="no gradient to any parameter"):
        OneShot().repair(frozen, lambda: frozen[0].sum())


def _watch(values):
    """Says one value after the other."""
    values = iter(map(float, values))
    return lambda: next(values)


@pytest.mark.parametrize(
    ("said", "kept", "taken"),
    [
        ([0, 1, 2, 3, 4, 5, 6], 6, 6),
        ([0, 1, 5, 4, 3, 6, 7], 6, 6),
        ([0, 1, 5, 4, 3, 2, 9], 2, 5),
        ([5, 4, 3, 2, 9, 9, 9], 0, 3),
        ([1, 1, 1, 1, 9, 9, 9], 0, 3),
    ],
)
def test_the_weights_stay_at_which_the_watch_stood_highest(said, kept, taken):
    weights = _weights()
    found = OneShot(learning_rate=RATE, steps=6).repair(weights, _loss_of(weights), _watch(said))
    assert (found.kept, len(found.loss) - 1, list(found.watched)) == (kept, taken, said[: taken + 1])
    expected = _weights()
    plain = OneShot(learning_rate=RATE, steps=kept).repair(expected, _loss_of(expected))
    assert all(torch.equal(weight, other) for weight, other in zip(weights, expected, strict=True))
    assert kept == 0 or plain.loss == found.loss[: kept + 1]


def test_the_watch_sees_the_weights_that_the_losses_are_of():
    weights, seen = _weights(), []
    loss = _loss_of(weights)
    found = OneShot(learning_rate=RATE, steps=3).repair(
        weights, loss, lambda: seen.append(loss().item()) or float(len(seen))
    )
    assert seen == pytest.approx(found.loss)


@pytest.mark.parametrize("share", [0.01, 0.1])
def test_a_rate_that_fits_takes_its_share_off_the_loss(share):
    """As far as a small step is straight, whatever the size of the gradient."""
    for scale in (1e-3, 1.0, 1e3):
        weights = _weights()
        loss = _loss_of(weights)
        method = OneShot(learning_rate=None, first_step=share, steps=1)
        found = method.repair(weights, lambda scale=scale, loss=loss: scale * loss())
        assert found.loss[1] / found.loss[0] == pytest.approx(1 - share, abs=share / 3)
        gradient = torch.cat([each.flatten() for each in _gradients(_weights())])
        assert found.learning_rate == pytest.approx(
            share * found.loss[0] / scale / gradient.abs().sum().item(), rel=1e-5
        )


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_repair(bad):
    weights = _weights()
    with pytest.raises(InputError, match="loss of the safety example is"):
        OneShot().repair(weights, lambda: weights[0].sum() * bad)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": -1e-4}, "learning_rate"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"learning_rate": math.inf}, "learning_rate"),
        ({"first_step": 0.0}, "first_step"),
        ({"first_step": math.nan}, "first_step"),
        ({"patience": 0}, "patience"),
        ({"steps": -1}, "steps"),
        ({"stop_at": -0.1}, "stop_at"),
        ({"stop_at": math.nan}, "stop_at"),
        ({"prompt": " "}, "neither may be empty"),
        ({"refusal": ""}, "neither may be empty"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        OneShot(**settings)


def test_presets_are_the_paper_s_and_ours_and_can_be_changed():
    published = OneShot.preset("published")
    assert published == OneShot() and (published.learning_rate, published.steps, published.stop_at) == (2e-5, 10, 0.0)
    assert (published.prompt, published.refusal) == (PUBLISHED_PROMPT, PUBLISHED_REFUSAL)
    adapter = OneShot.preset("adapter", steps=3)
    assert adapter.steps == 3 and (adapter.learning_rate or 0) > 2e-5
    auto = OneShot.preset("auto")
    assert auto.learning_rate is None and auto.stop_at > 0
    with pytest.raises(InputError, match=r"refusal=None\) has no refusal to train on"):
        _ = auto.example
    assert OneShot.preset("auto", refusal="No.").example == (PUBLISHED_PROMPT, "No.")
    with pytest.raises(InputError, match="published, adapter, auto"):
        OneShot.preset("other")
