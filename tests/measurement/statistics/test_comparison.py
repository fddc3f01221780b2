import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy import stats
from tests.measurement.statistics.flags import flags

from moored.errors import UserError
from moored.measurement import Outcome, Rate
from moored.measurement.statistics import compare_means, compare_rates, mcnemar_exact, smallest_detectable_difference


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


def rates(before, after, **settings):
    return compare_rates(before, after, better="lower", **settings)


def test_a_comparison_counts_the_discordant_pairs():
    before, after = [True, False, False, False, True], [False, True, True, False, True]
    compared = rates(before, after)
    assert (compared.gained, compared.lost, compared.n) == (2, 1, 5)
    assert compared.difference == pytest.approx(3 / 5 - 2 / 5)
    assert (compared.before, compared.after) == (2 / 5, 3 / 5)


def test_the_paired_bootstrap_agrees_with_the_normal_interval():
    compared = rates(flags(40, 400), [True] * 10 + [False] * 30 + flags(90, 360))
    variance = (compared.gained + compared.lost) / 400 - compared.difference**2
    half = 1.96 * math.sqrt(variance / 400)
    assert compared.low == pytest.approx(compared.difference - half, abs=0.006)
    assert compared.high == pytest.approx(compared.difference + half, abs=0.006)


def test_the_seed_decides_the_bootstrap():
    before, after = flags(5, 50), flags(20, 50)
    assert rates(before, after, seed=1) == rates(before, after, seed=1)
    assert rates(before, after, seed=1, resamples=50) != rates(before, after, seed=2, resamples=50)


def test_no_discordant_pair_is_not_certainty():
    compared = rates(flags(3, 30), flags(3, 30))
    assert compared.difference == 0 and compared.p == 1
    assert compared.high == -compared.low == pytest.approx(Rate.of(0, 30).high)


@pytest.mark.parametrize(("compare", "one"), [(compare_rates, True), (compare_means, 1.0)])
def test_a_pair_needs_the_same_prompts(compare, one):
    with pytest.raises(UserError, match="same prompt file"):
        compare([one], [], better="lower")


@pytest.mark.parametrize(("compare", "n"), [(compare_rates, 0), (compare_means, 0), (compare_means, 1)])
def test_too_few_scores_to_test_are_not_judged(compare, n):
    compared = compare([0.0] * n, [1.0] * n, better="lower")
    assert (compared.outcome, compared.n, compared.p, compared.difference) == (Outcome.NOT_JUDGED, n, None, None)


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
    assert rates([False] * n, [True] * n).outcome is Outcome.NO_DIFFERENCE
    assert detectable(6, 0.0) < 1


@pytest.mark.parametrize(("better", "up", "down"), [("lower", "worse", "better"), ("higher", "better", "worse")])
def test_the_outcome_knows_which_way_is_better(better, up, down):
    few, many = flags(4, 100), flags(45, 100)
    assert compare_rates(few, many, better=better).outcome == up
    assert compare_rates(many, few, better=better).outcome == down
    assert compare_rates(few, flags(6, 100), better=better).outcome == "no detectable difference"
    low, high = [1.0, 2.0, 3.0], [2.0, 3.1, 4.2]
    assert compare_means(low, high, better=better).outcome == up
    assert compare_means(high, low, better=better).outcome == down


def test_the_exact_test_decides():
    few = rates([False] * 50, flags(5, 50))
    assert few.p == 0.0625 and few.outcome is Outcome.NO_DIFFERENCE
    assert few.low > 0 and few.interval_disagrees
    more = rates([False] * 50, flags(6, 50))
    assert more.p == 0.03125 and more.outcome is Outcome.WORSE and not more.interval_disagrees


@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=40))
def test_the_paired_t_test_is_scipy_s_and_agrees_with_its_interval(pairs):
    before, after = ([float(value) for value in side] for side in zip(*pairs, strict=True))
    compared = compare_means(before, after, better="lower")
    change = np.subtract(after, before)
    if change.std() == 0:
        assert compared.p == (1.0 if change[0] == 0 else 0.0)
        return
    expected = stats.ttest_rel(after, before)
    interval = expected.confidence_interval(0.95)
    assert compared.p == pytest.approx(expected.pvalue)
    assert (compared.low, compared.high) == pytest.approx((interval.low, interval.high))
    assert not compared.interval_disagrees


def test_the_smallest_detectable_mean_shows_four_times_in_five():
    random = np.random.default_rng(0)
    delta = compare_means([0.0] * 50, random.normal(size=50).tolist(), better="lower").smallest_detectable
    runs = [compare_means([0.0] * 50, random.normal(delta, 1, 50).tolist(), better="lower") for _ in range(400)]
    assert 0.7 < np.mean([run.is_beyond_chance for run in runs]) < 0.9
