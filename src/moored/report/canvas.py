"""What every figure is drawn on. One unit of a figure is one CSS pixel where the page shows it unscaled."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 360.0


def canvas(width: float, height: float, box: tuple[float, float, float, float]) -> tuple[Figure, Axes]:
    """A transparent figure of `width` × `height` units with one axes at (left, top, width, height)."""
    figure = Figure(figsize=(width / 72, height / 72))
    figure.patch.set_visible(False)
    left, top, across, down = box
    axes = figure.add_axes((left / width, 1 - (top + down) / height, across / width, down / height))
    axes.patch.set_visible(False)
    return figure, axes


def legend(figure: Figure, marks: Sequence[tuple[str, str, str]]) -> None:
    """Names marks (label, colour, shape) in their own colours, in one line at the top of a figure."""
    width, height = (72 * inches for inches in figure.get_size_inches())
    axes = figure.add_axes((0, 1 - 18 / height, 1, 18 / height))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(18, 0))
    left = 8.0
    for label, color, marker in marks:
        axes.plot([left], [9], marker, color=color, markersize=6, clip_on=False)
        axes.text(left + 8, 9, label, va="center", color=color)
        left += 26 + 6.2 * len(label)
