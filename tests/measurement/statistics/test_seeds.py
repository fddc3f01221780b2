import math

import pytest
from tests.measurement.statistics.flags import flags

from moored.errors import UserError
from moored.measurement import Rate, over_seeds
from moored.measurement.statistics import seeded_difference


def test_seeds_are_no_new_prompts():
    run = flags(30, 100)
    one, ten = over_seeds([run]), over_seeds([run] * 10)
    assert (one.low, one.high, one.n) == (ten.low, ten.high, ten.n)
    assert ten.low == pytest.approx(0.3 - 1.96 * math.sqrt(0.3 * 0.7 / 100), abs=0.015)
    assert [seed.rate for seed in over_seeds([run, flags(40, 100)]).seeds] == [0.3, 0.4]
    assert over_seeds([run, flags(40, 100)]).as_dict()["rate"] == pytest.approx(0.35)


def test_seeds_that_never_succeed_are_not_certainty():
    rate = over_seeds([[False] * 40] * 3)
    assert (rate.rate, rate.low) == (0.0, 0.0)
    assert rate.high == pytest.approx(Rate.of(0, 40).high)


@pytest.mark.parametrize("runs", [[], [[]], [[True], [True, False]]])
def test_seeds_need_the_same_prompts(runs):
    with pytest.raises(UserError, match="same prompt file"):
        over_seeds(runs)


def test_a_difference_over_seeds_resamples_prompts_and_tells_the_seeds():
    before, after = [flags(30, 100), flags(40, 100)], [flags(50, 100), flags(40, 100)]
    found = seeded_difference(before, after)
    assert found.seeds == (pytest.approx(0.2), 0.0) and found.n == 100
    assert found.difference == pytest.approx(0.1)
    # By prompt the difference is 0.5 on 20 prompts and 0 on 80, however many seeds repeat that.
    deviation = math.sqrt(0.25 * 0.2 * 0.8 / 100)
    assert found.low == pytest.approx(0.1 - 1.96 * deviation, abs=0.01)
    assert found.high == pytest.approx(0.1 + 1.96 * deviation, abs=0.01)
    assert found.smallest_detectable == pytest.approx((1.96 + 0.8416) * deviation, rel=0.01)
    assert seeded_difference(before * 5, after * 5).low == found.low


def test_a_difference_over_seeds_takes_scores_too_and_a_single_prompt_shows_nothing():
    found = seeded_difference([[1.0, 2.0]], [[1.5, 3.5]])
    assert found.difference == 1.0 and (found.low, found.high) == (0.5, 1.5)
    assert seeded_difference([[1.0]], [[3.0]]).smallest_detectable is None


@pytest.mark.parametrize(
    ("before", "after"), [([], []), ([[]], [[]]), ([[1.0]], [[1.0], [2.0]]), ([[1.0, 2.0], [1.0]],) * 2]
)
def test_a_difference_over_seeds_needs_the_same_seeds_and_prompts(before, after):
    with pytest.raises(UserError, match="same seeds and prompts"):
        seeded_difference(before, after)
