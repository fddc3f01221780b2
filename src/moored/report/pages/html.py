"""How templates become pages: every text escaped, and odd characters made visible."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, UndefinedError
from markupsafe import Markup

from moored.errors import InputError
from moored.files import whole_file
from moored.report.figures.svg import standalone_svg
from moored.report.reading.shown_text import visible


def environment() -> Environment:
    """The templates of this package."""
    return Environment(
        loader=PackageLoader("moored.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Every text that reaches the page passes here, so that no template can forget it.
        finalize=lambda value: visible(value) if type(value) is str else value,
    )


def write_page(
    out: Path,
    template: str,
    *,
    title: str,
    findings: Sequence[str],
    warnings: Sequence[str] = (),
    next_command: str | None = None,
    **content: Any,
) -> Path:
    """Writes `out/index.html`, whole or not at all.

    Args:
        out: the folder.
        template: by its file's name; it extends `shell.html.j2`.
        title: of the page.
        findings: sentences, of which the first leads; empty ones are left out.
        warnings: what a reader must know before the numbers.
        next_command: what to run next.
        content: what the template shows beside.

    Returns:
        The file that was written.

    Raises:
        InputError: the report lacks what the page shows, or `out` cannot be written.
    """
    lead, *others = [*findings, ""]
    shell = {"title": title, "lead": lead, "others": [text for text in others if text], "next_command": next_command}
    try:
        page = environment().get_template(template).render({**shell, "warnings": warnings, **content})
    except (UndefinedError, TypeError) as error:
        # The records are typed, but for what a command states of its own settings.
        raise InputError(
            f"A report lacks what its page shows ({error}); run the command that wrote it again."
        ) from error
    path = Path(out) / "index.html"
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
    return path


def save_figure(drawing: Markup, path: Path) -> None:
    """Writes a figure for a page as a file of its own, light and dark.

    Args:
        drawing: what `inline_svg` returned.
        path: the file to write.

    Raises:
        InputError: `path` cannot be written.
    """
    theme = environment().get_template("theme.css").render()
    with whole_file(path) as temporary:
        temporary.write_text(standalone_svg(drawing, theme), encoding="utf-8", newline="\n")
