"""What every figure is drawn on. One unit of a figure is one CSS pixel where the page shows it unscaled."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from moored.report.figures.svg import RULE

WIDTH = 360.0
_MOST_TICKS = 6
_LINE, _MARGIN = 18.0, 8.0
"""The height of a legend's lines, and the space left free beside it."""


def canvas(width: float, height: float, box: tuple[float, float, float, float]) -> tuple[Figure, Axes]:
    """A transparent figure of `width` × `height` units with one axes at (left, top, width, height)."""
    figure = Figure(figsize=(width / 72, height / 72))
    figure.patch.set_visible(False)
    left, top, across, down = box
    axes = figure.add_axes((left / width, 1 - (top + down) / height, across / width, down / height))
    axes.patch.set_visible(False)
    return figure, axes


def legend_height(labels: Sequence[str], width: float) -> float:
    """What a legend takes at the top of a figure."""
    return _LINE * (1 + max(line for _, line in _legend_places(labels, width)))


def legend(figure: Figure, marks: Sequence[tuple[str, str, str]]) -> None:
    """Names marks (label, colour, shape) in their own colours, at the top of a figure, line by line."""
    width, height = (72 * inches for inches in figure.get_size_inches())
    labels = [label for label, _, _ in marks]
    down = legend_height(labels, width)
    axes = figure.add_axes((0, 1 - down / height, 1, down / height))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(down, 0))
    for (label, color, marker), (left, line) in zip(marks, _legend_places(labels, width), strict=True):
        axes.plot([left], [_LINE * (line + 0.5)], marker, color=color, markersize=6, clip_on=False)
        axes.text(left + 8, _LINE * (line + 0.5), label, va="center", color=color)


def _legend_places(labels: Sequence[str], width: float) -> list[tuple[float, int]]:
    """Where each mark stands: how far from the left, and in which line."""
    places, left, line = [], _MARGIN, 0
    for label in labels:
        across = 26 + 6.2 * len(label)
        if left > _MARGIN and left + across - 12 > width:
            left, line = _MARGIN, line + 1
        places.append((left, line))
        left += across
    return places


def quiet(axes: Axes) -> None:
    """Rules behind the marks, and no frame."""
    axes.tick_params(length=0)
    axes.grid(True, color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)


def log_axis(axes: Axes, low: float, high: float, *, vertical: bool = False) -> None:
    """A logarithmic scale whose labels are plain numbers, which matplotlib would write as formulas."""
    (axes.set_yscale if vertical else axes.set_xscale)("log")
    (axes.set_ylim if vertical else axes.set_xlim)(low, high)
    axis, ticks = axes.yaxis if vertical else axes.xaxis, log_ticks(low, high)
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_ticklabels([f"{tick:g}" for tick in ticks])


def log_ticks(low: float, high: float) -> list[float]:
    """Two to six numbers within a range above 0, as round as it lets them be: 1, 2 and 5 of each power of ten, say.

    The range is one to which a plot leaves some room: `high` at least 1.02 times `low`.
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for leading in ((1, 2, 5), (1, 3), (1,)):
        ticks = [first * 10.0**power for power in powers for first in leading if low <= first * 10.0**power <= high]
        if 2 <= len(ticks) <= _MOST_TICKS:
            return ticks
    if len(ticks) > _MOST_TICKS:
        return ticks[:: -(-len(ticks) // _MOST_TICKS)]
    # So narrow a range holds no two round numbers.
    return [float(f"{low + share * (high - low):.4g}") for share in (0.1, 0.5, 0.9)]
