import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moored.measurement import perturbation_lengths, visage

GRID = (-0.4, -0.2, -0.1, 0.0, 0.1, 0.2, 0.4)


def test_visage_is_the_mean_depth_under_what_is_wholly_unsafe():
    """A triangle: at α the rate is |α| / 0.4, so that the depth is a half on the average."""
    assert visage(GRID, [[abs(alpha) / 0.4 for alpha in GRID]]) == pytest.approx(0.5, rel=0.01)


def test_visage_draws_alpha_evenly_whatever_the_grid():
    even, dense = np.linspace(-0.4, 0.4, 9), np.sort(np.concatenate([np.linspace(-0.05, 0.05, 20), [-0.4, 0.4]]))
    rates = [[abs(a) / 0.4 for a in grid] for grid in (even, dense)]
    assert visage(even.tolist(), [rates[0]]) == pytest.approx(visage(dense.tolist(), [rates[1]]), rel=0.02)


def test_models_compare_whatever_the_worst_that_was_seen():
    flat = [0.2] * len(GRID)
    assert visage(GRID, [flat]) == pytest.approx(0.8)
    assert visage(GRID, [flat, [0.6] * len(GRID)]) == pytest.approx(0.6)


def test_what_is_wholly_unsafe_is_left_out_and_nothing_else_is_zero():
    assert visage(GRID, [[1.0] * len(GRID)]) == 0.0
    assert visage(GRID, [[1.0] * len(GRID), [0.5] * len(GRID)]) == pytest.approx(0.5)


@given(least=st.floats(0.05, 0.95))
def test_lengths_are_where_a_straight_line_crosses(least):
    safety = [1 - abs(alpha) / 0.4 for alpha in GRID]
    backwards, forwards = perturbation_lengths(GRID, safety, least)
    assert backwards == pytest.approx(0.4 * (1 - least)) and forwards == pytest.approx(0.4 * (1 - least))


def test_sides_differ_and_a_safe_side_has_no_end():
    safety = [0.9, 0.9, 0.9, 0.9, 0.7, 0.1, 0.9]
    backwards, forwards = perturbation_lengths(GRID, safety, 0.4)
    # What is safe again behind a gap does not count.
    assert backwards is None and forwards == pytest.approx(0.15)


def test_an_unsafe_centre_has_no_surroundings():
    assert perturbation_lengths(GRID, [0.9, 0.9, 0.9, 0.1, 0.9, 0.9, 0.9], 0.5) == (0.0, 0.0)
