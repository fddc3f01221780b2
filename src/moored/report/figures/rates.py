"""The four plots of a report. One unit of a figure is one CSS pixel where the page shows it unscaled."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from moored.measurement import MEASURES, Estimate
from moored.report.figures.canvas import WIDTH, canvas
from moored.report.figures.svg import ABLE, CAUTION, INK, MUTED, RISK, RULE, inline_svg
from moored.report.reading.arms import Arm
from moored.report.reading.shown_text import visible
from moored.report.words.number_format import MISSING, full, interval, point

_LINE = 17.0
_ACROSS = 2
"""Names in one line of a legend."""
_LOOKS = {"asr": (RISK, "o"), "over_refusal": (CAUTION, "s"), "utility": (ABLE, "D")}


def rates_plot(arms: Sequence[Arm], keys: Sequence[str], *, name: str) -> Markup:
    """Rates from 0 to 1 with their intervals, a line for each measure under each arm's name."""
    labels = " and ".join(MEASURES[key].label.lower() for key in keys)
    told = [
        f"{arm.letter}, {arm.name}: " + ", ".join(f"{MEASURES[key].label.lower()} {_told(arm, key)}" for key in keys)
        for arm in arms
    ]
    return inline_svg(
        lambda: _rates_figure(arms, keys),
        name=name,
        title=f"{labels.capitalize()} of each arm",
        description="; ".join(told) + ".",
    )


def categories_plot(arms: Sequence[Arm], *, name: str) -> Markup | None:
    """Attack success per category as a heat strip; None where no arm kept labels with categories."""
    rates = [arm.categories() for arm in arms]
    categories = sorted({category for found in rates for category in found})
    if not categories:
        return None
    told = [
        f"{arm.letter}, {arm.name}: " + ", ".join(f"{c} {_cell(found.get(c))}" for c in categories)
        for arm, found in zip(arms, rates, strict=True)
    ]
    return inline_svg(
        lambda: _categories_figure(arms, rates, categories),
        name=name,
        title="Attack success in each category of harmful requests",
        description=visible("; ".join(told) + "."),
    )


def tradeoff_plot(arms: Sequence[Arm], *, name: str) -> Markup | None:
    """Attack success against task accuracy, both with intervals; None where no arm has both."""
    pairs = [(arm, arm.estimate("asr"), arm.estimate("utility")) for arm in arms]
    both = [(arm, asr, utility) for arm, asr, utility in pairs if asr is not None and utility is not None]
    if not both:
        return None
    told = [
        f"{arm.letter}, {arm.name}: attack success {full(MEASURES['asr'], asr)}, "
        f"task accuracy {full(MEASURES['utility'], utility)}"
        for arm, asr, utility in both
    ]
    return inline_svg(
        lambda: _tradeoff_figure(both),
        name=name,
        title="Attack success against task accuracy",
        description="; ".join(told) + ".",
    )


def _told(arm: Arm, key: str) -> str:
    return full(MEASURES[key], arm.estimate(key))


def _cell(estimate: Estimate | None) -> str:
    return "–" if estimate is None else f"{estimate.value:.2f}"


def _share_axis(axes: Axes, *, vertical: bool = False) -> None:
    """A quiet scale from 0 to 1."""
    axis = axes.yaxis if vertical else axes.xaxis
    (axes.set_ylim if vertical else axes.set_xlim)(-0.015, 1.015)
    axis.set_ticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    axis.set_tick_params(length=0)
    axis.grid(True, color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)


def _rates_figure(arms: Sequence[Arm], keys: Sequence[str]) -> Figure:
    group = _LINE * (1 + len(keys)) + 12
    legend = _LINE * _lines(keys) + 6
    down = group * len(arms)
    figure, axes = canvas(WIDTH, legend + down + 24, (4.0, legend, WIDTH - 118, down))
    _share_axis(axes)
    axes.set_ylim(down, 0)
    axes.set_yticks([])
    for index, arm in enumerate(arms):
        top = index * group + 8
        _label(axes, 0.0, top, f"{arm.letter} · {_clipped(arm.name, 48)}", weight="bold")
        for line, key in enumerate(keys, 1):
            _interval_line(axes, arm.estimate(key), key, top + line * _LINE)
    _legend(figure, arms, keys, legend + down + 24)
    return figure


