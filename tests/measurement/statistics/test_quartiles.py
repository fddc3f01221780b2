import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moored.measurement import quartiles


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=30))
def test_they_are_those_of_the_standard_library(values):
    assert quartiles(values) == pytest.approx(tuple(statistics.quantiles(values, n=4, method="inclusive")))


def test_one_value_is_all_three():
    assert quartiles([3]) == (3.0, 3.0, 3.0)
