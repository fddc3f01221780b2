from collections.abc import Callable
from pathlib import Path

import pytest
from tests.report.conftest import made_report

from moored.errors import InputError
from moored.measurement import Outcome
from moored.report.reading.arms import comparison_arms, measure_arms
from moored.report.reading.measure import read_measure

WriteReport = Callable[..., Path]


def test_letters_follow_the_order(write_report: WriteReport) -> None:
    folder = write_report("run")
    arms = comparison_arms({f"arm {i}": folder for i in range(28)})
    assert [arm.letter for arm in arms[:3]] == ["A", "B", "C"]
    assert [arm.letter for arm in arms[25:]] == ["Z", "27", "28"]
    assert arms[2].name == "arm 2"


def test_a_single_measure_is_one_arm(write_report: WriteReport) -> None:
    model = {"name": "org/model", "path": "p", "adapter": "runs/mine"}
    (arm,) = measure_arms(read_measure(write_report("run", model=model)))
    assert arm.name == "org/model + runs/mine"
    assert len(arm.categories()) == 10


def test_the_reference_comes_first(write_report: WriteReport) -> None:
    moved = {"outcome": "worse", "difference": 0.4, "low": 0.3, "high": 0.5, "p": 0.001, "n": 100}
    against = {
        "model": {"name": "reference", "path": "p"}, "estimates": {}, "comparison": {"asr": moved},
        "outcome": "worse", "sentence": "Drifted.",
    }  # fmt: skip
    first, second = measure_arms(read_measure(write_report("run", against=against)))
    assert (first.name, second.name) == ("reference", "embedded:aligned")
    assert first.estimate("asr") is None
    assert first.answers == [] and first.comparison == {}
    assert second.comparison["asr"].outcome is Outcome.WORSE


def test_arms_are_compared_with_the_first_by_their_answers(write_report: WriteReport) -> None:
    first, same, worse = comparison_arms({str(asr): write_report(str(asr), asr=asr) for asr in (0.04, 0.09, 0.41)})
    assert first.comparison == {}
    assert (same.comparison["asr"].outcome, same.comparison["asr"].gained) == (Outcome.NO_DIFFERENCE, 5)
    assert (worse.comparison["asr"].outcome, worse.comparison["asr"].n) == (Outcome.WORSE, 100)
    assert worse.comparison.keys() == {"asr", "over_refusal", "ordinary_refusal", "incoherent", "empty", "utility"}


def test_only_the_same_prompts_and_the_same_judge_are_compared(write_report: WriteReport) -> None:
    other = {"harmful": {"n": 100, "rendered_sha256": "ff" * 32}, "harmless": made_report()["prompts"]["harmless"]}
    folders = {
        "first": write_report("first"),
        "other prompts": write_report("prompts", asr=0.9, prompts=other),
        "other judge": write_report("judge", asr=0.9, judge={"name": "refusal", "version": "2"}),
        "no answers": write_report("bare", asr=0.9, rows=[]),
    }
    compared = [arm.comparison.keys() for arm in comparison_arms(folders)]
    assert compared == [set(), {"over_refusal"}, set(), set()]


def test_names_are_made_visible(write_report: WriteReport) -> None:
    (arm,) = comparison_arms({"a\x1b[31m": write_report("run")})
    assert arm.name == "a␛[31m"


def test_nothing_to_compare() -> None:
    with pytest.raises(InputError, match="at least one report"):
        comparison_arms({})
