import pytest
import torch
from tests.tiny import KINDS, tiny_model

from moored.errors import InputError
from moored.huggingface.models.moved_weights import inner_weights, moved_weights, of_equal_norm, random_direction
from moored.tensors.low_rank import LowRank, whole


def _state(model):
    return {name: each.clone() for name, each in model.state_dict().items()}


def _at(direction, name):
    """What a direction adds to a weight, as a whole matrix."""
    step = direction(name)
    assert step is not None
    return whole(step)


def _norm(tensors):
    return sum(float(each.double().square().sum()) for each in tensors) ** 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_the_matrices_inside_the_layers_are_moved_and_nothing_else(kind):
    model = tiny_model(kind)
    before, weights = _state(model), inner_weights(model)
    direction = random_direction(weights, 3)
    with moved_weights(weights) as move:
        move([(direction, 0.25)])
        moved = {name for name, each in model.state_dict().items() if not each.equal(before[name])}
        assert moved == set(weights) == {n for n, each in before.items() if ".layers." in n and each.ndim == 2}
        for name, weight in weights.items():
            torch.testing.assert_close(weight.detach(), before[name] + 0.25 * _at(direction, name))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stop", [None, KeyboardInterrupt, ValueError])
def test_the_weights_come_back_bit_for_bit_whatever_ends_it(dtype, stop):
    model = tiny_model().to(dtype)
    before, weights = _state(model), inner_weights(model)

    def explore():
        with moved_weights(weights) as move:
            for seed in range(3):
                move([(random_direction(weights, seed), 0.3), (random_direction(weights, seed + 9), -0.1)])
            assert not next(iter(weights.values())).equal(before[next(iter(weights))])
            if stop is not None:
                raise stop

    if stop is None:
        explore()
    else:
        with pytest.raises(stop):
            explore()
    assert all(each.equal(before[name]) for name, each in model.state_dict().items())


def test_a_distance_of_zero_is_the_model_itself():
    model = tiny_model().to(torch.bfloat16)
    before, weights = _state(model), inner_weights(model)
    with moved_weights(weights) as move:
        move([(random_direction(weights, 0), 0.3)])
        move([(random_direction(weights, 0), 0.0)])
        assert all(each.equal(before[name]) for name, each in model.state_dict().items())


def test_points_are_taken_from_the_start_and_offsets_add_up():
    weights = inner_weights(tiny_model())
    start = {name: each.detach().clone() for name, each in weights.items()}
    one, other = (random_direction(weights, seed) for seed in (1, 2))
    with moved_weights(weights) as move:
        move([(one, 5.0)])
        move([(one, 0.1), (other, -0.2)])
        for name, weight in weights.items():
            torch.testing.assert_close(weight.detach(), start[name] + 0.1 * _at(one, name) - 0.2 * _at(other, name))


def test_every_direction_moves_the_weights_by_their_own_norm():
    weights = inner_weights(tiny_model())
    length = _norm([each.detach() for each in weights.values()])
    random = random_direction(weights, 0)
    for name, weight in weights.items():
        assert _at(random, name).norm().item() == pytest.approx(weight.detach().norm().item(), rel=1e-5)
    name = next(iter(weights))
    led = of_equal_norm(
        {name: LowRank(torch.randn(weights[name].shape[0], 1), torch.randn(1, weights[name].shape[1]))}, weights
    )
    assert _at(led, name).norm().item() == pytest.approx(length, rel=1e-5) and led("other") is None


def test_random_directions_differ_by_seed_and_by_weight_and_are_made_anew_alike():
    weights = inner_weights(tiny_model())
    one, other = (random_direction(weights, seed) for seed in (0, 1))
    alike = [name for name in weights if "gate_proj" in name or "up_proj" in name]
    assert _at(one, alike[0]).equal(_at(one, alike[0])) and not _at(one, alike[0]).equal(_at(other, alike[0]))
    unit = [_at(one, name) / _at(one, name).norm() for name in alike]
    assert not torch.allclose(unit[0], unit[1])


def test_a_direction_that_moves_nothing_is_refused():
    weights = inner_weights(tiny_model())
    name = next(iter(weights))
    for direction in ({}, {name: torch.zeros_like(weights[name])}, {"other": torch.ones(2, 2)}):
        with pytest.raises(InputError, match="moves none"):
            of_equal_norm(direction, weights)
