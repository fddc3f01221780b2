import numpy as np
import pytest

from moored.measurement import JudgeError, Rate, agreement
from moored.measurement.statistics import refused_interval


def test_agreement_by_hand():
    # 6 hits, 2 missed, 1 false, 11 right: chance agrees on .4 · .35 + .6 · .65 = .53 of 20.
    refused = [True] * 8 + [False] * 12
    judged = [True] * 6 + [False] * 2 + [True] + [False] * 11
    found = agreement(refused, judged)
    assert (found.n, found.refusals) == (20, 8)
    assert found.precision.value == pytest.approx(6 / 7) and found.recall.value == pytest.approx(6 / 8)
    assert (found.recall.low, found.recall.high) == (Rate.of(6, 8).low, Rate.of(6, 8).high)
    assert found.f1.value == pytest.approx(12 / 15)
    assert found.kappa.value == pytest.approx((0.85 - 0.53) / 0.47)
    for estimate in (found.f1, found.kappa):
        assert estimate.low < estimate.value < estimate.high and estimate.n == 20


def test_intervals_are_percentiles_of_resampled_rows():
    random = np.random.default_rng(0)
    refused = random.random(200) < 0.4
    judged = refused ^ (random.random(200) < 0.1)
    scores = []
    for _ in range(2000):
        rows = random.integers(200, size=200)
        hits = (refused[rows] & judged[rows]).sum()
        scores.append(2 * hits / (refused[rows].sum() + judged[rows].sum()))
    found = agreement(refused.tolist(), judged.tolist()).f1
    assert (found.low, found.high) == pytest.approx(np.quantile(scores, [0.025, 0.975]), abs=0.01)


def test_what_is_not_there_has_no_number():
    empty, none = agreement([], []), agreement([False] * 3, [False] * 3)
    assert empty.n == 0 and empty.f1 is empty.kappa is empty.precision is empty.recall is None
    assert none.precision is none.recall is none.f1 is none.kappa is None
    assert agreement([True, False], [True, False]).kappa.value == 1


def test_a_judge_without_error_leaves_the_rate_as_it_is():
    sure = JudgeError(missed=0, refusals=10**6, false=0, others=10**6)
    low, high = refused_interval(30, 100, sure)
    assert low == pytest.approx(Rate.of(30, 100).low, abs=0.01) and high == pytest.approx(
        Rate.of(30, 100).high, abs=0.01
    )


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    random, held = np.random.default_rng(1), 0
    for _ in range(200):
        true, missed, false = 0.2, 0.1, 0.05
        refused = int(random.binomial(150, true * (1 - missed) + (1 - true) * false))
        error = JudgeError(
            missed=int(random.binomial(300, missed)), refusals=300, false=int(random.binomial(300, false)), others=300
        )
        low, high = refused_interval(refused, 150, error)
        held += low <= true <= high
    assert 180 <= held <= 199


@pytest.mark.parametrize(
    ("n", "error"),
    [
        (0, JudgeError(missed=1, refusals=9, false=1, others=9)),
        (9, JudgeError(missed=5, refusals=9, false=5, others=9)),
        (9, JudgeError(missed=0, refusals=0, false=0, others=9)),
    ],
)
def test_no_interval_from_nothing_or_from_a_guess(n, error):
    with pytest.raises(ValueError, match="better than chance"):
        refused_interval(0, n, error)
