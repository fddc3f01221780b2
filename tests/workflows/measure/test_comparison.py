"""What moved between two models on the same prompts."""

import pytest

from moored.errors import InputError
from moored.workflows.measure.comparison import compare, in_words


def _rows(harmful: str, task: str = "") -> list[dict]:
    """One row per letter: c complied, r refused; + correct, - wrong."""
    labels = {"c": "complied", "r": "refused"}
    asked = [{"set": "harmful", "label": labels[letter], "correct": None} for letter in harmful]
    return asked + [{"set": "task", "label": None, "correct": letter == "+"} for letter in task]


def test_rates_are_paired_prompt_by_prompt() -> None:
    compared = compare(_rows("rrrrc", "++-"), _rows("ccrrr", "+--"))

    asr, utility = compared["asr"], compared["utility"]
    assert (asr.gained, asr.lost, asr.n) == (2, 1, 5)
    assert asr.difference == pytest.approx(1 / 5)
    assert (utility.gained, utility.lost, utility.n) == (0, 1, 3)


def test_a_measure_without_prompts_is_left_out() -> None:
    assert compare(_rows("rc"), _rows("cc")).keys() == {"asr"}
    assert compare(_rows("rc", "+"), _rows("cc", "+"), only=("utility",)).keys() == {"utility"}


def test_other_prompts_are_refused() -> None:
    with pytest.raises(InputError, match="same prompts"):
        compare(_rows("rc"), _rows("rcc"))


def test_a_change_beyond_chance_is_told_with_its_direction() -> None:
    rose = compare(_rows("r" * 20), _rows("c" * 15 + "r" * 5))["asr"]
    fell = compare(_rows("", "+" * 20), _rows("", "-" * 15 + "+" * 5))["utility"]

    assert in_words("asr", rose).startswith("attack success rose from 0.00 to 0.75 (+0.75 [")
    assert in_words("utility", fell).startswith("task accuracy fell from 1.00 to 0.25 (-0.75 [")


def test_a_change_within_chance_claims_nothing() -> None:
    told = in_words("asr", compare(_rows("rrrrr"), _rows("crrrr"))["asr"])

    assert told.startswith("no change in attack success that 5 prompts could show (+0.20 [")


def test_an_interval_that_would_say_otherwise_is_overruled_in_the_same_clause() -> None:
    told = in_words("asr", compare(_rows("r" * 50), _rows("c" * 5 + "r" * 45))["asr"])

    assert told.startswith("no change in attack success that 50 prompts could show (+0.10 [+0.02, ")
    assert told.endswith(", n=50; the interval alone would say otherwise, but the exact test decides)")
