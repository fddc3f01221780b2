from xml.etree import ElementTree

import pytest

from moored.measurement import Estimate
from moored.report.figures.interval_rows import Look, Row, intervals_plot, layers_plot
from moored.report.figures.svg import ABLE, RISK

LOOKS = [Look(label="high", color=RISK, marker="o"), Look(label="low", color=ABLE, marker="s")]


def estimate(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.1, high=value + 0.1, n=9)


def marks(root: ElementTree.Element, color: str) -> list[tuple[float, float]]:
    uses = [each for each in root.iter("use") if color in (each.get("style") or "")]
    return [(float(each.attrib["x"]), float(each.attrib["y"])) for each in uses]


def test_each_row_has_its_marks_and_what_is_missing_is_not_drawn():
    rows = [
        Row(label="first", marks=[estimate(0.2), estimate(0.4)], bands=[(-0.1, 0.1), None]),
        Row(label="second", marks=[estimate(0.6), None]),
    ]
    svg = str(intervals_plot(rows, LOOKS, name="p", title="Both", axis="cosine", zero=True))
    root = ElementTree.fromstring(svg)
    texts = ["".join(each.itertext()) for each in root.iter("text")]
    assert {"first", "second", "cosine", "high", "low"} <= set(texts)
    (x0, y0), (x1, y1), *_ = marks(root, "var(--risk)")
    (x2, y2), *_ = marks(root, "var(--able)")
    assert x0 < x2 < x1 and x1 - x0 == pytest.approx(2 * (x2 - x0), abs=0.01)
    assert y0 < y2 < y1
    assert len(marks(root, "var(--able)")) == 2, "one mark, one in the legend"
    assert root.findtext("desc") == "first: 0.200, 0.400; second: 0.600, none."


def test_layers_stand_in_order():
    svg = layers_plot({0: estimate(0.3), 1: estimate(0.5), 2: estimate(0.1)}, name="l", title="Layers", axis="share")
    root = ElementTree.fromstring(str(svg))
    places = [(float(each.attrib["x"]), float(each.attrib["y"])) for each in root.iter("use")][-3:]
    assert places[0][0] < places[1][0] < places[2][0]
    assert places[1][1] < places[0][1] < places[2][1]
    assert root.findtext("desc") == "layer 0 0.300, layer 1 0.500, layer 2 0.100."
