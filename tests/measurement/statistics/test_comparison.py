import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from tests.measurement.statistics.flags import flags

from moored.errors import UserError
from moored.measurement import Rate, paired_difference, verdict
from moored.measurement.statistics import mcnemar_exact, smallest_detectable_difference


def detectable(n, discordant):
    delta = smallest_detectable_difference(n, discordant)
    assert delta is not None
    return delta


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_by_summing_binomial_terms(gained, lost):
    n = gained + lost
    tail = sum(math.comb(n, k) for k in range(min(gained, lost) + 1)) / 2**n
    assert mcnemar_exact(gained, lost) == pytest.approx(min(1.0, 2 * tail))


def test_a_paired_difference_counts_the_discordant_pairs():
    before, after = [True, False, False, False, True], [False, True, True, False, True]
    paired = paired_difference(before, after)
    assert (paired.gained, paired.lost, paired.n) == (2, 1, 5)
    assert paired.difference == pytest.approx(3 / 5 - 2 / 5)
    assert (paired.before.rate, paired.after.rate) == (2 / 5, 3 / 5)
    assert paired.as_dict()["before"] == Rate.of(2, 5).as_dict()


def test_the_paired_bootstrap_agrees_with_the_normal_interval():
    paired = paired_difference(flags(40, 400), [True] * 10 + [False] * 30 + flags(90, 360))
    variance = (paired.gained + paired.lost) / 400 - paired.difference**2
    half = 1.96 * math.sqrt(variance / 400)
    assert paired.low == pytest.approx(paired.difference - half, abs=0.006)
    assert paired.high == pytest.approx(paired.difference + half, abs=0.006)


def test_the_seed_decides_the_bootstrap():
    before, after = flags(5, 50), flags(20, 50)
    assert paired_difference(before, after, seed=1) == paired_difference(before, after, seed=1)
    assert paired_difference(before, after, seed=1, resamples=50) != paired_difference(
        before, after, seed=2, resamples=50
    )


def test_no_discordant_pair_is_not_certainty():
    paired = paired_difference(flags(3, 30), flags(3, 30))
    assert paired.difference == 0 and paired.p_value == 1
    assert paired.high == -paired.low == pytest.approx(Rate.of(0, 30).high)


@pytest.mark.parametrize(("before", "after"), [([True], []), ([], [])])
def test_a_pair_needs_the_same_prompts(before, after):
    with pytest.raises(UserError, match="same prompt file"):
        paired_difference(before, after)


@pytest.mark.parametrize(("n", "discordant"), [(20, 0.0), (100, 0.0), (100, 0.1), (400, 0.5), (1000, 1.0)])
def test_the_smallest_detectable_difference_needs_exactly_n_prompts(n, discordant):
    delta = detectable(n, discordant)
    share = max(discordant, delta)
    needed = (1.959964 * math.sqrt(share) + 0.841621 * math.sqrt(share - delta**2)) ** 2 / delta**2
    assert needed == pytest.approx(n, rel=1e-4)


def test_the_smallest_detectable_difference_shows_four_times_in_five():
    n, discordant = 300, 0.3
    delta = detectable(n, discordant)
    shares = [(discordant + delta) / 2, (discordant - delta) / 2, 1 - discordant]
    draws = np.random.default_rng(0).multinomial(n, shares, size=1000)
    shown = np.mean([mcnemar_exact(int(gained), int(lost)) < 0.05 for gained, lost, _ in draws])
    assert 0.72 < shown < 0.85


@pytest.mark.parametrize("n", [3, 5])
def test_too_few_prompts_show_nothing(n):
    assert smallest_detectable_difference(n, 0.0) is None
    assert "could not show any difference" in verdict(paired_difference([False] * n, [True] * n))
    assert detectable(6, 0.0) < 1


def test_the_verdict_says_which_way():
    few, many = flags(4, 100), flags(45, 100)
    assert verdict(paired_difference(few, many)).startswith(
        "drifted: 4.0 % before and 45.0 % after, difference +41.0 points"
    )
    assert verdict(paired_difference(many, few)).startswith(
        "safer: 45.0 % before and 4.0 % after, difference -41.0 points"
    )
    same = verdict(paired_difference(few, flags(6, 100)))
    assert same.startswith("no difference this n could show: ") and "n = 100" in same and same.endswith("points.")


def test_the_verdict_goes_by_the_exact_test():
    assert verdict(paired_difference([False] * 50, flags(5, 50))).startswith("no difference")  # p = 0.0625
    assert verdict(paired_difference([False] * 50, flags(6, 50))).startswith("drifted")  # p = 0.03125


def test_an_interval_that_would_say_otherwise_is_overruled_in_the_same_sentence():
    few = paired_difference([False] * 50, flags(5, 50))
    assert few.low > 0 and few.p_value > 0.05
    sentence = verdict(few)
    assert "points; the interval alone would say otherwise, but the exact test decides), McNemar p = 0.062" in sentence
    for agreeing in (flags(0, 50), flags(2, 50), flags(6, 50), flags(30, 50)):
        assert "otherwise" not in verdict(paired_difference([False] * 50, agreeing))
