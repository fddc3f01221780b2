"""An arm: one measured model with its letter and its name, as all parts of a page speak of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moored.errors import InputError
from moored.measurement import MEASURES, Comparison, Estimate, Measure
from moored.report.reading.answers import Answer, category_rates
from moored.report.reading.measure import MeasuredModel, MeasureReport, read_measure
from moored.report.reading.shown_text import visible


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One model of a comparison; the first arm is what the others are compared with."""

    letter: str
    name: str
    model: MeasuredModel
    estimates: Mapping[str, Estimate]
    answers: Sequence[Answer]
    report: MeasureReport
    """The report that it was read from."""
    comparison: Mapping[str, Comparison] = field(default_factory=dict)
    """The paired comparison with the first arm, by measure; a measure that cannot be compared is missing."""

    def estimate(self, key: str) -> Estimate | None:
        """What was measured under `key`, or None."""
        return self.estimates.get(key)

    def categories(self) -> dict[str, Estimate]:
        """Attack success per category, from the kept labels."""
        return category_rates(self.answers)


def comparison_arms(reports: Mapping[str, Path]) -> list[Arm]:
    """One arm per folder, in order.

    Raises:
        InputError: no folder was given, or one cannot be read.
    """
    if not reports:
        raise InputError("A comparison needs at least one report folder; name those that measure wrote.")
    read = {name: read_measure(folder) for name, folder in reports.items()}
    first = next(iter(read.values()))
    compared = [{} if report is first else _compared(first, report) for report in read.values()]
    return [
        _arm(index, report, report.model, report.estimates, report.answers, comparison, name)
        for index, ((name, report), comparison) in enumerate(zip(read.items(), compared, strict=True))
    ]


def measure_arms(report: MeasureReport) -> list[Arm]:
    """The measured model, after the one that it was compared with, if there was one."""
    against = report.against
    if against is None:
        return [_arm(0, report, report.model, report.estimates, report.answers, {})]
    return [
        _arm(0, report, against.model, against.estimates, report.reference_answers, {}),
        _arm(1, report, report.model, report.estimates, report.answers, against.comparison),
    ]


def _arm(
    index: int,
    report: MeasureReport,
    model: MeasuredModel,
    estimates: Mapping[str, Estimate],
    answers: Sequence[Answer],
    comparison: Mapping[str, Comparison],
    name: str | None = None,
) -> Arm:
    return Arm(
        letter=chr(ord("A") + index) if index < 26 else str(index + 1),
        name=visible(name or str(model)),
        model=model,
        estimates=estimates,
        answers=answers,
        report=report,
        comparison=comparison,
    )


def same_prompts(one: MeasureReport, other: MeasureReport, names: Sequence[str]) -> bool:
    """Whether both reports rendered the same prompts of these sets; where one lacks a set, nothing differs."""
    shared = [name for name in names if name in one.prompts and name in other.prompts]
    return all(one.prompts[name].rendered_sha256 == other.prompts[name].rendered_sha256 for name in shared)


def _compared(first: MeasureReport, report: MeasureReport) -> dict[str, Comparison]:
    """Compares the answers of two reports in every measure whose prompts and whose judge are the same."""
    made = {
        key: measure.compare(first.answers, report.answers)
        for key, measure in MEASURES.items()
        if _comparable(measure, first, report)
    }
    return {key: comparison for key, comparison in made.items() if comparison is not None}


def _comparable(measure: Measure, first: MeasureReport, report: MeasureReport) -> bool:
    sets, others = ([name for name in measure.prompts if name in each.prompts] for each in (first, report))
    same = sets == others and first.judge == report.judge and same_prompts(first, report, sets)
    return same and _kept(first, sets) == _kept(report, sets)


def _kept(report: MeasureReport, sets: Sequence[str]) -> list[tuple[str, str]]:
    """The prompts whose answers were kept."""
    return [(answer.set, answer.id) for answer in report.answers if answer.set in sets]
