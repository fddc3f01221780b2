"""The page of `moored inspect basin`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from moored.measurement import quartiles
from moored.report.figures.curves import Curve, curves_plot
from moored.report.figures.heatmap import heatmap
from moored.report.figures.plot import Plot
from moored.report.figures.svg import ABLE, MUTED, RISK
from moored.report.pages.html import write_page
from moored.report.reading.basin import BasinReport, DirectionRecord, Score
from moored.report.reading.record import page_of, read_record
from moored.report.words.basin_findings import basin_findings, first_point, length

_SCORES: Mapping[Score, tuple[str, str]] = {
    "refusal": ("probability of a refusal", "How likely refusals stay"),
    "log_odds": ("log-odds of refusing, nats", "The log-odds of refusing"),
    "asr": ("attack success rate", "How many requests are answered"),
    "refused": ("share of refusals", "How many answers are refusals"),
    "incoherent": ("incoherent answers", "How many answers say nothing"),
}
"""The axis and the heading of each score's plot."""
_LOOKS = {"alignment": (ABLE, "s"), "shuffled": (ABLE, "x"), "harmful": (RISK, "D"), "ordinary": (RISK, "+")}
"""The color and the marker of each direction that is not random."""


@page_of(BasinReport)
def render_basin(folder: Path) -> Path:
    """Writes `index.html` beside the `report.json` of `moored inspect basin`.

    Returns:
        The file that was written.

    Raises:
        InputError: the report is missing or of another kind, or its folder cannot be written.
    """
    report = read_record(BasinReport, folder)
    return write_page(
        folder,
        "basin.html.j2",
        title=f"Safety around {report.model}",
        findings=basin_findings(report),
        report=report,
        glance=basin_plots(report),
        length=lambda value: length(value, report.alphas),
    )


def basin_plots(report: BasinReport) -> list[Plot]:
    """Draws each score along the directions and, where it was scored, the plane."""
    scores: list[Score] = [score for score in _SCORES if score in report.directions[0].points[0]]
    return [*(_line_plot(report, score) for score in scores), *_plane(report)]


def _line_plot(report: BasinReport, score: Score) -> Plot:
    axis, heading = _SCORES[score]
    named = [direction for direction in report.directions if direction.name in _LOOKS]
    curves = [_random_curve(report, score), *(_curve(report, direction, score) for direction in named)]
    svg = curves_plot(
        curves,
        name=score.replace("_", "-"),
        title=heading,
        across="distance moved, relative to the weights",
        up=axis,
        description="; ".join(f"{curve.label}: {_in_words(curve.up)}" for curve in curves),
        around_zero=first_point(report.alphas),
    )
    remark = f"Means over {report.prompts} harmful requests; for the random directions, the median and the quartiles."
    return Plot(heading=heading, remark=remark, svg=svg)


def _random_curve(report: BasinReport, score: Score) -> Curve:
    lines = [[point[score] for point in direction.points] for direction in report.random_directions]
    low, median, high = zip(*(quartiles(column) for column in zip(*lines, strict=True)), strict=True)
    return Curve(label="random", across=report.alphas, up=median, low=low, high=high, color=MUTED)


def _curve(report: BasinReport, direction: DirectionRecord, score: Score) -> Curve:
    color, marker = _LOOKS[direction.name]
    values = [point[score] for point in direction.points]
    return Curve(label=direction.name, across=report.alphas, up=values, color=color, marker=marker)


def _plane(report: BasinReport) -> list[Plot]:
    plane = report.plane
    if plane is None:
        return []
    shares = [[point["refusal"] for point in row] for row in plane.points]
    svg = heatmap(
        shares,
        across=plane.alphas,
        up=plane.alphas,
        name="plane",
        title="Probability of a refusal in the plane",
        labels=("along aligned − base", "along the harmful direction"),
        description="; ".join(
            f"harmful {alpha:g}: {_in_words(row)}" for alpha, row in zip(plane.alphas, shares, strict=True)
        ),
    )
    return [Plot(heading="Both directions at once", remark="Probability of a refusal, in percent.", svg=svg)]


def _in_words(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)
