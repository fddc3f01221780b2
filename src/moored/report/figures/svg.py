"""From a matplotlib figure to an SVG that lives inside a page: small, deterministic, accessible, themed by CSS."""

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Stand-in colours: figures are drawn in these, and the page decides in CSS what they look like, light or dark.
INK, MUTED, RULE, RISK, CAUTION, ABLE = (f"#00000{number}" for number in range(1, 7))
_THEME = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    RISK: "var(--risk)",
    CAUTION: "var(--caution)",
    ABLE: "var(--able)",
}
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "moored",
    "font.family": "DejaVu Sans",
    "font.size": 11.0,
    "text.parse_math": False,
    "text.usetex": False,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.unicode_minus": False,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "path.simplify": False,
}
_SVG = "{http://www.w3.org/2000/svg}"
_XLINK = "{http://www.w3.org/1999/xlink}"


@contextmanager
def drawing_style() -> Iterator[None]:
    """The settings under which every figure is drawn, whatever the user's own matplotlibrc says."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        # The browser picks the font; matplotlib's own need not know every script.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font", category=UserWarning)
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def inline_svg(draw: Callable[[], Figure], *, name: str, title: str, description: str) -> Markup:
    """Draws a figure and returns it as one `<svg>` element for an HTML page.

    Args:
        draw: builds the figure; called under `drawing_style`, one point of the figure is one unit of the view box.
        name: unique on the page; a prefix to all ids.
        title: a short accessible name.
        description: what the figure shows, in words with numbers, for those who do not see it.
    """
    buffer = io.StringIO()
    with drawing_style():
        FigureCanvasSVG(draw()).print_svg(buffer, metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    _strip(root)
    _rename_ids(root, name)
    for element in root.iter():
        _restyle(element)
    _describe(root, name, title, description)
    # Everything inside went through ElementTree, which escapes text and attributes.
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def standalone_svg(drawing: Markup, theme: str) -> str:
    """A figure for a page as a file of its own.

    Args:
        drawing: what `inline_svg` returned.
        theme: CSS that gives the page's colours, `--ink` for the text among them.
    """
    root = ElementTree.fromstring(drawing)
    _, _, width, height = root.attrib["viewBox"].split()
    root.attrib |= {"xmlns": _SVG.strip("{}"), "width": width, "height": height}
    style = ElementTree.Element("style")
    style.text = theme + "svg { color: var(--ink); font-family: system-ui, sans-serif; }"
    root.insert(0, style)
    return ElementTree.tostring(root, encoding="unicode")


def _strip(root: ElementTree.Element) -> None:
    """Drops metadata, matplotlib's global style rule and its namespaces; inside HTML none of them belongs."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.attrib = {key.replace(_XLINK, ""): value for key, value in element.attrib.items()}
    view_box = root.attrib["viewBox"]
    root.attrib = {"viewBox": view_box}


def _rename_ids(root: ElementTree.Element, name: str) -> None:
    """Makes ids unique on a page that holds several figures, and drops those that nobody points to."""
    text = ElementTree.tostring(root, encoding="unicode")
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    for element in root.iter():
        identity = element.attrib.pop("id", None)
        if identity in used:
            element.set("id", f"{name}-{identity}")
        for key, value in element.attrib.items():
            if key == "href":
                element.set(key, value.replace("#", f"#{name}-", 1))
            elif "url(#" in value:
                element.set(key, value.replace("url(#", f"url(#{name}-"))


def _restyle(element: ElementTree.Element) -> None:
    style = element.get("style")
    if style is None:
        return
    style = re.sub(r"font-family:[^;]*;?\s*|stroke-linejoin: miter;?\s*", "", style)
    style = re.sub(r"#00000[1-6]", lambda match: _THEME[match[0]], style)
    # A text without a colour would be black in the dark.
    if element.tag == "text" and "fill:" not in style:
        style += "; fill: currentColor"
    element.set("style", style)


def _describe(root: ElementTree.Element, name: str, title: str, description: str) -> None:
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(tag, {"id": f"{name}-{tag}"})
        element.text = text
        root.insert(position, element)
    root.set("role", "img")
    root.set("class", "plot")
    root.set("aria-labelledby", f"{name}-title {name}-desc")
