"""Text from files reaches the terminal as text."""

import io

import pytest
from rich.console import Console

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


def test_a_folder_named_like_markup_ends_no_command(tmp_path):
    out = tmp_path / "runs[" / "x]"
    console = _console(is_terminal=False)
    say(console, f"Report: {out}/index.html")
    assert str(out) in console.file.getvalue()
