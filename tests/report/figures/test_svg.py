import warnings
from xml.etree import ElementTree

import matplotlib
import pytest
from matplotlib.figure import Figure

from moored.report.figures.svg import INK, RISK, drawing_style, inline_svg, standalone_svg


def two_texts() -> Figure:
    figure = Figure(figsize=(2, 1))
    axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
    axes.plot([0, 1], [0, 1], "o", color=RISK)
    axes.text(0.5, 0.5, "<b> & $x_1$ 你好", color=INK)
    axes.set_title("plain")
    return figure


def drawn(name: str = "plot") -> str:
    return str(inline_svg(two_texts, name=name, title="A <title>", description="It's “so”."))


def test_no_trace_of_the_document_around_it() -> None:
    svg = drawn()
    assert svg.startswith("<svg ")
    for trace in ("xmlns", "<style", "<metadata", "<?xml", "<!", "xlink", "DejaVu", "#00000"):
        assert trace not in svg, trace


def test_text_stays_text_in_the_page_s_colour() -> None:
    texts = {"".join(e.itertext()): e.get("style", "") for e in ElementTree.fromstring(drawn()).iter("text")}
    assert "fill: currentColor" in texts["<b> & $x_1$ 你好"]
    assert "fill: currentColor" in texts["plain"]
    assert all("fill:" in style for style in texts.values())


def test_colours_are_left_to_css() -> None:
    assert "var(--risk)" in drawn()


def test_it_is_described() -> None:
    root = ElementTree.fromstring(drawn("rates"))
    assert [(child.tag, child.text) for child in list(root)[:2]] == [("title", "A <title>"), ("desc", "It's “so”.")]
    assert (root.get("role"), root.get("aria-labelledby")) == ("img", "rates-title rates-desc")


def test_ids_of_two_figures_do_not_meet_and_references_hold() -> None:
    ids, references = {}, {}
    for name in ("one", "two"):
        root = ElementTree.fromstring(drawn(name))
        ids[name] = {e.get("id") for e in root.iter()} - {None}
        values = [value for e in root.iter() for value in e.attrib.values()]
        references[name] = {v[1:] for v in values if v.startswith("#")}
        references[name] |= {v[5:-1] for v in values if v.startswith("url(#")}
    assert references["one"]
    assert not ids["one"] & ids["two"]
    for name, found in references.items():
        assert found <= ids[name]


def test_drawing_is_deterministic_and_deaf_to_the_user_s_settings() -> None:
    plain = drawn()
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "text.parse_math": True}):
        assert drawn() == plain
        assert matplotlib.rcParams["font.size"] == 30


def test_other_warnings_still_come_through() -> None:
    with drawing_style(), pytest.warns(UserWarning, match="something else"):
        warnings.warn("something else", UserWarning, stacklevel=1)


def test_as_a_file_of_its_own_it_brings_its_colours() -> None:
    root = ElementTree.fromstring(
        standalone_svg(inline_svg(two_texts, name="a", title="t", description="d"), ":root{}")
    )

    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert float(root.attrib["width"]) == pytest.approx(144)
    style = root[0]
    assert style.tag.endswith("}style")
    assert (style.text or "").startswith(":root{}")
    assert "var(--ink)" in (style.text or "")
