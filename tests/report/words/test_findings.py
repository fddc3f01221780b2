from collections.abc import Callable
from pathlib import Path
from typing import Any

from moored.report.reading.arms import comparison_arms
from moored.report.words.findings import findings, moved, warnings

WriteReport = Callable[..., Path]


def prompts(digest: str) -> dict[str, Any]:
    return {"harmful": {"n": 100, "rendered_sha256": digest * 32, "source": None}}


def test_findings_start_with_attack_success_across_the_arms(five_arms: dict[str, Path]) -> None:
    told = findings(comparison_arms(five_arms))
    assert (
        told[0] == "Attack success of aligned (A) is 0.04 [0.00, 0.11]; higher: B, D; no detectable difference: C, E."
    )
    assert told[1] == (
        "ordinary fine-tune (B): attack success 0.41 [0.34, 0.48], higher than A; "
        "task accuracy 0.94 [0.87, 1.00], higher than A."
    )
    assert "attack success 0.09 [0.02, 0.16], no detectable difference from A" in told[4]


def test_missing_measures_are_left_out_of_the_sentences(write_report: WriteReport) -> None:
    first, second = write_report("first", asr=0.1), write_report("second", utility=None)
    bare = write_report("third", utility=None) / "report.json"
    assert bare.exists()
    told = findings(comparison_arms({"first": first, "second": second}))
    assert told[1] == "second (B): attack success 0.12 [0.05, 0.19], no detectable difference from A."


def test_other_prompts_are_no_comparison(write_report: WriteReport) -> None:
    first = write_report("first", asr=0.1, prompts=prompts("aa"))
    second = write_report("second", asr=0.9, prompts=prompts("bb"))
    arms = comparison_arms({"first": first, "second": second})
    assert findings(arms)[0].endswith("not comparable: B.")
    assert "0.90 [0.83, 0.97], not comparable with A" in findings(arms)[1]
    assert warnings(arms) == [
        "The arms did not see the same harmful prompts (A saw aaaaaaaaaaaa; B saw bbbbbbbbbbbb): "
        "do not compare these rates."
    ]


def test_a_measure_moves_where_the_paired_test_says_so(write_report: WriteReport) -> None:
    folders = {"first": write_report("first", asr=0.1), "second": write_report("second", asr=0.9, accuracy=0.2)}
    arms = comparison_arms(folders)
    assert [moved(arms[1].comparison[key]) for key in ("asr", "utility", "empty")] == ["higher", "lower", ""]
    assert moved(arms[0].comparison.get("asr")) == ""
    assert warnings(arms) == []


def test_another_judge_is_a_warning(write_report: WriteReport) -> None:
    first = write_report("first")
    second = write_report("second", judge={"name": "refusal", "version": "2"})
    (warning,) = warnings(comparison_arms({"first": first, "second": second}))
    assert "judged differently (refusal 1, refusal 2)" in warning


def test_a_set_that_only_one_arm_saw_is_no_warning(write_report: WriteReport) -> None:
    first, second = write_report("first"), write_report("second", prompts={})
    assert warnings(comparison_arms({"first": first, "second": second})) == []


def test_intervals_that_overlap_do_not_hide_a_paired_difference(write_report: WriteReport) -> None:
    """10 to 19 of 100, nine prompts gained and none lost: McNemar's p is 0.004, but the intervals overlap."""
    arms = comparison_arms({str(asr): write_report(str(asr), asr=asr) for asr in (0.10, 0.19)})
    first, second = (arm.estimates["asr"] for arm in arms)
    assert first.high is not None and second.low is not None and first.high > second.low
    assert findings(arms)[0].endswith("; higher: B.")
