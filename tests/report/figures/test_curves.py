"""Legends of lines, however many there are."""

import re

from moored.report.figures.canvas import WIDTH, legend_height
from moored.report.figures.curves import Curve, curves_plot


def _texts(labels):
    """Where the words of a plot stand: text → x, y."""
    curves = [Curve(label=label, across=[0.0, 1.0], up=[0.0, 1.0], color="#000") for label in labels]
    svg = curves_plot(curves, name="n", title="t", across="a", up="u", description="d")
    found = re.findall(r'<text[^>]*?(?:x="([\d.]+)" y="([\d.]+)"|translate\(([\d.]+) ([\d.]+)\))[^>]*>([^<]+)<', svg)
    return {text: (float(a or c), float(b or d)) for a, b, c, d, text in found}


def test_a_legend_that_is_too_wide_goes_on_below():
    labels = [f"a label of some length, {number}" for number in range(4)]
    places = [_texts(labels)[label] for label in labels]
    assert len({y for _, y in places}) > 1 and all(x + 6 * len(labels[0]) < WIDTH + 12 for x, _ in places)


def test_lines_are_as_many_as_the_labels_need():
    assert legend_height(["short", "too"], WIDTH) == 18
    assert legend_height(["x" * 40, "x" * 40, "x" * 200], WIDTH) == 3 * 18
