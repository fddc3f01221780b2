"""The two plots of a selection: how the gradient norms lie, and how they go with the length of the answer."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from moored.report.figures.canvas import WIDTH, canvas, legend, log_axis, quiet
from moored.report.figures.scatter import Cloud, scatter_plot
from moored.report.figures.svg import ABLE, MUTED, inline_svg


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


def lengths_plot(report: Mapping[str, Any]) -> Markup | None:
    """Gradient norm against answer length, both logarithmic."""
    rho = report["length_confound"]["norm_and_tokens"]["rho"]
    found = "no rank correlation, as one of them does not vary" if rho is None else f"rank correlation {rho:.2f}"
    points = {keep: [(tokens, norm) for tokens, norm, kept in report["points"] if kept == keep] for keep in (0, 1)}
    return scatter_plot(
        [Cloud(label="left out", points=points[0], color=MUTED), Cloud(label="kept", points=points[1], color=ABLE)],
        name="lengths",
        title="Gradient norm against answer length",
        across="supervised tokens (logarithmic)",
        up="gradient norm (logarithmic)",
        description=f"{len(report['points'])} rows; {found}.",
    )


def _histogram(counts: Mapping[str, Sequence[float]], kept: Mapping[str, float]) -> Figure:
    figure, axes = canvas(WIDTH, 330.0, (58.0, 34.0, WIDTH - 72, 242.0))
    edges = counts["edges"]
    left, width = edges[:-1], [high - low for low, high in pairwise(edges)]
    axes.axvspan(kept["min"], max(kept["max"], kept["min"] * 1.001), color=ABLE, alpha=0.13, linewidth=0)
    axes.bar(left, counts["all"], width, align="edge", color=MUTED, alpha=0.45, linewidth=0)
    axes.bar(left, counts["kept"], width, align="edge", color=ABLE, linewidth=0)
    log_axis(axes, edges[0], edges[-1])
    axes.set_ylim(0, max(counts["all"]) * 1.05)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    quiet(axes)
    axes.set_xlabel("gradient norm (logarithmic)", labelpad=8)
    axes.set_ylabel("rows", labelpad=8)
    legend(figure, [("all scored rows", MUTED, "s"), (f"kept: {kept['min']:.3g} to {kept['max']:.3g}", ABLE, "s")])
    return figure
