"""Two numbers of each sample against each other, on logarithmic scales."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup
from matplotlib.figure import Figure

from moored.report.figures.canvas import WIDTH, canvas, legend, log_axis, quiet
from moored.report.figures.svg import inline_svg


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """Points of one kind; told apart by shape as well as by colour."""

    label: str
    points: Sequence[tuple[float | int, float | int]]
    """Across and up; what is not above 0 has no place on these scales and is left out."""
    color: str
    marker: str = "o"


def scatter_plot(
    clouds: Sequence[Cloud], *, name: str, title: str, across: str, up: str, description: str
) -> Markup | None:
    """A point for each sample; None where no point has a place.

    Args:
        clouds: the first lies at the bottom.
        name: unique on the page.
        title: a short accessible name.
        across: what the horizontal scale says.
        up: what the vertical one says.
        description: what is to be seen, in words with numbers.
    """
    drawn = [replace(each, points=[point for point in each.points if min(point) > 0]) for each in clouds]
    if not any(each.points for each in drawn):
        return None
    return inline_svg(lambda: _figure(drawn, across, up), name=name, title=title, description=description)


def _figure(clouds: Sequence[Cloud], across: str, up: str) -> Figure:
    top = 24.0 if len(clouds) > 1 else 6.0
    figure, axes = canvas(WIDTH, top + 290, (56.0, top, WIDTH - 66, 240.0))
    axes.set_xlabel(across, labelpad=6)
    axes.set_ylabel(up, labelpad=6)
    for each in clouds:
        if each.points:
            axes.plot(*zip(*each.points, strict=True), each.marker, color=each.color, markersize=4.5, alpha=0.7, mew=0)
    for place, vertical in ((0, False), (1, True)):
        values = [point[place] for each in clouds for point in each.points]
        log_axis(axes, min(values) / 1.1, max(values) * 1.1, vertical=vertical)
    quiet(axes)
    if len(clouds) > 1:
        legend(figure, [(each.label, each.color, each.marker) for each in clouds])
    return figure
