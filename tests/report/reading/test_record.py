import json
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest

from moored.errors import InputError
from moored.report.reading.record import Record, Report, page_of, read_record


@dataclass(frozen=True, kw_only=True)
class Part(Record):
    value: float
    label: str | None = None


@dataclass(frozen=True, kw_only=True)
class Look(Report):
    kind: ClassVar[str] = "look"

    parts: list[Part]

    def rows(self) -> list[dict[str, Any]]:
        return [{"value": part.value, "label": part.label} for part in self.parts]


@pytest.fixture
def report():
    parts = [Part(value=0.12345, label="<b>"), Part(value=2.0)]
    return Look(created="2026-01-01T00:00:00+00:00", command="moored look", versions={"python": "3"}, parts=parts)


def test_what_is_written_is_read_back(tmp_path, report):
    report.save(tmp_path / "out")
    assert read_record(Look, tmp_path / "out") == report
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report.to_dict()


def test_a_folder_in_use_is_left_alone(tmp_path, report):
    report.save(tmp_path / "out")
    with pytest.raises(InputError, match="not empty"):
        replace(report, seconds=1.0).save(tmp_path / "out")
    replace(report, seconds=1.0).save(tmp_path / "out", overwrite=True)
    assert read_record(Look, tmp_path / "out").seconds == 1.0


def test_the_page_is_drawn_with_the_report(tmp_path, report):
    @dataclass(frozen=True, kw_only=True)
    class Drawn(Look):
        kind: ClassVar[str] = "drawn"

    @page_of(Drawn)
    def draw(folder):
        page = folder / "index.html"
        page.write_text(str(len(read_record(Drawn, folder).parts)))
        return page

    Drawn(**{**vars(report), "versions": {}}).save(tmp_path / "out")
    assert (tmp_path / "out" / "index.html").read_text() == "2"


def test_a_notebook_shows_the_rows_and_nothing_in_them_is_live(report):
    html = report._repr_html_()
    assert "<th>value</th><th>label</th>" in html and "<td>0.1235</td><td>&lt;b&gt;</td>" in html
    assert html.count("<tr>") == 3 and "<td></td>" in html


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"kind": "other"}, "is a report of kind 'other', not of look"),
        ({"schema": 99}, "update moored"),
        ({"parts": [{"value": "x"}]}, r"`parts\.0\.value` is 'x'"),
        ({"parts": [{"value": float("nan")}]}, r"`parts\.0\.value`"),
        ({"parts": None}, "`parts` is None"),
    ],
)
def test_a_report_of_another_form_is_one_sentence(tmp_path, report, change, sentence):
    (tmp_path / "report.json").write_text(json.dumps({**report.to_dict(), **change}))
    with pytest.raises(InputError, match=sentence):
        read_record(Look, tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "9" * 5000])
def test_a_file_that_is_no_report_is_one_sentence(tmp_path, text):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(InputError, match=r"report\.json is"):
        read_record(Look, tmp_path)


def test_keys_of_a_later_moored_are_left_alone(tmp_path, report):
    (tmp_path / "report.json").write_text(json.dumps({**report.to_dict(), "more": 1}))
    assert read_record(Look, tmp_path) == report
