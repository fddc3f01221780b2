import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moored.errors import InputError
from moored.report.reading.schema import SCHEMA, Estimate, read_report

WriteReport = Callable[..., Path]


def test_reads_every_part(write_report: WriteReport) -> None:
    report = read_report(write_report("run", asr=0.12))
    assert report.measured.estimates["asr"] == Estimate(value=0.12, low=0.05, high=0.19, n=100)
    assert report.measured.estimates["refusal_log_odds"].value == 2.5
    assert set(report.measured.estimates) == {
        "asr", "over_refusal", "ordinary_refusal", "incoherent", "empty", "utility", "refusal_log_odds", "kl_harmful",
        "kl_ordinary",
    }  # fmt: skip
    assert (report.judge, report.judge_version, report.seeds) == ("refusal", "1", '{"generation": 0}')
    assert report.prompts["task"].rendered_sha256 == "3c" * 32
    assert report.measured.answers == report.folder / "answers.jsonl"
    assert report.against is None


@pytest.mark.parametrize(
    "missing", [None, {"rate": None, "low": None, "high": None, "n": 0}, {"rate": 0.0, "low": 0.0, "high": 0.0, "n": 0}]
)
def test_what_was_not_measured_has_no_estimate(write_report: WriteReport, missing: object) -> None:
    report = read_report(write_report("run", over_refusal=missing))
    assert "over_refusal" not in report.measured.estimates


def test_without_drift_and_answers(write_report: WriteReport) -> None:
    report = read_report(write_report("run", drift=None, answers=None))
    assert "kl_harmful" not in report.measured.estimates
    assert report.measured.answers is None


def test_reads_what_it_was_compared_with(write_report: WriteReport) -> None:
    difference = {"difference": 0.3, "low": 0.2, "high": 0.4, "p": 0.001, "n": 90, "smallest_detectable": None}
    against = {
        "model": {"name": "other", "adapter": None, "weights_sha256": None},
        "asr": {"rate": 0.5, "low": 0.4, "high": 0.6, "n": 90},
        "comparison": {"asr": difference, "utility": None, "something newer": {}},
        "verdict": "Drifted.",
        "next": None,
    }
    report = read_report(write_report("run", against=against))
    assert report.against is not None
    assert report.against.measured.model == "other"
    assert list(report.against.measured.estimates) == ["asr"]
    assert list(report.against.comparison) == ["asr"]
    assert report.against.comparison["asr"].smallest_detectable is None


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"asr": {"rate": "high", "low": 0, "high": 1, "n": 3}}, "`asr.rate` should be a finite number, found 'high'"),
    ({"asr": {"rate": 0.5, "low": 0.4, "n": 3}}, "`asr.high` should be a finite number, found nothing"),
    ({"asr": {"rate": 1.5, "low": 0.4, "high": 1.6, "n": 3}}, "`asr.rate` should be a number from 0 to 1"),
    ({"asr": {"rate": float("nan"), "low": 0, "high": 1, "n": 3}}, "`asr.rate` should be a finite number"),
    ({"asr": {"rate": True, "low": 0, "high": 1, "n": 3}}, "`asr.rate` should be a finite number"),
    ({"asr": {"rate": 0.5, "low": 0, "high": 1, "n": 2.5}}, "`asr.n` should be a whole number"),
    ({"asr": [0.5]}, "`asr` should be an object"),
    ({"drift": {"kl_harmful": {"mean": None, "n": 4}}}, "`drift.kl_harmful.mean` should be a finite number"),
    ({"judge": None}, "`judge` should be an object, found nothing"),
    ({"model": {"adapter": None}}, "`model.name` should be text, found nothing"),
    ({"versions": {"torch": 2}}, "`versions.torch` should be text"),
    ({"prompts": {"harmful": {"n": 3}}}, "`prompts.harmful.rendered_sha256` should be text"),
    ({"answers": "../other/answers.jsonl"}, "`answers` should be a file inside the report's own folder"),
    ({"answers": "/etc/passwd"}, "`answers` should be a file inside the report's own folder"),
    ({"kind": "study"}, "of kind 'study'"),
    ({"schema": None}, "`schema` should be a whole number"),
]


@pytest.mark.parametrize(("changes", "said"), BROKEN)
def test_a_broken_field_is_named(write_report: WriteReport, changes: dict[str, Any], said: str) -> None:
    folder = write_report("run", **changes)
    with pytest.raises(InputError) as error:
        read_report(folder)
    assert said in str(error.value)
    assert str(folder / "report.json") in str(error.value)
    assert "\n" not in str(error.value)


def test_a_newer_schema_is_refused(write_report: WriteReport) -> None:
    with pytest.raises(InputError, match=f"newer moored .schema {SCHEMA + 1}, this one reads {SCHEMA}.; update moored"):
        read_report(write_report("run", schema=SCHEMA + 1))


def test_broken_json_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{\n "schema": 1,\n', encoding="utf-8")
    with pytest.raises(InputError, match="line 3 is not valid JSON"):
        read_report(tmp_path)


@pytest.mark.parametrize("value", [[], "text", 3, None])
def test_json_that_is_no_object(tmp_path: Path, value: object) -> None:
    (tmp_path / "report.json").write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(InputError, match="the whole file should be an object"):
        read_report(tmp_path)


def test_a_missing_report(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*report\.json"):
        read_report(tmp_path)
