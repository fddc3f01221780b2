from collections.abc import Callable
from pathlib import Path

import pytest

from moored.errors import InputError
from moored.report.reading.arms import comparison_arms, measure_arms

WriteReport = Callable[..., Path]


def test_letters_follow_the_order(write_report: WriteReport) -> None:
    folder = write_report("run")
    arms = comparison_arms({f"arm {i}": folder for i in range(28)})
    assert [arm.letter for arm in arms[:3]] == ["A", "B", "C"]
    assert [arm.letter for arm in arms[25:]] == ["Z", "27", "28"]
    assert arms[2].name == "arm 2"


def test_a_single_measure_is_one_arm(write_report: WriteReport) -> None:
    (arm,) = measure_arms(write_report("run", model={"name": "org/model", "adapter": "runs/mine"}))
    assert arm.name == "org/model + runs/mine"
    assert len(arm.categories()) == 10


def test_the_reference_comes_first(write_report: WriteReport) -> None:
    against = {"model": {"name": "reference"}, "comparison": {}, "verdict": "No difference.", "next": None}
    first, second = measure_arms(write_report("run", against=against))
    assert (first.name, second.name) == ("reference", "embedded:aligned")
    assert first.estimate("asr") is None
    assert first.answers == []


def test_names_are_made_visible(write_report: WriteReport) -> None:
    (arm,) = comparison_arms({"a\x1b[31m": write_report("run")})
    assert arm.name == "a␛[31m"


def test_nothing_to_compare() -> None:
    with pytest.raises(InputError, match="at least one report"):
        comparison_arms({})
