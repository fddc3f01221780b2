"""The two plots of a selection: how the gradient norms lie, and how they go with the length of the answer."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from moored.report.figures import canvas
from moored.report.svg import ABLE, MUTED, RULE, inline_svg

_WIDTH, _HEIGHT = 360.0, 330.0
_BOX = (58.0, 34.0, _WIDTH - 72, 242.0)
_MOST_TICKS = 6


def histogram_plot(report: Mapping[str, Any]) -> Markup:
    """How many rows have which gradient norm, on a logarithmic axis, the kept rows and their range marked."""
    norms = report["quantiles"]["norm"]
    told = "; ".join(
        f"{name} rows: median norm {found['median']:.3g}, from {found['min']:.3g} to {found['max']:.3g}"
        for name, found in norms.items()
    )
    return inline_svg(
        lambda: _histogram(report["histogram"], norms["kept"]),
        name="norms",
        title="Histogram of gradient norms",
        description=f"{told}.",
    )


def scatter_plot(report: Mapping[str, Any]) -> Markup:
    """Gradient norm against answer length, both logarithmic; kept rows are filled, the others hollow."""
    rho = report["length_confound"]["norm_and_tokens"]["rho"]
    found = "no rank correlation, as one of them does not vary" if rho is None else f"rank correlation {rho:.2f}"
    return inline_svg(
        lambda: _scatter(report["points"]),
        name="lengths",
        title="Gradient norm against answer length",
        description=f"{len(report['points'])} rows; {found}.",
    )


def _histogram(counts: Mapping[str, Sequence[float]], kept: Mapping[str, float]) -> Figure:
    figure, axes = canvas(_WIDTH, _HEIGHT, _BOX)
    edges = counts["edges"]
    left, width = edges[:-1], [high - low for low, high in pairwise(edges)]
    axes.axvspan(kept["min"], max(kept["max"], kept["min"] * 1.001), color=ABLE, alpha=0.13, linewidth=0)
    axes.bar(left, counts["all"], width, align="edge", color=MUTED, alpha=0.45, linewidth=0)
    axes.bar(left, counts["kept"], width, align="edge", color=ABLE, linewidth=0)
    _log_axis(axes, edges[0], edges[-1])
    axes.set_ylim(0, max(counts["all"]) * 1.05)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    _quiet(axes)
    axes.set_xlabel("gradient norm (logarithmic)", labelpad=8)
    axes.set_ylabel("rows", labelpad=8)
    _legend(figure, "all scored rows", f"kept: {kept['min']:.3g} to {kept['max']:.3g}", "s")
    return figure


def _scatter(points: Sequence[Sequence[Any]]) -> Figure:
    """Of each row its tokens, its norm, and whether it was kept."""
    figure, axes = canvas(_WIDTH, _HEIGHT, _BOX)
    shown = [point for point in points if point[1] > 0]
    for keep, look in (
        (False, {"color": MUTED, "markerfacecolor": "none", "alpha": 0.8, "markersize": 4.5}),
        (True, {"color": ABLE, "alpha": 0.8, "markersize": 5, "markeredgewidth": 0}),
    ):
        some = [(tokens, norm) for tokens, norm, kept in shown if kept == keep]
        if some:
            axes.plot(*zip(*some, strict=True), "o", **look)
    if shown:
        lengths, norms = ([point[place] for point in shown] for place in (0, 1))
        _log_axis(axes, min(lengths) / 1.1, max(lengths) * 1.1)
        _log_axis(axes, min(norms) / 1.1, max(norms) * 1.1, vertical=True)
    _quiet(axes)
    axes.set_xlabel("supervised tokens (logarithmic)", labelpad=8)
    axes.set_ylabel("gradient norm (logarithmic)", labelpad=6)
    _legend(figure, "left out", "kept", "o")
    return figure


def _quiet(axes: Axes) -> None:
    axes.tick_params(length=0)
    axes.grid(True, color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)


def _log_axis(axes: Axes, low: float, high: float, *, vertical: bool = False) -> None:
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


def _legend(figure: Figure, others: str, kept: str, marker: str) -> None:
    """Names the marks in their own colours."""
    axes = figure.add_axes((0, 1 - 24 / _HEIGHT, 1, 24 / _HEIGHT))
    axes.set_axis_off()
    axes.set(xlim=(0, _WIDTH), ylim=(0, 1))
    hollow = "none" if marker == "o" else MUTED
    for left, text, color, fill in ((_BOX[0] + 6, others, MUTED, hollow), (_WIDTH / 2, kept, ABLE, ABLE)):
        axes.plot([left], [0.5], marker, color=color, markerfacecolor=fill, markersize=7)
        axes.text(left + 10, 0.5, text, va="center", color=color)
