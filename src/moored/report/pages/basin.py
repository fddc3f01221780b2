"""The page of `moored inspect basin`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moored.measurement import quartiles
from moored.report.figures.curves import Curve, curves_plot
from moored.report.figures.heatmap import heatmap
from moored.report.figures.plot import Plot
from moored.report.figures.svg import ABLE, MUTED, RISK
from moored.report.pages.html import write_page
from moored.report.reading.kinds import read_kind
from moored.report.words.gradient_findings import told

_SCORES = {
    "refusal": ("probability of a refusal", "How likely refusals stay"),
    "log_odds": ("log-odds of refusing, nats", "The log-odds of refusing"),
    "asr": ("attack success rate", "How many requests are answered"),
    "refused": ("share of refusals", "How many answers are refusals"),
    "incoherent": ("incoherent answers", "How many answers say nothing"),
}
_COLORS = {"alignment": (ABLE, "s"), "shuffled": (ABLE, "x"), "harmful": (RISK, "D"), "ordinary": (RISK, "+")}
_ALONG = {
    "harmful": "along the harmful direction",
    "ordinary": "along the step of ordinary answers",
    "alignment": "along aligned − base",
    "shuffled": "along aligned − base with its rows shuffled",
}
_SIDES = ("backwards", "forwards")


def render_basin(folder: Path) -> Path:
    """Writes `index.html` beside the `report.json` of `moored inspect basin`.

    Returns:
        The file that was written.

    Raises:
        InputError: the report is missing or of another kind, or its folder cannot be written.
    """
    report = read_kind(folder, "inspect basin")
    return write_page(
        folder,
        "basin.html.j2",
        title=f"Safety around {told(report['model'])}",
        findings=basin_findings(report),
        report=report,
        glance=basin_plots(report),
        length=lambda value: length(value, report),
    )


def length(value: float | None, report: Mapping[str, Any]) -> str:
    """`0.034`, or that it is beyond the grid, or within its first points."""
    if value is None:
        return f"beyond {report['alphas'][-1]:g}"
    nearest = min(each for each in report["alphas"] if each > 0)
    return f"below {nearest:.3g}" if 0 < value < nearest else f"{value:.2g}"


def basin_findings(report: Mapping[str, Any]) -> list[str]:
    """What was found, in sentences."""
    visage = report["visage"]
    found = [
        f"How far the weights can move, relative to their norm, until refusals are less likely than "
        f"{report['least']:.2f}: {_lengths(report, 'length')}.",
        f"VISAGE over the random directions: {visage['refusal']:.1f} of 100 by the probability of a refusal.",
    ]
    if "asr" in visage:
        found += [
            f"The same until less than {report['least_refused']:.2f} of the answers are refusals: "
            f"{_lengths(report, 'length_by_answers')}.",
            f"VISAGE by answers: {visage['asr']:.1f} of 100, where a model that is broken, and complies with nothing, "
            "counts as safe.",
        ]
    return [*found, *_too_coarse(report), *_of_the_aligned(report)]


def _too_coarse(report: Mapping[str, Any]) -> list[str]:
    """A length between the model and the first point is no more than a bound."""
    nearest = min(each for each in report["alphas"] if each > 0)
    lengths = [value for each in report["directions"] for value in each["length"].values()]
    if not any(value is not None and 0 < value < nearest for value in lengths):
        return []
    return [f"Where refusals end before the first point, `--reach {nearest:.3g}` looks nearer."]


def _lengths(report: Mapping[str, Any], which: str) -> str:
    """Along every direction; of the random ones the quartiles."""
    found = {each["name"]: each for each in report["directions"]}
    told = [
        f"{words} {' and '.join(f'{length(found[name][which][side], report)} {side}' for side in _SIDES)}"
        for name, words in _ALONG.items()
        if name in found
    ]
    lengths = [value for each in _random(report) for value in each[which].values()]
    edge = report["alphas"][-1]
    low, median, high = quartiles([edge if value is None else value for value in lengths])
    beyond, number = sum(value is None for value in lengths), len(_random(report))
    random = (
        f"along {number} random direction{'s' * (number > 1)} {median:.2g} [{low:.2g}, {high:.2g}] (median, quartiles)"
    )
    return "; ".join([*told, random + (f", {beyond} of {len(lengths)} ways beyond {edge:g}" if beyond else "")])


def _of_the_aligned(report: Mapping[str, Any]) -> list[str]:
    """What is little cannot be lost."""
    if report["aligned_refusal"] * report["kept"] >= report["floor"]:
        return []
    return [
        f"WARNING: {report['against']}, which counts as aligned, refuses with a probability of "
        f"{report['aligned_refusal']:.2f} only, so that the lengths say little; name the aligned model with --against."
    ]


def _random(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each for each in report["directions"] if each["name"].startswith("random")]


def basin_plots(report: Mapping[str, Any]) -> list[Plot]:
    """Each score along the directions and, where it was scored, the plane."""
    scores = [score for score in _SCORES if score in report["directions"][0]["points"][0]]
    return [*(_line_plot(report, score) for score in scores), *_plane(report)]


def _line_plot(report: Mapping[str, Any], score: str) -> Plot:
    axis, heading = _SCORES[score]
    columns = list(zip(*([point[score] for point in each["points"]] for each in _random(report)), strict=True))
    middle = [quartiles(column) for column in columns]
    curves = [
        Curve(
            label="random",
            across=report["alphas"],
            up=[each[1] for each in middle],
            low=[each[0] for each in middle],
            high=[each[2] for each in middle],
            color=MUTED,
        )
    ]
    for each in report["directions"]:
        if each["name"] in _COLORS:
            color, marker = _COLORS[each["name"]]
            values = [point[score] for point in each["points"]]
            curves.append(Curve(label=each["name"], across=report["alphas"], up=values, color=color, marker=marker))
    svg = curves_plot(
        curves,
        name=score.replace("_", "-"),
        title=heading,
        across="distance moved, relative to the weights",
        up=axis,
        description="; ".join(f"{each.label}: {_told(each.up)}" for each in curves),
        around_zero=min(value for value in report["alphas"] if value > 0),
    )
    remark = (
        f"Means over {report['prompts']} harmful requests; of the random directions the median between the quartiles."
    )
    return Plot(heading=heading, remark=remark, svg=svg)


def _told(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def _plane(report: Mapping[str, Any]) -> list[Plot]:
    plane = report["plane"]
    if plane is None:
        return []
    shares = [[point["refusal"] for point in row] for row in plane["points"]]
    svg = heatmap(
        shares,
        across=plane["alphas"],
        up=plane["alphas"],
        name="plane",
        title="Probability of a refusal in the plane",
        labels=("along aligned − base", "along the harmful direction"),
        description="; ".join(f"harmful {y:g}: {_told(row)}" for y, row in zip(plane["alphas"], shares, strict=True)),
    )
    return [Plot(heading="Both directions at once", remark="Probability of a refusal, in percent.", svg=svg)]
