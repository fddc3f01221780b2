from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy import stats

from moored.errors import UserError
from moored.measurement import ranks


def rank_correlation(one, other) -> Any:
    return ranks.rank_correlation(np.array(one), np.array(other))


def superiority(one, other) -> Any:
    return ranks.superiority(np.array(one), np.array(other))


VALUES = st.lists(st.integers(-3, 3), min_size=2, max_size=12)


def test_the_rank_correlation_by_hand():
    found = rank_correlation([1, 2, 3, 4, 5], [10, 20, 30, 50, 40])
    assert found.rho == pytest.approx(1 - 6 * 2 / (5 * 24)) and found.n == 5


@given(pairs=st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=4, max_size=20))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_the_rank_correlation_is_scipy_s_and_lies_in_its_interval(pairs):
    one, other = zip(*pairs, strict=True)
    found = rank_correlation(one, other)
    if len({*one}) == 1 or len({*other}) == 1:
        assert found.rho is None and found.low is None
    else:
        assert found.rho == pytest.approx(stats.spearmanr(one, other).statistic)
        assert found.low is None or -1 <= found.low < found.rho < found.high <= 1


def test_the_interval_holds_the_truth_as_often_as_it_says():
    draw, truth = np.random.default_rng(0), 6 / np.pi * np.arcsin(0.7 / 2)
    found = []
    for _ in range(400):
        pairs = draw.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], size=40)
        each = rank_correlation(np.exp(pairs[:, 0]), pairs[:, 1])
        found.append(each.low <= truth <= each.high)
    assert 0.92 <= np.mean(found) <= 0.98


def test_few_pairs_and_perfect_order_have_no_interval():
    assert rank_correlation([1, 2, 3], [1, 3, 2]).low is None
    assert rank_correlation([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]).as_dict() == {
        "rho": pytest.approx(1),
        "low": None,
        "high": None,
        "n": 5,
    }
    with pytest.raises(UserError, match="needs pairs, got 2 values and 3"):
        rank_correlation([1, 2], [1, 2, 3])


@given(one=VALUES, other=VALUES)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_superiority_counts_every_pair(one, other):
    found = superiority(one, other)
    pairs = [(a > b) + (a == b) / 2 for a in one for b in other]
    assert found.probability == pytest.approx(np.mean(pairs))
    assert found.probability == pytest.approx(stats.mannwhitneyu(one, other).statistic / len(pairs))
    assert found.low is None or 0 <= found.low <= found.probability <= found.high <= 1
    back = superiority(other, one)
    assert back.probability == pytest.approx(1 - found.probability)
    assert found.low is None or back.high == pytest.approx(1 - found.low)


def test_its_interval_holds_the_truth_as_often_as_it_says():
    draw, truth = np.random.default_rng(0), stats.norm.cdf(0.8 / np.sqrt(2))
    found = [superiority(draw.normal(0.8, 1, 25), draw.normal(0, 1, 60)) for _ in range(400)]
    assert 0.92 <= np.mean([each.low <= truth <= each.high for each in found]) <= 0.98


def test_without_overlap_or_without_a_group_there_is_no_interval():
    assert superiority([3, 4], [1, 2]).as_dict() == {"probability": 1.0, "low": None, "high": None, "n": [2, 2]}
    assert superiority([2], [1, 3]).as_dict() == {"probability": 0.5, "low": None, "high": None, "n": [1, 2]}
    assert superiority([], [1]).probability is None
