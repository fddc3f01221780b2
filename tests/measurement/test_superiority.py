from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy import stats

from moored import measurement


def superiority(one, other) -> Any:
    return measurement.superiority(np.array(one), np.array(other))


VALUES = st.lists(st.integers(-3, 3), min_size=2, max_size=12)


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
