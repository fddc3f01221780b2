"""Rows of numbers with their intervals, against a band of what chance would give; and numbers layer by layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from moored.measurement import Estimate
from moored.report.figures.canvas import WIDTH, canvas, legend
from moored.report.figures.svg import INK, MUTED, RULE, inline_svg

_GAP = 6.0
"""Between the marks of one row."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """How the marks of one kind are drawn; told apart by shape as well as by colour."""

    label: str
    color: str
    marker: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line: its marks in the looks' order, None where there is none, and the band behind each."""

    label: str
    marks: Sequence[Estimate | None]
    bands: Sequence[tuple[float, float] | None] = ()


def intervals_plot(
    rows: Sequence[Row],
    looks: Sequence[Look],
    *,
    name: str,
    title: str,
    axis: str,
    zero: bool = False,
) -> Markup:
    """A line for each row, a mark with its interval for each look.

    Args:
        rows: from top to bottom.
        looks: of the marks, in the order in which they stand in a row.
        name: unique on the page.
        title: a short accessible name; the numbers follow in words.
        axis: what the scale says.
        zero: whether to draw a line at 0.
    """
    told = "; ".join(f"{row.label}: {', '.join(map(_words, row.marks))}" for row in rows)
    return inline_svg(lambda: _figure(rows, looks, axis, zero), name=name, title=title, description=f"{told}.")


def _words(mark: Estimate | None) -> str:
    return "none" if mark is None else f"{mark.value:.3f}"


def _figure(rows: Sequence[Row], looks: Sequence[Look], axis: str, zero: bool) -> Figure:
    row = 12 + _GAP * len(looks)
    down, top = row * len(rows), 24.0 if len(looks) > 1 else 6.0
    left = 16 + 6.6 * max(len(each.label) for each in rows)
    figure, axes = canvas(WIDTH, top + down + 42, (left, top, WIDTH - left - 10, down))
    axes.set_ylim(down, 0)
    axes.set_yticks([row * (number + 0.5) for number in range(len(rows))], [each.label for each in rows])
    axes.tick_params(length=0)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.grid(True, axis="x", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(axis, labelpad=6)
    if zero:
        axes.axvline(0, color=MUTED, linewidth=1.2)
    nothing = [None] * len(looks)
    for number, each in enumerate(rows):
        for place, (look, mark, band) in enumerate(zip(looks, each.marks, each.bands or nothing, strict=True)):
            y = row * (number + 0.5) + _GAP * (place - (len(looks) - 1) / 2)
            if band is not None:
                half = (row - 4) / 2 / len(looks)
                axes.add_patch(
                    Rectangle((band[0], y - half), band[1] - band[0], 2 * half, color=MUTED, alpha=0.22, lw=0)
                )
            if mark is not None:
                ends = [end for end in (mark.low, mark.high) if end is not None]
                axes.plot(ends, [y] * len(ends), color=look.color, linewidth=2, alpha=0.55, solid_capstyle="round")
                axes.plot([mark.value], [y], look.marker, color=look.color, markersize=5, clip_on=False)
    axes.autoscale_view(scaley=False)
    if len(looks) > 1:
        legend(figure, [(each.label, each.color, each.marker) for each in looks])
    return figure


def layers_plot(layers: Mapping[int, Estimate], *, name: str, title: str, axis: str) -> Markup:
    """A number with its interval for each layer, from the first to the last."""
    told = ", ".join(f"layer {layer} {estimate.value:.3f}" for layer, estimate in layers.items())
    return inline_svg(lambda: _layers_figure(layers, axis), name=name, title=title, description=f"{told}.")


def _layers_figure(layers: Mapping[int, Estimate], axis: str) -> Figure:
    figure, axes = canvas(WIDTH, 270.0, (52.0, 8.0, WIDTH - 62, 214.0))
    axes.spines[:].set_visible(False)
    axes.grid(True, axis="y", color=RULE, linewidth=0.8)
    axes.tick_params(length=0)
    axes.set_axisbelow(True)
    axes.set_xlabel("layer", labelpad=6)
    axes.set_ylabel(axis, labelpad=6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for layer, estimate in layers.items():
        ends = [end for end in (estimate.low, estimate.high) if end is not None]
        axes.plot([layer] * len(ends), ends, color=INK, linewidth=2, alpha=0.4, solid_capstyle="round")
    axes.plot([*layers], [each.value for each in layers.values()], "o", color=INK, markersize=4.5)
    axes.set_ylim(bottom=0)
    return figure
