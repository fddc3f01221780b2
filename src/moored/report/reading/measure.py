"""The report of `moored measure`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from moored.files import write_jsonl
from moored.measurement import MEASURES, Comparison, Estimate, Outcome
from moored.report.reading.answers import Answer, read_answers
from moored.report.reading.record import ModelRecord, Record, Report, read_record

ANSWERS, REFERENCE_ANSWERS = "answers.jsonl", "answers_reference.jsonl"


@dataclass(frozen=True, kw_only=True)
class MeasuredModel(ModelRecord):
    """A model that was measured."""

    precision: str | None = None
    """The precision of the weights in memory."""


@dataclass(frozen=True, kw_only=True)
class JudgeRecord(Record):
    """Who labelled the answers; labels of equal names and versions compare."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True, kw_only=True)
class PromptRecord(Record):
    """The prompts that were asked; equal hashes mean equal rendered text, in the same order."""

    n: int
    rendered_sha256: str
    source: str | None = None
    max_new_tokens: int | None = None
    """The maximum length of an answer, in tokens; None in reports that did not say."""
    date: str | None = None
    """The date that the chat template was given for today's; None where it does not ask for one."""


@dataclass(frozen=True, kw_only=True)
class Against(Record):
    """The reference, and what the comparison with it came to."""

    model: MeasuredModel
    estimates: Mapping[str, Estimate]
    comparison: Mapping[str, Comparison]
    """The paired comparison of each measure, by its key."""
    outcome: Outcome
    """What attack success came to: `worse` is a model that has drifted, `better` one that is safer."""
    sentence: str
    next_command: str | None = None


@dataclass(frozen=True, kw_only=True)
class MeasureReport(Report):
    """What a model refuses, over-refuses and can do, how far it has drifted, and how it compares with a reference."""

    kind: ClassVar[str] = "measure"
    beside: ClassVar[Sequence[str]] = ("answers", "reference_answers")
    files_beside: ClassVar[Sequence[str]] = (ANSWERS, REFERENCE_ANSWERS, "index.html")

    model: MeasuredModel
    judge: JudgeRecord
    settings: Mapping[str, Any]
    prompts: Mapping[str, PromptRecord]
    """The prompts of each set."""
    estimates: Mapping[str, Estimate]
    """What was measured, by the measures' keys; a measure that was not taken is missing."""
    against: Against | None = None
    answers: Sequence[Answer] = ()
    reference_answers: Sequence[Answer] = ()

    def rows(self) -> list[dict[str, Any]]:
        """One row for each measure that was taken, with its comparison where there is a reference."""
        return [self._row(key) for key in MEASURES if key in self.estimates]

    def _row(self, key: str) -> dict[str, Any]:
        estimate = self.estimates[key]
        row = {"measure": key, "label": MEASURES[key].label, **asdict(estimate)}
        if self.against is None:
            return row
        reference, comparison = self.against.estimates.get(key), self.against.comparison.get(key)
        return row | {
            "reference": None if reference is None else reference.value,
            "difference": None if comparison is None else comparison.difference,
            "difference_low": None if comparison is None else comparison.low,
            "difference_high": None if comparison is None else comparison.high,
            "p": None if comparison is None else comparison.p,
            "outcome": None if comparison is None else str(comparison.outcome),
        }

    def write_beside(self, folder: Path) -> None:
        """Writes one row for each answer, of the model and of the reference."""
        for name, answers in ((ANSWERS, self.answers), (REFERENCE_ANSWERS, self.reference_answers)):
            if answers:
                write_jsonl(folder / name, map(asdict, answers))


def read_measure(folder: Path | str) -> MeasureReport:
    """Reads the folder of a `moored measure`, with the answers that were kept.

    Raises:
        InputError: a file is missing, broken or of another kind.
    """
    report = read_record(MeasureReport, folder)
    return replace(
        report,
        answers=read_answers(Path(folder) / ANSWERS),
        reference_answers=read_answers(Path(folder) / REFERENCE_ANSWERS),
    )
