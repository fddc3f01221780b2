"""Safety against accuracy: one panel a data set, a mark an arm, the strengths of one method joined by a line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from _regularizers_arms import ARMS, BY_NAME
from moored.report.canvas import quiet
from moored.report.environment import save_figure
from moored.report.svg import ABLE, CAUTION, INK, RISK, inline_svg

Row = dict[str, Any]
PANEL, LEFT, TOP, HIGH = 260.0, 54.0, 22.0, 230.0
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
    "random_tokens": Look(CAUTION, "^", True),
    "full_kl": Look(CAUTION, "v", True),
    "both": Look(INK, "D"),
    "harmful_direction": Look(ABLE, "P"),
    "harmful_unseen": Look(ABLE, "p"),
}


def write_figure(table: Row, path: Path) -> None:
    """Draws what `table.json` holds."""
    panels = {name: _points(found["arms"], table["references"]) for name, found in table["data"].items()}
    svg = inline_svg(
        lambda: _figure(panels),
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


def _figure(panels: Mapping[str, Mapping[str, tuple[Row, Row]]]) -> Figure:
    families = [family for family in LOOKS if any(_family(name) == family for each in panels.values() for name in each)]
    legend = LINE * -(-len(families) // ACROSS) + 10
    width, height = max(PANEL * len(panels), COLUMN * ACROSS) + 10, legend + TOP + HIGH + 44
    figure = Figure(figsize=(width / 72, height / 72))
    figure.patch.set_visible(False)
    top = max(y["high"] for points in panels.values() for _, y in points.values())
    for index, (name, points) in enumerate(panels.items()):
        left, bottom = (PANEL * index + LEFT) / width, 44 / height
        axes = figure.add_axes((left, bottom, (PANEL - LEFT - 8) / width, HIGH / height))
        _panel(axes, name, points)
        axes.set_ylim(-0.02, 1.05 * top)
        if index == 0:
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
    for family in dict.fromkeys(arm.family for arm in ARMS):
        _joined(axes, [points[arm.name] for arm in ARMS if arm.family == family and arm.name in points], family)
    for arm, (x, y) in points.items():
        _mark(axes, x, y, LOOKS[_family(arm)])


def _joined(axes: Axes, points: Sequence[tuple[Row, Row]], family: str) -> None:
    """From the weakest to the strongest."""
    if len(points) > 1:
        across, up = ([each[side]["rate"] for each in points] for side in (0, 1))
        axes.plot(across, up, color=LOOKS[family].color, linewidth=1.2)


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
        strengths = [arm.safeguards[0]["strength"] for arm in ARMS if arm.family == family and len(arm.safeguards) == 1]
        told = f", {' – '.join(f'{each:g}' for each in strengths)}" if strengths else ""
        axes.text(left + 9, line, family + told, va="center", color=LOOKS[family].color)
