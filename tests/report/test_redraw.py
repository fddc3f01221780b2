"""`moored report`: pages drawn again from the numbers beside them."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.report.selections import made_selection
from typer import Typer
from typer.testing import CliRunner

from moored.cli.report import report_command
from moored.errors import InputError
from moored.report import redraw, render_measure, render_selection


def _invoke(*arguments: Any) -> Any:
    app = Typer()
    app.command()(report_command)
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_a_lost_page_comes_back_as_it_was(write_report: Any) -> None:
    folder = write_report("run")
    before = render_measure(folder).read_text(encoding="utf-8")
    (folder / "index.html").unlink()
    assert _invoke(folder).exit_code == 0
    assert (folder / "index.html").read_text(encoding="utf-8") == before


def test_a_selection_is_drawn_again(tmp_path: Path) -> None:
    report = made_selection()
    before = render_selection(report, tmp_path).read_text(encoding="utf-8")
    (tmp_path / "report.json").write_text(json.dumps(report.to_dict()), encoding="utf-8")
    (tmp_path / "index.html").write_text("broken", encoding="utf-8")
    assert redraw(tmp_path).read_text(encoding="utf-8") == before


def test_a_selection_that_has_not_ended_has_no_page(tmp_path: Path) -> None:
    values = made_selection().to_dict() | {"finished": False}
    (tmp_path / "report.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(InputError, match="has not ended; run moored select again with --resume"):
        redraw(tmp_path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "report.json"),
        ("{", "is not valid JSON"),
        ('{"schema": 2, "kind": "recover"}', "kind 'recover', which has no page; name one of inspect basin, "),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path: Path, text: str | None, sentence: str) -> None:
    if text is not None:
        (tmp_path / "report.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=sentence):
        redraw(tmp_path)


def test_several_models_on_one_page(write_report: Any, read_page: Any, tmp_path: Path) -> None:
    folders = [write_report(name, asr=asr) for name, asr in (("a/run", 0.1), ("b/run", 0.9), ("third", 0.5))]
    assert _invoke(*folders, "--out", tmp_path / "page").exit_code == 0
    text = read_page(tmp_path / "page" / "index.html").text()
    assert all(name in text for name in (str(folders[0]), str(folders[1]), "third"))
    again = _invoke(*folders, "--out", tmp_path / "page")
    assert isinstance(again.exception, InputError) and "is not empty" in str(again.exception)
