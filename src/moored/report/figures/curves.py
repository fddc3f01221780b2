"""Numbers along a scale: lines, each with a band around it where there is one."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from moored.report.figures.canvas import WIDTH, canvas, legend, legend_height, quiet
from moored.report.figures.svg import inline_svg


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line; told apart by the shape of its points as well as by colour."""

    label: str
    across: Sequence[float]
    up: Sequence[float]
    color: str
    marker: str = "o"
    low: Sequence[float] = ()
    """The band's lower edge, point by point; empty for none."""
    high: Sequence[float] = ()


def curves_plot(
    curves: Sequence[Curve],
    *,
    name: str,
    title: str,
    across: str,
    up: str,
    description: str,
    around_zero: float | None = None,
) -> Markup:
    """Lines over one scale.

    Args:
        curves: the first lies at the bottom; each has a point at least.
        name: unique on the page.
        title: a short accessible name.
        across: what the horizontal scale says.
        up: what the vertical one says.
        description: what is to be seen, in words with numbers.
        around_zero: for a scale that is logarithmic on both sides of 0, and straight up to this distance from it.
    """
    return inline_svg(lambda: _figure(curves, across, up, around_zero), name=name, title=title, description=description)


def _figure(curves: Sequence[Curve], across: str, up: str, around_zero: float | None) -> Figure:
    top = 6.0 + (legend_height([each.label for each in curves], WIDTH) if len(curves) > 1 else 0.0)
    figure, axes = canvas(WIDTH, top + 250, (56.0, top, WIDTH - 66, 200.0))
    axes.set_xlabel(across, labelpad=6)
    axes.set_ylabel(up, labelpad=6)
    if around_zero is not None:
        axes.set_xscale("symlog", linthresh=around_zero, linscale=0.5)
        axes.xaxis.set_major_locator(FixedLocator(_both_sides(curves)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    for each in curves:
        if each.low and each.high:
            axes.fill_between(each.across, each.low, each.high, color=each.color, alpha=0.15, linewidth=0)
        axes.plot(each.across, each.up, each.marker, linestyle="-", color=each.color, markersize=3.5, linewidth=1.4)
    quiet(axes)
    if len(curves) > 1:
        legend(figure, [(each.label, each.color, each.marker) for each in curves])
    return figure


def _both_sides(curves: Sequence[Curve]) -> list[float]:
    """Zero and every fourth point from the outermost on, the innermost left out, so that labels have room."""
    points = sorted({abs(value) for each in curves for value in each.across if value}, reverse=True)
    told = (points[:-1] or points)[::4]
    return sorted([-each for each in told] + [0.0] + told)
