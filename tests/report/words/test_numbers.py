import pytest

from moored.report.reading.schema import DRIFTS, RATES, Estimate
from moored.report.words.numbers import BY_KEY, MEASURES, MISSING, beyond, full, point


def estimate(low: float | None, value: float, high: float | None, n: int = 100) -> Estimate:
    return Estimate(value=value, low=low, high=high, n=n)


def test_every_number_of_the_schema_is_shown() -> None:
    assert {measure.key for measure in MEASURES} == {*RATES, *DRIFTS}


def test_numbers_carry_interval_and_n() -> None:
    assert full(BY_KEY["asr"], estimate(0.071, 0.12, 0.194)) == "0.12 [0.07, 0.19] n=100"
    assert full(BY_KEY["refusal_log_odds"], estimate(-0.5, 1.0, 2.5, 7)) == "+1.00 [-0.50, +2.50] n=7"
    assert full(BY_KEY["kl_harmful"], estimate(0.01, 0.0234, 0.04)) == "0.023 [0.010, 0.040] n=100"


def test_missing_is_said_and_never_zero() -> None:
    assert full(BY_KEY["asr"], None) == MISSING == "not measured"
    assert full(BY_KEY["kl_harmful"], estimate(None, 0.5, None, 1)) == "0.500 [no interval] n=1"


@pytest.mark.parametrize("value", [0.0, -0.0, 0.001, -0.001])
def test_a_rounded_zero_has_no_sign(value: float) -> None:
    assert point(BY_KEY["refusal_log_odds"], value) == "0.00"


def test_beyond_needs_intervals_that_do_not_touch() -> None:
    low = estimate(0.1, 0.2, 0.3)
    assert beyond(estimate(0.31, 0.4, 0.5), low) == "above"
    assert beyond(low, estimate(0.31, 0.4, 0.5)) == "below"
    assert beyond(estimate(0.3, 0.4, 0.5), low) is None
    assert beyond(estimate(None, 0.9, None), low) is None
    assert beyond(None, low) is None
    assert beyond(low, None) is None


def test_which_way_is_worse() -> None:
    assert BY_KEY["asr"].worse == "above"
    assert BY_KEY["utility"].worse == "below"
