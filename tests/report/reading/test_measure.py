import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moored.errors import InputError
from moored.measurement import MEASURES, Estimate, Outcome
from moored.report.reading.measure import read_measure

WriteReport = Callable[..., Path]
AGAINST: dict[str, Any] = {
    "model": {"name": "other", "path": "p"},
    "estimates": {"asr": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 90}},
    "comparison": {
        "asr": {
            "outcome": "worse", "before": 0.5, "after": 0.8, "difference": 0.3, "low": 0.2, "high": 0.4, "p": 0.001,
            "n": 90, "gained": 30, "lost": 3, "smallest_detectable": None,
        }
    },
    "outcome": "worse",
    "sentence": "Drifted.",
}  # fmt: skip


def test_every_part_is_read(write_report: WriteReport) -> None:
    report = read_measure(write_report("run", asr=0.12))
    assert report.estimates["asr"] == Estimate(value=0.12, low=0.05, high=0.19, n=100)
    assert report.estimates.keys() == MEASURES.keys()
    assert str(report.judge) == "refusal 1" and report.settings["max_new_tokens"] == 48
    assert report.prompts["task"].rendered_sha256 == "3c" * 32
    assert len(report.answers) == 170 and report.answers[0].set == "harmful"
    assert report.against is None and report.reference_answers == []


def test_what_was_not_measured_has_no_estimate(write_report: WriteReport) -> None:
    report = read_measure(write_report("run", over_refusal=None))
    assert "over_refusal" not in report.estimates
    assert "over_refusal" not in {row["measure"] for row in report.rows()}


def test_what_is_written_is_read_back(write_report: WriteReport, tmp_path: Path) -> None:
    report = read_measure(write_report("run", against=AGAINST))
    assert read_measure(report.save(tmp_path / "again")) == report
    assert {file.name for file in (tmp_path / "again").iterdir()} == {"report.json", "answers.jsonl", "index.html"}
    assert "answers" not in json.loads((tmp_path / "again" / "report.json").read_text())


def test_a_row_for_each_measure_with_its_comparison(write_report: WriteReport) -> None:
    alone, compared = (read_measure(write_report(name, against=each)) for name, each in (("a", None), ("b", AGAINST)))
    assert [row["measure"] for row in alone.rows()] == list(MEASURES)
    assert alone.rows()[0] == {
        "measure": "asr", "label": "Attack success", "value": 0.12, "low": 0.05, "high": 0.19, "n": 100, "unscored": 0,
        "unfinished": 0, "undecided": 0, "judged_low": None, "judged_high": None,
    }  # fmt: skip
    first, second, *_ = compared.rows()
    assert (first["reference"], first["difference"], first["p"], first["outcome"]) == (0.5, 0.3, 0.001, "worse")
    assert (first["difference_low"], first["difference_high"]) == (0.2, 0.4)
    assert second["outcome"] is None and first.keys() == second.keys()
    assert compared.against is not None and compared.against.outcome is Outcome.WORSE


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"asr": {"value": "high", "low": 0, "high": 1, "n": 3}}, "`estimates.asr.value` is 'high'"),
    ({"asr": {"value": float("nan"), "low": 0, "high": 1, "n": 3}}, "`estimates.asr.value` is nan"),
    ({"asr": {"value": 0.5, "low": 0, "high": 1, "n": 2.5}}, "`estimates.asr.n` is 2.5"),
    ({"judge": None}, "`judge` is None"),
    ({"model": {"adapter": None}}, "`model.name` is "),
    ({"prompts": {"harmful": {"n": 3}}}, "`prompts.harmful.rendered_sha256` is "),
    ({"against": AGAINST | {"outcome": "drifting"}}, "`against.outcome` is 'drifting'"),
    ({"kind": "study"}, "of kind 'study'"),
]


@pytest.mark.parametrize(("changes", "said"), BROKEN)
def test_a_broken_field_is_named(write_report: WriteReport, changes: dict[str, Any], said: str) -> None:
    folder = write_report("run", **changes)
    with pytest.raises(InputError) as error:
        read_measure(folder)
    assert said in str(error.value) and str(folder / "report.json") in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_report(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*report\.json"):
        read_measure(tmp_path)
