"""How steady a run was, by hand."""

import math

import pytest

from benchmarks.trials import stability


def test_losses_count_after_the_first_third_and_gradients_from_the_start():
    log = {"loss": [9.0, 9.0, 2.0, 4.0, 2.0, 2.0], "grad_norm": [50.0, 50.0, 1.0, 1.0, 0.5, 1.0]}
    found = stability.steadiness(log)
    changes = [2.0, -2.0, 0.0]
    assert found["loss spikes"] == 2.0
    assert found["loss spread"] == pytest.approx(math.sqrt(sum(each**2 for each in changes) / 2))
    assert found["largest gradient"] == 50.0 and found["clipped steps"] == pytest.approx(2 / 6)
    moves = [0.0, -49.0, 0.0, -0.5, 0.5]
    middle = sum(moves) / 5
    assert found["gradient spread"] == pytest.approx(math.sqrt(sum((each - middle) ** 2 for each in moves) / 4))


def test_a_loss_is_steady_in_nats_and_a_gradient_in_shares_of_its_median():
    values = [9.0, 9.0, 2.0, 4.0, 2.0, 2.0]
    once = stability.steadiness({"loss": values, "grad_norm": values})
    shifted = stability.steadiness({"loss": [each + 5 for each in values], "grad_norm": [3 * each for each in values]})
    assert shifted.pop("largest gradient") == 3 * once.pop("largest gradient")
    assert shifted == pytest.approx(once)


def test_runs_are_paired_by_data_set_and_seed_and_seeds_are_the_sample():
    def run(value):
        return dict.fromkeys(stability.MEASURES, value)

    arm = {("a", 0): run(1.0), ("a", 1): run(2.0), ("b", 0): run(6.0), ("b", 1): run(5.0)}
    plain = {("a", 0): run(2.0), ("a", 1): run(4.0), ("b", 0): run(7.0), ("c", 0): run(100.0)}
    found = stability.compared(arm, plain)
    assert found["seeds"] == [0, 1]
    cell = found["loss spikes"]
    assert cell["difference"] == -1.5  # The first seed's two data sets are one value.
    half = 12.706 * 0.7071 / math.sqrt(2)  # Student's t of one degree of freedom
    assert cell["low"] == pytest.approx(-1.5 - half, abs=1e-3) and cell["high"] == pytest.approx(-1.5 + half, abs=1e-3)
    assert stability.compared({("a", 0): run(1.0)}, plain)["loss spikes"]["low"] is None
