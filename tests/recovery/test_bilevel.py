"""On a problem that is solved by hand: θ in the plane, losses that pull it to points, an objective that wants one."""

import pytest
import torch
from torch.nn import Parameter

from moored.errors import InputError
from moored.recovery import BilevelChoice

POINTS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
QUICK = BilevelChoice(iterations=30, learning_rate=0.05)


def _problem(wanted):
    theta = Parameter(torch.zeros(2))
    losses = [lambda point=point: (theta - point).square().sum() for point in POINTS]
    return theta, losses, lambda: iter([3 * (theta - POINTS[wanted]).square().sum()])


@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_the_weight_goes_to_what_brings_the_objective_down(wanted):
    theta, losses, objective = _problem(wanted)
    weights = QUICK.weigh([theta], losses, objective)
    assert weights.argmax() == wanted and weights[wanted] > 0.6
    assert weights.sum() == pytest.approx(1.0)


def test_an_objective_in_parts_is_their_sum():
    theta, losses, whole = _problem(1)

    def parts():
        for _ in range(3):
            yield (theta - POINTS[1]).square().sum()

    torch.testing.assert_close(QUICK.weigh([theta], losses, parts), QUICK.weigh([theta], losses, whole))


def test_the_parameters_are_left_as_they_were_also_after_a_failure():
    theta, losses, objective = _problem(0)
    theta.data = torch.tensor([0.3, -0.2])
    QUICK.weigh([theta], losses, objective)
    assert torch.equal(theta.data, torch.tensor([0.3, -0.2])) and theta.grad is None
    calls = []

    def broken():
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return objective()

    with pytest.raises(KeyboardInterrupt):
        QUICK.weigh([theta], losses, broken)
    assert torch.equal(theta.data, torch.tensor([0.3, -0.2]))


def test_the_value_is_the_penalty_s():
    w, above, below = torch.tensor([0.2, 0.8]), torch.tensor([1.0, 2.0]), torch.tensor([0.5, 1.0])
    choice = BilevelChoice(penalty=2.0, evenness=3.0)
    assert choice.value(w, above, below).item() == pytest.approx(3 * (0.04 + 0.64) + 2 * (0.2 * 0.5 + 0.8 * 1.0))


def test_without_a_rate_the_first_step_promises_a_half():
    theta, losses, objective = _problem(1)
    theta.data = torch.tensor([0.4, 0.3])
    seen, step = [], torch.optim.AdamW.step

    def keep(self, *arguments):
        seen.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", keep)
        BilevelChoice(iterations=2).weigh([theta], losses, objective)
    total = sum(loss().item() for loss in losses) / 3
    gradient = (2 * (theta.detach() - POINTS)).mean(0)
    assert seen[1] == pytest.approx(0.5 * total / float(gradient.abs().sum()))
    above = total + 3 * (theta.detach() - POINTS[1]).square().sum()
    wanted = gradient + 6 * (theta.detach() - POINTS[1])
    assert seen[0] == pytest.approx(float(0.5 * above / wanted.abs().sum()), rel=1e-5)


def test_losses_that_are_no_numbers_are_no_choice():
    theta, losses, objective = _problem(0)
    losses[1] = lambda: theta.sum() * float("nan")
    with pytest.raises(InputError, match="is not a number any more"):
        QUICK.weigh([theta], losses, objective)


def test_evenness_spreads_the_weights():
    theta, losses, objective = _problem(0)
    plain = QUICK.weigh([theta], losses, objective)
    even = BilevelChoice(iterations=30, learning_rate=0.05, evenness=5.0).weigh([theta], losses, objective)
    assert even.max() < plain.max()


@pytest.mark.parametrize(
    "settings", [{"iterations": 1}, {"learning_rate": 0.0}, {"weight_rate": -1.0}, {"penalty": 0.0}, {"evenness": -1.0}]
)
def test_settings_that_cannot_be_meant_are_refused(settings):
    with pytest.raises(InputError, match="BilevelChoice"):
        BilevelChoice(**settings)
