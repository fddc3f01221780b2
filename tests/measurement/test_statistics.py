import itertools
import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from moored.errors import UserError
from moored.measurement import Rate, mean_interval, over_seeds, paired_difference, spearman, verdict
from moored.measurement.statistics import mcnemar_exact, seeded_difference, smallest_detectable_difference

COUNTS = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def numbers(rate):
    """Low, rate and high of a scored rate."""
    assert rate.low is not None and rate.rate is not None and rate.high is not None
    return rate.low, rate.rate, rate.high


def detectable(n, discordant):
    delta = smallest_detectable_difference(n, discordant)
    assert delta is not None
    return delta


def flags(true, n):
    return [True] * true + [False] * (n - true)


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


def test_the_bootstrap_agrees_with_all_resamples():
    values = [0.0, 1.0, 1.0, 4.0, 0.5]
    means = [sum(draw) / 5 for draw in itertools.product(values, repeat=5)]
    low, high = np.quantile(means, [0.025, 0.975])
    mean = mean_interval(values)
    assert (mean.mean, mean.n) == (pytest.approx(1.3), 5)
    assert (mean.low, mean.high) == (pytest.approx(low, abs=0.11), pytest.approx(high, abs=0.11))


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


def test_a_mean_without_scores_is_none():
    assert mean_interval([]).as_dict() == {"mean": None, "low": None, "high": None, "n": 0}
    for broken in (math.nan, math.inf):
        assert mean_interval([1.0, broken, 2.0]) == mean_interval([])
    assert mean_interval([2.0]).as_dict() == {"mean": 2.0, "low": None, "high": None, "n": 1}


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
