"""How templates become pages: every text escaped, and odd characters made visible."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from moored.files import whole_file
from moored.report.svg import standalone_svg
from moored.report.text import visible


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


def write_page(out: Path, template: str, context: Mapping[str, Any]) -> Path:
    """Writes `out/index.html`, whole or not at all, and returns the file.

    Raises:
        InputError: `out` cannot be written.
    """
    page = environment().get_template(template).render(context)
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
