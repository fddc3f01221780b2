"""`moored report`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from moored.cli._network import stay_offline_unless_named
from moored.cli._options import Console
from moored.files import refuse_non_empty
from moored.terminal import say


def report_command(
    folders: Annotated[list[Path], Argument(help="The report folders.", show_default=False)],
    out: Annotated[
        Path | None,
        Option(help="A new folder for one page that compares the folders of `moored measure`.", show_default=False),
    ] = None,
) -> None:
    """Draws the pages of reports again from their numbers, or one page that compares several measured models.

    The models of a comparison are named after their folders, and all are compared with the first.
    """
    stay_offline_unless_named()
    from moored.report import redraw, render_comparison

    if out is None:
        pages = [redraw(folder) for folder in folders]
    else:
        refuse_non_empty(out)
        pages = [render_comparison(_names(folders), out, title="Measured models, compared")]
    for page in pages:
        say(Console(), f"Report: {page}")


def _names(folders: Sequence[Path]) -> dict[str, Path]:
    """The last part of each path, or all of it where several end alike."""
    count = Counter(folder.resolve().name for folder in folders)
    return {str(folder) if count[name := folder.resolve().name] > 1 else name: folder for folder in folders}
