import io

from rich.console import Console
from rich.progress import Task

from moored.workflows.records.progress import _Speed, progress_bar


def test_without_a_console_nothing_is_shown(capsys):
    with progress_bar(None, "work", 10) as advance:
        advance(10)
    assert capsys.readouterr() == ("", "")


def test_what_was_done_before_counts_but_says_nothing_of_the_speed():
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with progress_bar(console, "work", 10, done=4, unit="rows") as advance:
        advance(6)
    shown = console.file.getvalue()
    assert "10/10" in shown and "left" in shown


def test_the_speed_is_told_in_its_unit():
    now = [0.0]
    task = Task(0, "work", total=100, completed=50, _get_time=lambda: now[0])
    column = _Speed("rows")
    assert str(column.render(task)) == ""
    task.start_time = 0.0
    task.finished_speed = 2.5
    assert str(column.render(task)) == "2.5 rows/s"


def test_a_log_is_told_what_begins_and_that_it_is_done():
    console = Console(file=io.StringIO(), width=120)
    with progress_bar(console, "[work]", 10, done=4) as advance:
        assert console.file.getvalue() == "[work]: 6 to do\n"
        advance(6)
    assert "10/10" in console.file.getvalue()
