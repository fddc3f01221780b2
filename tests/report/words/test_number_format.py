import pytest

from moored.measurement import MEASURES, Estimate
from moored.report.words.number_format import MISSING, full, p_value, point, size


def estimate(low: float | None, value: float, high: float | None, n: int = 100) -> Estimate:
    return Estimate(value=value, low=low, high=high, n=n)


def test_numbers_carry_interval_and_n() -> None:
    assert full(MEASURES["asr"], estimate(0.071, 0.12, 0.194)) == "0.12 [0.07, 0.19] n=100"
    assert full(MEASURES["refusal_log_odds"], estimate(-0.5, 1.0, 2.5, 7)) == "+1.00 [-0.50, +2.50] n=7"
    assert full(MEASURES["kl_harmful"], estimate(0.01, 0.0234, 0.04)) == "0.023 [0.010, 0.040] n=100"


def test_missing_is_said_and_never_zero() -> None:
    assert full(MEASURES["asr"], None) == MISSING == "not measured"
    assert full(MEASURES["kl_harmful"], estimate(None, 0.5, None, 1)) == "0.500 [no interval] n=1"


@pytest.mark.parametrize("value", [0.0, -0.0, 0.001, -0.001])
def test_a_rounded_zero_has_no_sign(value: float) -> None:
    assert point(MEASURES["refusal_log_odds"], value) == "0.00"


def test_what_was_not_scored_is_said_beside_n() -> None:
    some = Estimate(value=0.5, low=0.4, high=0.6, n=97, unscored=3)
    assert full(MEASURES["asr"], some) == "0.50 [0.40, 0.60] n=97, 3 unscored"


def test_p_values_are_short() -> None:
    assert [p_value(p) for p in (None, 0.0004, 0.0312)] == ["–", "< 0.001", "0.031"]


def test_a_size_says_what_was_left_out():
    left_out = Estimate(value=0.5, low=0.1, high=0.9, n=97, unscored=2, unfinished=1)
    assert size(left_out) == "n=97, 2 unscored, 1 unfinished"


def test_undecided_answers_are_among_the_n() -> None:
    assert (
        size(Estimate(value=0.5, low=0.4, high=0.6, n=97, undecided=9, unscored=3)) == "n=97, 9 undecided, 3 unscored"
    )
