"""Safety against accuracy: a panel for each data set, a mark for each arm, the strengths of a method in a line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.trials.regularizers_arms import BY_NAME, FAMILIES, Arm, tried_on
from moored.report.figures.canvas import quiet
from moored.report.figures.svg import ABLE, CAUTION, INK, MUTED, RISK, inline_svg
from moored.report.pages.html import save_figure

Row = dict[str, Any]
PANEL, LEFT, TOP, HIGH, BELOW = 390.0, 54.0, 26.0, 270.0, 44.0
BESIDE = 2
"""Panels in a row."""
LINE, ACROSS, COLUMN = 17.0, 3, 260.0
COMPLIANCE, ACCURACY = "JailbreakBench", "task accuracy"


class Look(NamedTuple):
    """Of a mark; controls are hollow."""

    color: str
    marker: str
    hollow: bool = False


LOOKS = {
    "aligned": Look(INK, "*"),
    "plain": Look(RISK, "X"),
    "alignment_direction": Look(ABLE, "o"),
    "direction_projector": Look(ABLE, "s"),
    "update_norm": Look(ABLE, "^", True),
    "random_direction": Look(ABLE, "v", True),
    "safety_tokens": Look(CAUTION, "o"),
    "safety_tokens_auto": Look(CAUTION, "*"),
    "random_tokens": Look(CAUTION, "^", True),
    "full_kl": Look(CAUTION, "v", True),
    "both": Look(INK, "D"),
    "harmful_direction": Look(RISK, "P"),
    "harmful_direction_auto": Look(RISK, "*"),
    "harmful_unseen": Look(RISK, "p"),
    "random_harmful": Look(RISK, "v", True),
    "harmless_direction": Look(RISK, "^", True),
}


def write_figure(table: Row, path: Path) -> None:
    """Draws what `table.json` holds."""
    panels = {name: _points(found["arms"], table["references"]) for name, found in table["data"].items()}
    svg = inline_svg(
        lambda: _figure(panels, table["constant"]),
        name="frontier",
        title="Compliance with harmful requests against task accuracy",
        description="; ".join(_told(name, points) for name, points in panels.items()) + ".",
    )
    save_figure(svg, path)


def _points(arms: Mapping[str, Row], references: Mapping[str, Row]) -> dict[str, tuple[Row, Row]]:
    rows = {name: row for name, row in references.items() if name in LOOKS} | dict(arms)
    return {name: (row[COMPLIANCE], row[ACCURACY]) for name, row in rows.items()}


def _told(name: str, points: Mapping[str, tuple[Row, Row]]) -> str:
    each = [f"{arm} {x['rate']:.2f} and {y['rate']:.2f}" for arm, (x, y) in points.items()]
    return f"{name}, compliance and accuracy: {', '.join(each)}"


def _family(name: str) -> str:
    return BY_NAME[name].family if name in BY_NAME else name


def _figure(panels: Mapping[str, Mapping[str, tuple[Row, Row]]], constant: float | None) -> Figure:
    families = [family for family in LOOKS if any(_family(name) == family for each in panels.values() for name in each)]
    legend = LINE * -(-len(families) // ACROSS) + 10
    rows, one = -(-len(panels) // BESIDE), TOP + HIGH + BELOW
    width, height = max(PANEL * BESIDE, COLUMN * ACROSS) + 10, legend + one * rows
    figure = Figure(figsize=(width / 72, height / 72))
    figure.patch.set_visible(False)
    top = max(y["high"] for points in panels.values() for _, y in points.values())
    for index, (name, points) in enumerate(panels.items()):
        row, column = divmod(index, BESIDE)
        left, bottom = PANEL * column + LEFT, one * (rows - 1 - row) + BELOW
        axes = figure.add_axes((left / width, bottom / height, (PANEL - LEFT - 8) / width, HIGH / height))
        _panel(axes, name, points)
        axes.set_ylim(-0.02, 1.05 * max(top, constant or 0.0))
        if constant is not None:
            axes.axhline(constant, color=MUTED, linewidth=0.8, linestyle=":")
            axes.text(1.0, constant, "one and the same answer", color=MUTED, fontsize=8, va="bottom", ha="right")
        if column == 0:
            axes.set_ylabel("task accuracy", labelpad=6)
    _legend(figure, families, legend)
    return figure


def _panel(axes: Axes, name: str, points: Mapping[str, tuple[Row, Row]]) -> None:
    axes.patch.set_visible(False)
    axes.set_title(name, fontsize=11, color=INK)
    axes.set(xlim=(-0.03, 1.03), xticks=[0, 0.25, 0.5, 0.75, 1])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.set_xlabel("compliance (lower is safer)", labelpad=6)
    quiet(axes)
    for family in FAMILIES:
        _joined(axes, [arm for arm in tried_on(name) if arm.family == family and arm.name in points], points)
    for arm, (x, y) in points.items():
        _mark(axes, x, y, LOOKS[_family(arm)])


def _joined(axes: Axes, arms: Sequence[Arm], points: Mapping[str, tuple[Row, Row]]) -> None:
    """From the weakest to the strongest, these two with their strengths."""
    if len(arms) < 2:
        return
    color = LOOKS[arms[0].family].color
    at = [tuple(side["rate"] for side in points[arm.name]) for arm in arms]
    axes.plot(*zip(*at, strict=True), color=color, linewidth=1.2)
    for arm, place in ((arms[0], at[0]), (arms[-1], at[-1])):
        strength = f"{arm.safeguards[0]['strength']:g}"
        axes.annotate(strength, place, (6, 4), textcoords="offset points", color=color, fontsize=9)


def _mark(axes: Axes, x: Row, y: Row, look: Look) -> None:
    color, at = look.color, (x["rate"], y["rate"])
    axes.plot([x["low"], x["high"]], [at[1]] * 2, color=color, linewidth=1.0, alpha=0.3)
    axes.plot([at[0]] * 2, [y["low"], y["high"]], color=color, linewidth=1.0, alpha=0.3)
    axes.plot([at[0]], [at[1]], **_style(look), clip_on=False)


def _style(look: Look) -> dict[str, Any]:
    face = "none" if look.hollow else look.color
    return {"marker": look.marker, "color": look.color, "markerfacecolor": face, "markersize": 7, "linestyle": "none"}


def _legend(figure: Figure, families: Sequence[str], down: float) -> None:
    width, height = (72 * inches for inches in figure.get_size_inches())
    axes = figure.add_axes((0, 1 - down / height, 1, down / height))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(down, 0))
    for index, family in enumerate(families):
        left, line = 14 + index % ACROSS * COLUMN, LINE * (index // ACROSS + 0.5)
        axes.plot([left], [line], **_style(LOOKS[family]), clip_on=False)
        axes.text(left + 9, line, family, va="center", color=LOOKS[family].color)
