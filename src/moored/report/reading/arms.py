"""An arm: one measured model with its letter and its name, as all parts of a page speak of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moored.errors import InputError
from moored.report.reading.answers import Answer, category_rates, read_answers
from moored.report.reading.schema import Estimate, Measured, Report, read_report
from moored.report.reading.text import visible


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One model of a comparison; `report` is the file that it was read from."""

    letter: str
    name: str
    measured: Measured
    report: Report
    answers: Sequence[Answer]

    def estimate(self, key: str) -> Estimate | None:
        """What was measured under `key`, or None."""
        return self.measured.estimates.get(key)

    def categories(self) -> dict[str, Estimate]:
        """Attack success per category, from the kept labels."""
        return category_rates(self.answers)


def comparison_arms(reports: Mapping[str, Path]) -> list[Arm]:
    """One arm per folder, in order; the first one is what the others are compared with.

    Raises:
        InputError: no folder was given, or one cannot be read.
    """
    if not reports:
        raise InputError("A comparison needs at least one report folder; name those that measure wrote.")
    return [
        _arm(i, name, (report := read_report(folder)), report.measured)
        for i, (name, folder) in enumerate(reports.items())
    ]


def measure_arms(folder: Path) -> list[Arm]:
    """The measured model, after the one that it was compared with, if there was one."""
    report = read_report(folder)
    models = [report.measured] if report.against is None else [report.against.measured, report.measured]
    return [_arm(i, model_name(model), report, model) for i, model in enumerate(models)]


def model_name(measured: Measured) -> str:
    """The model, and the adapter over it."""
    return measured.model if measured.adapter is None else f"{measured.model} + {measured.adapter}"


def _arm(index: int, name: str, report: Report, measured: Measured) -> Arm:
    letter = chr(ord("A") + index) if index < 26 else str(index + 1)
    return Arm(
        letter=letter, name=visible(name), measured=measured, report=report, answers=read_answers(measured.answers)
    )
