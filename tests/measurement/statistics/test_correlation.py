import math

import numpy as np
import pytest

from moored.measurement import spearman


def test_spearman_by_the_ranks_differences():
    x, y = [3.0, 1.0, 4.0, 1.5, 9.0], [2.0, 7.0, 1.0, 8.0, 2.5]
    ranks_x, ranks_y = ([sorted(each).index(value) for value in each] for each in (x, y))
    squares = sum((a - b) ** 2 for a, b in zip(ranks_x, ranks_y, strict=True))
    assert spearman(x, y).rho == pytest.approx(1 - 6 * squares / (5 * 24))


def test_spearman_gives_ties_their_mean_rank():
    expected = np.corrcoef([1, 2.5, 2.5, 4, 5], [5, 4, 1.5, 3, 1.5])[0, 1]
    assert spearman([0, 1, 1, 2, 3], [9, 7, 0, 3, 0]).rho == pytest.approx(expected)


def test_spearman_s_interval_covers_19_times_in_20():
    random, r, covered = np.random.default_rng(0), 0.6, 0
    truth = 6 / math.pi * math.asin(r / 2)  # of two normal variables with correlation r
    for _ in range(400):
        x = random.normal(size=60)
        found = spearman(x.tolist(), (r * x + math.sqrt(1 - r**2) * random.normal(size=60)).tolist())
        assert found.low is not None and found.high is not None
        covered += found.low <= truth <= found.high
    assert 0.92 < covered / 400 < 0.98


def test_spearman_s_p_value_is_below_5_percent_by_chance_1_time_in_20():
    random = np.random.default_rng(0)
    draws = [spearman(random.normal(size=30).tolist(), random.normal(size=30).tolist()) for _ in range(600)]
    assert 0.03 < np.mean([draw.p_value is not None and draw.p_value < 0.05 for draw in draws]) < 0.07


@pytest.mark.parametrize("sign", [1, -1])
def test_a_perfect_order_is_not_certainty(sign):
    perfect = spearman([*range(7)], [sign * 2.0**each for each in range(7)])
    nearly = spearman([*range(7)], [sign * each for each in (1, 0, 2, 3, 4, 5, 6)])
    assert perfect.rho == sign and perfect.n == 7
    assert (perfect.low, perfect.high) == pytest.approx((0.674, 1) if sign == 1 else (-1, -0.674), abs=0.001)
    assert (nearly.low if sign == 1 else nearly.high) == pytest.approx(0.674 * sign, abs=0.001)


@pytest.mark.parametrize(("x", "y"), [([], []), ([1, 2, 3], [3, 2, 1]), ([1, 1, 1, 1], [1, 2, 3, 4])])
def test_no_correlation_to_speak_of_is_none(x, y):
    assert spearman(x, y).as_dict() == {"rho": None, "low": None, "high": None, "p_value": None, "n": len(x)}


def test_a_correlation_needs_pairs():
    with pytest.raises(ValueError, match="pairs"):
        spearman([1.0], [1.0, 2.0])