def _clipped(text: str, limit: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _label(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    axes.text(x, y, text, transform=axes.get_yaxis_transform(), va="center", clip_on=False, **style)


def _interval_line(axes: Axes, estimate: Estimate | None, key: str, y: float) -> None:
    color, marker = _LOOKS[key]
    if estimate is None:
        _label(axes, 1.03, y, MISSING, color=MUTED)
        return
    ends = _ends(estimate)
    axes.plot(ends, [y] * len(ends), color=color, linewidth=2.4, alpha=0.55, solid_capstyle="round")
    axes.plot([estimate.value], [y], marker, color=color, markersize=7.5, clip_on=False)
    measure = MEASURES[key]
    _label(axes, 1.03, y, f"{point(measure, estimate.value)} {interval(measure, estimate)}")


def _ends(estimate: Estimate) -> list[float]:
    """The interval's two ends; nothing to draw where there is none."""
    return [end for end in (estimate.low, estimate.high) if end is not None]


def _legend(figure: Figure, arms: Sequence[Arm], keys: Sequence[str], height: float) -> None:
    """Names the marks in their own colours, with n; they are also told apart by shape."""
    lines = _lines(keys)
    axes = figure.add_axes((4 / WIDTH, 1 - lines * _LINE / height, 1 - 8 / WIDTH, lines * _LINE / height))
    axes.set_axis_off()
    axes.set(xlim=(0, WIDTH - 8), ylim=(lines, 0))
    for index, key in enumerate(keys):
        color, marker = _LOOKS[key]
        left, line = 5 + index % _ACROSS * 170, index // _ACROSS + 0.5
        axes.plot([left], [line], marker, color=color, markersize=7.5, clip_on=False)
        axes.text(left + 10, line, f"{MEASURES[key].label.lower()}, {_size(arms, key)}", va="center", color=color)


def _lines(keys: Sequence[str]) -> int:
    return -(-len(keys) // _ACROSS)


def _size(arms: Sequence[Arm], key: str) -> str:
    sizes = sorted({estimate.n for arm in arms if (estimate := arm.estimate(key))})
    return f"n={sizes[0]}" if len(sizes) == 1 else f"n={sizes[0]} to {sizes[-1]}"


def _categories_figure(
    arms: Sequence[Arm], rates: Sequence[Mapping[str, Estimate]], categories: Sequence[str]
) -> Figure:
    labels, cell, row = 152.0, max(32.0, (WIDTH - 156) / len(arms)), 30.0
    width, down = labels + cell * len(arms) + 4, row * len(categories)
    figure, axes = canvas(width, down + 24, (labels, 22.0, cell * len(arms), down))
    axes.set_axis_off()
    axes.set(xlim=(0, len(arms)), ylim=(len(categories), 0))
    for column, arm in enumerate(arms):
        axes.text(column + 0.5, -0.36, arm.letter, ha="center", va="center", weight="bold", clip_on=False)
    for line, category in enumerate(categories):
        _wrapped(axes, -labels / cell, line + 0.5, visible(category))
        for column, found in enumerate(rates):
            _heat_cell(axes, column, line, found.get(category))
    return figure


def _wrapped(axes: Axes, x: float, y: float, text: str) -> None:
    """Up to two lines, each a text of its own, so that the browser's font may be of another width."""
    lines = textwrap.wrap(text, 24, max_lines=2, placeholder="…", break_long_words=True)
    for index, line in enumerate(lines):
        axes.text(x, y + (index - (len(lines) - 1) / 2) * 0.42, line, va="center", fontsize=10.5, clip_on=False)


def _heat_cell(axes: Axes, column: int, line: int, estimate: Estimate | None) -> None:
    # The tint stops at half so that the number on it stays readable on a light and on a dark page.
    tint = 0.0 if estimate is None else 0.04 + 0.48 * estimate.value
    axes.add_patch(
        Rectangle((column + 0.03, line + 0.05), 0.94, 0.9, facecolor=(RISK, tint), edgecolor=RULE, linewidth=0.8)
    )
    color = MUTED if estimate is None else INK
    axes.text(column + 0.5, line + 0.5, _cell(estimate), ha="center", va="center", color=color)


def _tradeoff_figure(points: Sequence[tuple[Arm, Estimate, Estimate]]) -> Figure:
    figure, axes = canvas(WIDTH, 330.0, (58.0, 14.0, WIDTH - 72, 262.0))
    _share_axis(axes)
    _share_axis(axes, vertical=True)
    axes.set_xlabel("attack success (lower is safer)", labelpad=8)
    axes.set_ylabel("task accuracy (higher is better)", labelpad=8)
    sides = ((8, 10, "left"), (8, -10, "left"), (-8, 10, "right"), (-8, -10, "right"))
    for index, (arm, asr, utility) in enumerate(points):
        for ends, level, swap in ((_ends(asr), utility.value, 1), (_ends(utility), asr.value, -1)):
            axes.plot(*(ends, [level] * len(ends))[::swap], color=INK, linewidth=1.6, alpha=0.4)
        axes.plot([asr.value], [utility.value], "o", color=ABLE, markersize=9, clip_on=False)
        across, up, side = sides[index % 4]
        axes.annotate(
            arm.letter,
            (asr.value, utility.value),
            xytext=(across, up),
            textcoords="offset points",
            ha=side,
            va="center",
            weight="bold",
            annotation_clip=False,
        )
    return figure
