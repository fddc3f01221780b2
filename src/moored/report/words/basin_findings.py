"""Sentences on what `moored inspect basin` found."""

from collections.abc import Callable, Sequence

from moored.measurement import quartiles
from moored.report.reading.basin import BasinReport, DirectionRecord, LengthRecord

_ALONG = {
    "harmful": "along the harmful direction",
    "ordinary": "along the step of ordinary answers",
    "alignment": "along aligned − base",
    "shuffled": "along aligned − base with its rows shuffled",
}


def length(value: float | None, alphas: Sequence[float]) -> str:
    """Writes a length as in `0.034`, or says that it is beyond the grid or within its first points."""
    if value is None:
        return f"beyond {alphas[-1]:g}"
    nearest = first_point(alphas)
    return f"below {nearest:.3g}" if 0 < value < nearest else f"{value:.2g}"


def first_point(alphas: Sequence[float]) -> float:
    """Returns the smallest distance of the grid."""
    return min(alpha for alpha in alphas if alpha > 0)


def basin_findings(report: BasinReport) -> list[str]:
    """States what was found, in sentences."""
    return [
        f"How far the weights can move, relative to their norm, until refusals are less likely than "
        f"{report.least:.2f}: {_lengths(report, lambda direction: direction.length)}.",
        f"VISAGE over the random directions: {report.visage['refusal']:.1f} of 100 by the probability of a refusal.",
        *_by_answers(report),
        *_too_coarse(report),
        *_hardly_aligned(report),
    ]


def _by_answers(report: BasinReport) -> list[str]:
    if report.least_refused is None:
        return []
    return [
        f"The same until less than {report.least_refused:.2f} of the answers are refusals: "
        f"{_lengths(report, lambda direction: direction.length_by_answers)}.",
        f"VISAGE by answers: {report.visage['asr']:.1f} of 100, where a broken model, which complies with nothing, "
        "counts as safe.",
    ]


def _too_coarse(report: BasinReport) -> list[str]:
    """Says that a length between the model and the first point is no more than a bound."""
    nearest = first_point(report.alphas)
    lengths = [value for direction in report.directions for value in _sides(direction.length)]
    if not any(value is not None and 0 < value < nearest for value in lengths):
        return []
    return [f"Some refusals end before the first point of the grid; use `--reach {nearest:.3g}` to look closer."]


def _hardly_aligned(report: BasinReport) -> list[str]:
    """Warns where the aligned model has few refusals to lose."""
    if report.aligned_refusal * report.kept >= report.floor:
        return []
    return [
        f"WARNING: {report.against}, which counts as aligned, refuses with a probability of only "
        f"{report.aligned_refusal:.2f}, so the lengths say little; name the aligned model with --against."
    ]


def _lengths(report: BasinReport, lengths: Callable[[DirectionRecord], LengthRecord | None]) -> str:
    """States the lengths along every direction; for the random ones, their quartiles."""
    by_name = {direction.name: lengths(direction) for direction in report.directions}
    named = [
        f"{words} {_in_words(sides, report.alphas)}"
        for name, words in _ALONG.items()
        if (sides := by_name.get(name)) is not None
    ]
    random = [value for direction in report.random_directions for value in _sides(lengths(direction))]
    return "; ".join([*named, _random_lengths(report, random)])


def _in_words(sides: LengthRecord, alphas: Sequence[float]) -> str:
    return f"{length(sides.backwards, alphas)} backwards and {length(sides.forwards, alphas)} forwards"


def _random_lengths(report: BasinReport, lengths: list[float | None]) -> str:
    edge, number = report.alphas[-1], len(report.random_directions)
    low, median, high = quartiles([edge if value is None else value for value in lengths])
    beyond = sum(value is None for value in lengths)
    words = f"along {number} random direction{'s' * (number > 1)} {median:.2g} [{low:.2g}, {high:.2g}]"
    return f"{words} (median, quartiles)" + (f", {beyond} of {len(lengths)} sides beyond {edge:g}" if beyond else "")


def _sides(lengths: LengthRecord | None) -> list[float | None]:
    return [] if lengths is None else [lengths.backwards, lengths.forwards]
