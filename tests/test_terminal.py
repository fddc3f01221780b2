"""Text from files reaches the terminal as text."""

import io

import pytest
from rich.console import Console

from moored.cli import select, train
from moored.terminal import say
from moored.workflows.records.progress import progress_bar

HOSTILE = "runs[/x] [red]red[/red] \x1b[2J\x9b2J"
SHOWN = "runs[/x] [red]red[/red] ␛[2J⟨U+009B⟩2J"


def _console(*, is_terminal):
    return Console(file=io.StringIO(), width=120, force_terminal=is_terminal, color_system=None)


@pytest.mark.parametrize("wrap", [True, False])
def test_a_line_is_neither_markup_nor_escapes(wrap):
    console = _console(is_terminal=True)
    say(console, f"Report: {HOSTILE}", wrap=wrap)
    assert console.file.getvalue() == f"Report: {SHOWN}\n"


def test_a_long_line_is_broken_only_where_it_may_be():
    console = _console(is_terminal=False)
    say(console, "word " * 40)
    say(console, "word " * 40, wrap=True)
    assert [len(line) > 120 for line in console.file.getvalue().splitlines()] == [True, False, False]


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("unit", [None, "rows"])
def test_the_name_of_a_progress_bar_is_neither_markup_nor_escapes(is_terminal, unit):
    console = _console(is_terminal=is_terminal)
    with progress_bar(console, HOSTILE, 3, unit=unit) as advance:
        advance(3)
    shown = console.file.getvalue()
    assert SHOWN in shown and "\x1b[2J" not in shown and "\x9b" not in shown


@pytest.mark.parametrize("name", ["train", "select"])
def test_a_folder_named_like_markup_ends_no_command(name, tmp_path, monkeypatch, capsys):
    """After the work was done."""
    monkeypatch.setenv("COLUMNS", "200")
    out = tmp_path / "runs[" / "x]"
    if name == "train":
        record = {"steps": 1, "train_loss": 0.5, "output": "adapter", "drift": None}
        record |= {"config": {"output_dir": str(out)}, "reference": {"name": "a[/b]", "adapter": None}}
        train._print(record)
    else:
        monkeypatch.setattr("moored.report.selection_findings", lambda report: ["All of [/rows]."])
        report = {"rows": {"kept": 1, "all": 2}, "settings": {"rule": "low"}, "files": {"kept": "kept.jsonl"}}
        select._print(Console(), report, out)
    assert str(out) in capsys.readouterr().out
