"""One progress bar for long work, on stderr; a log gets a line before and the full bar after."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from moored.terminal import say, visible


@contextmanager
def progress_bar(
    console: Console | None, what: str, total: int, *, done: int = 0, unit: str | None = None
) -> Iterator[Callable[[int], None]]:
    """Yields a function that advances the bar; without a console it does nothing.

    Args:
        console: the console that shows the bar.
        what: the name of the work.
        total: the number of steps in all.
        done: the number of steps already done, which do not count towards the speed.
        unit: the name of a step; names it to show the speed.
    """
    if console is None:
        yield lambda _: None
        return
    if not console.is_terminal:
        say(console, f"{what}: {total - done} to do", wrap=True)
    name = TextColumn("{task.description:<44}" if unit is None else "{task.description}", markup=False)
    speed = () if unit is None else (_Speed(unit),)
    columns = (name, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), *speed)
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(visible(what), total=total, completed=done)
        yield lambda step: progress.advance(task, step)


class _Speed(ProgressColumn):
    """Shows the steps per second: over the last half minute while the work runs, over all of it at the end."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Returns the text of the column."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} {self._unit}/s")
