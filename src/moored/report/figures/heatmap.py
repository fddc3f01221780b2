"""A share at each point of a plane, as a darker or lighter cell with its number in it."""

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from moored.report.figures.canvas import WIDTH, canvas
from moored.report.figures.svg import ABLE, inline_svg

_CELL = 30.0


def heatmap(
    shares: Sequence[Sequence[float]],
    *,
    across: Sequence[float],
    up: Sequence[float],
    name: str,
    title: str,
    labels: tuple[str, str],
    description: str,
) -> Markup:
    """Shares from 0 to 1 as percentages.

    Args:
        shares: row by row from the bottom; each as long as `across`.
        across: what the columns are.
        up: what the rows are.
        name: unique on the page.
        title: a short accessible name.
        labels: what the two scales say.
        description: what is to be seen, in words with numbers.
    """
    return inline_svg(lambda: _figure(shares, across, up, labels), name=name, title=title, description=description)


def _figure(
    shares: Sequence[Sequence[float]], across: Sequence[float], up: Sequence[float], labels: tuple[str, str]
) -> Figure:
    width = (WIDTH - 66) / len(across)
    figure, axes = canvas(WIDTH, _CELL * len(up) + 50, (56.0, 6.0, width * len(across), _CELL * len(up)))
    axes.set(xlim=(0, len(across)), ylim=(0, len(up)), xlabel=labels[0], ylabel=labels[1])
    axes.set_xticks([number + 0.5 for number in range(len(across))], [f"{value:g}" for value in across])
    axes.set_yticks([number + 0.5 for number in range(len(up))], [f"{value:g}" for value in up])
    axes.tick_params(length=0, labelsize=9)
    axes.spines[:].set_visible(False)
    for row, values in enumerate(shares):
        for column, share in enumerate(values):
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=ABLE, alpha=0.6 * share, linewidth=0))
            axes.text(column + 0.5, row + 0.5, f"{100 * share:.0f}", ha="center", va="center", fontsize=9)
    return figure
