"""The two plots of a selection: the distribution of gradient norms, and norm against answer length."""

from itertools import pairwise

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from moored.report.figures.canvas import WIDTH, canvas, legend, log_axis, quiet
from moored.report.figures.scatter import Cloud, scatter_plot
from moored.report.figures.svg import ABLE, MUTED, inline_svg
from moored.report.reading.selection import Histogram, Quantiles, SelectionNumbers


def histogram_plot(numbers: SelectionNumbers) -> Markup:
    """Draws how many rows have which gradient norm, on a logarithmic axis; marks the kept rows and their range."""
    norms = numbers.quantiles["norm"]
    description = "; ".join(
        f"{name} rows: median norm {spread.median:.3g}, from {spread.min:.3g} to {spread.max:.3g}"
        for name, spread in (("all", norms.all), ("kept", norms.kept))
    )
    return inline_svg(
        lambda: _histogram(numbers.histogram, norms.kept),
        name="norms",
        title="Histogram of gradient norms",
        description=f"{description}.",
    )


def lengths_plot(numbers: SelectionNumbers) -> Markup | None:
    """Draws gradient norm against answer length, both logarithmic; None where nothing can be drawn."""
    rho = numbers.length_confound.norm_and_tokens.rho
    words = "no rank correlation, as one of them does not vary" if rho is None else f"rank correlation {rho:.2f}"
    points = {keep: [(tokens, norm) for tokens, norm, kept in numbers.points if kept == keep] for keep in (0, 1)}
    return scatter_plot(
        [Cloud(label="left out", points=points[0], color=MUTED), Cloud(label="kept", points=points[1], color=ABLE)],
        name="lengths",
        title="Gradient norm against answer length",
        across="supervised tokens (logarithmic)",
        up="gradient norm (logarithmic)",
        description=f"{len(numbers.points)} rows; {words}.",
    )


def _histogram(counts: Histogram, kept: Quantiles) -> Figure:
    figure, axes = canvas(WIDTH, 330.0, (58.0, 34.0, WIDTH - 72, 242.0))
    edges = counts.edges
    left, width = edges[:-1], [high - low for low, high in pairwise(edges)]
    axes.axvspan(kept.min, max(kept.max, kept.min * 1.001), color=ABLE, alpha=0.13, linewidth=0)
    axes.bar(left, counts.all, width, align="edge", color=MUTED, alpha=0.45, linewidth=0)
    axes.bar(left, counts.kept, width, align="edge", color=ABLE, linewidth=0)
    log_axis(axes, edges[0], edges[-1])
    axes.set_ylim(0, max(counts.all) * 1.05)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    quiet(axes)
    axes.set_xlabel("gradient norm (logarithmic)", labelpad=8)
    axes.set_ylabel("rows", labelpad=8)
    legend(figure, [("all scored rows", MUTED, "s"), (f"kept: {kept.min:.3g} to {kept.max:.3g}", ABLE, "s")])
    return figure
