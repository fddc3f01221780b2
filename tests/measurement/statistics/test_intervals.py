import itertools
import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from moored.measurement import Rate, mean_interval
from moored.measurement.statistics import intervals

COUNTS = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def numbers(rate):
    """Low, rate and high of a scored rate."""
    assert rate.low is not None and rate.rate is not None and rate.high is not None
    return rate.low, rate.rate, rate.high


@settings(deadline=None, derandomize=True)
@given(COUNTS)
def test_wilson_by_its_closed_formula(counts):
    successes, n = counts
    z, p = 1.959963984540054, successes / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    rate = Rate.of(successes, n)
    assert rate.low == pytest.approx(centre - half, abs=1e-9)
    assert rate.high == pytest.approx(centre + half, abs=1e-9)


@settings(deadline=None, derandomize=True)
@given(COUNTS)
def test_wilson_contains_the_rate(counts):
    low, rate, high = numbers(Rate.of(*counts))
    assert 0 <= low <= rate <= high <= 1
    assert low < high


def test_unscored_is_not_zero():
    assert Rate.of(0, 0).as_dict() == {"rate": None, "low": None, "high": None, "n": 0}
    assert Rate.of(0, 9).rate == 0.0


@pytest.mark.parametrize(("successes", "n"), [(3, 2), (-1, 2), (0, -1)])
def test_impossible_counts_raise(successes, n):
    with pytest.raises(ValueError, match="successes"):
        Rate.of(successes, n)


def test_the_bootstrap_agrees_with_all_resamples():
    values = [0.0, 1.0, 1.0, 4.0, 0.5]
    means = [sum(draw) / 5 for draw in itertools.product(values, repeat=5)]
    low, high = np.quantile(means, [0.025, 0.975])
    mean = mean_interval(values)
    assert (mean.mean, mean.n) == (pytest.approx(1.3), 5)
    assert (mean.low, mean.high) == (pytest.approx(low, abs=0.11), pytest.approx(high, abs=0.11))


def test_a_mean_without_scores_is_none():
    assert mean_interval([]).as_dict() == {"mean": None, "low": None, "high": None, "n": 0}
    for broken in (math.nan, math.inf):
        assert mean_interval([1.0, broken, 2.0]) == mean_interval([])
    assert mean_interval([2.0]).as_dict() == {"mean": 2.0, "low": None, "high": None, "n": 1}


@pytest.mark.parametrize("n", [1, 2, 9, 130, 3000])
def test_blocks_of_resamples_are_those_drawn_one_after_the_other(n, monkeypatch):
    values = np.random.default_rng(n).normal(size=n)
    draw = np.random.default_rng(3)
    means = [values[draw.integers(n, size=n)].mean() for _ in range(50)]
    for block in (1, 7 * n, 10**6):
        monkeypatch.setattr(intervals, "_BLOCK", block)
        assert intervals._resampled_means(values, np.random.default_rng(3), 50).tolist() == means
