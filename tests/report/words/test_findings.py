from collections.abc import Callable
from pathlib import Path
from typing import Any

from moored.report.reading.arms import comparison_arms
from moored.report.words.findings import findings, mark, warnings
from moored.report.words.numbers import BY_KEY

WriteReport = Callable[..., Path]


def prompts(digest: str) -> dict[str, Any]:
    return {"harmful": {"n": 100, "rendered_sha256": digest * 32, "source": None}}


def test_findings_start_with_attack_success_across_the_arms(five_arms: dict[str, Path]) -> None:
    told = findings(comparison_arms(five_arms))
    assert (
        told[0] == "Attack success of aligned (A) is 0.04 [0.00, 0.11]; above it: B, D; not told apart from it: C, E."
    )
    assert told[1] == (
        "ordinary fine-tune (B): attack success 0.41 [0.34, 0.48], above A; task accuracy 0.94 [0.87, 1.00], above A."
    )
    assert "attack success 0.09 [0.02, 0.16], its interval overlaps A’s" in told[4]


def test_missing_measures_are_left_out_of_the_sentences(write_report: WriteReport) -> None:
    first, second = write_report("first", asr=0.1), write_report("second", utility=None)
    bare = write_report("third", utility=None) / "report.json"
    assert bare.exists()
    told = findings(comparison_arms({"first": first, "second": second}))
    assert told[1] == "second (B): attack success 0.12 [0.05, 0.19], its interval overlaps A’s."


def test_other_prompts_are_no_comparison(write_report: WriteReport) -> None:
    first = write_report("first", asr=0.1, prompts=prompts("aa"))
    second = write_report("second", asr=0.9, prompts=prompts("bb"))
    arms = comparison_arms({"first": first, "second": second})
    assert mark(arms[1], arms[0], BY_KEY["asr"]) is None
    assert mark(arms[1], arms[0], BY_KEY["incoherent"]) is None
    assert findings(arms)[0].endswith("not comparable with it: B.")
    assert "on other prompts than A" in findings(arms)[1]
    assert warnings(arms) == [
        "The arms did not see the same harmful prompts (A saw aaaaaaaaaaaa; B saw bbbbbbbbbbbb): "
        "do not compare these rates."
    ]


def test_marks_on_the_same_prompts(write_report: WriteReport) -> None:
    folders = {"first": write_report("first", asr=0.1), "second": write_report("second", asr=0.9, accuracy=0.2)}
    arms = comparison_arms(folders)
    assert mark(arms[1], arms[0], BY_KEY["asr"]) == "above"
    assert mark(arms[1], arms[0], BY_KEY["utility"]) == "below"
    assert mark(arms[0], arms[0], BY_KEY["asr"]) is None
    assert warnings(arms) == []


def test_another_judge_is_a_warning(write_report: WriteReport) -> None:
    first = write_report("first")
    second = write_report("second", judge={"name": "refusal", "version": "2"})
    (warning,) = warnings(comparison_arms({"first": first, "second": second}))
    assert "judged differently (refusal 1, refusal 2)" in warning


def test_a_set_that_only_one_arm_saw_is_no_warning(write_report: WriteReport) -> None:
    first, second = write_report("first"), write_report("second", prompts={})
    assert warnings(comparison_arms({"first": first, "second": second})) == []


def test_incoherence_is_counted_on_two_sets(write_report: WriteReport) -> None:
    low, high = ({"rate": x, "low": x, "high": x, "n": 9} for x in (0.1, 0.9))
    other = {"harmless": {"n": 100, "rendered_sha256": "ff" * 32, "source": None}}
    folders = {
        "first": write_report("first", incoherent=low),
        "second": write_report("second", incoherent=high),
        "third": write_report("third", incoherent=high, prompts=other),
    }
    arms = comparison_arms(folders)
    assert [mark(arm, arms[0], BY_KEY["incoherent"]) for arm in arms] == [None, "above", None]
