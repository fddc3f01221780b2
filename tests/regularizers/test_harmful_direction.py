"""The formula alone; in a trainer: tests/huggingface/training/test_harmful_direction.py."""

import pytest
import torch
from tests.regularizers.unchecked import remade

from moored.errors import InputError
from moored.regularizers import HarmfulDirection


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_the_penalty_is_the_part_of_the_update_in_the_main_directions(rank):
    torch.manual_seed(0)
    step, update = torch.randn(6, 9, dtype=torch.float64), torch.randn(6, 9, dtype=torch.float64)
    penalty = HarmfulDirection(rank=rank)
    guide = penalty.guide(step, "w")
    u, s, _ = torch.linalg.svd(step)
    projector = u[:, :rank] @ u[:, :rank].T
    torch.testing.assert_close(penalty.weight_penalty(update, guide), (projector @ update).square().sum())
    assert guide.energy == pytest.approx(float((s[:rank] ** 2).sum() / (s**2).sum()))


def test_an_update_off_the_harmful_step_costs_nothing():
    step = torch.zeros(4, 3)
    step[0, 1] = 2.0
    penalty = HarmfulDirection(rank=2, examples=[("How?", "Sure:"), ("What?", "Yes:")])
    guide = penalty.guide(step, "w")
    along, off = torch.zeros(4, 3), torch.zeros(4, 3)
    along[0], off[1:] = 1.0, 1.0
    assert penalty.weight_penalty(off, guide) == 0 and penalty.weight_penalty(along, guide) == pytest.approx(3.0)
    assert guide.basis.shape == (4, 1)
    told = penalty.describe({"w": guide})
    assert "keeps updates off the 2 main directions of each weight's first step" in told
    assert "towards its 2 examples, which hold 100% to 100%" in told


def test_the_control_has_as_many_directions_elsewhere_others_under_each_seed_and_name():
    step, exact = torch.randn(12, 9, generator=torch.Generator().manual_seed(0)), {"rank": 3}
    harmful = HarmfulDirection(**exact).guide(step, "w")
    controls = [
        HarmfulDirection(direction="random", seed=seed, **exact).guide(step, name).basis
        for seed, name in ((0, "w"), (0, "w"), (1, "w"), (0, "v"))
    ]
    assert torch.equal(controls[0], controls[1])
    for basis in controls:
        torch.testing.assert_close(basis.T @ basis, torch.eye(3))
        # As many entries of each size, in other places.
        torch.testing.assert_close(basis.abs().sort(0).values, harmful.basis.abs().sort(0).values)
    spans = [each @ each.T for each in (harmful.basis, controls[0], controls[2], controls[3])]
    assert all((one - other).norm() > 0.5 for n, one in enumerate(spans) for other in spans[:n])
    told = HarmfulDirection(direction="random").describe({"w": harmful})
    assert told == "keeps updates off 8 random directions of each weight"


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(InputError, match="keeps rank 0"):
        HarmfulDirection(rank=0)
    with pytest.raises(InputError, match="has no examples"):
        HarmfulDirection(examples=())
    for wrong in ("How?", ["How?"], [("How?",)], [("How?", 3)], [3]):
        with pytest.raises(InputError, match="give pairs of a harmful request and a compliant opening"):
            remade(HarmfulDirection(), examples=wrong)
