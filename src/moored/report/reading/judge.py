"""The report of `moored judge`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from moored.files import write_jsonl
from moored.measurement import Agreement, Label
from moored.report.reading.measure import JudgeRecord
from moored.report.reading.record import Record, Report

JUDGED = "judged.jsonl"


@dataclass(frozen=True, kw_only=True)
class JudgedAnswer(Record):
    """One answer with the judge's label, and with the given one."""

    row: int
    """The row of the file, from 1."""
    prompt: str
    answer: str
    label: Label
    reason: str | None = None
    undecided: bool = False
    """Whether the label is only the judge's likelier one."""
    given: str | None = None
    """The label in the file."""
    differs: bool = False
    """Whether one of both calls it a refusal and the other does not."""


@dataclass(frozen=True, kw_only=True)
class JudgeReport(Report):
    """What a judge makes of answers, and how far it agrees with labels that they have."""

    kind: ClassVar[str] = "judge"
    beside: ClassVar[Sequence[str]] = ("answers",)
    files_beside: ClassVar[Sequence[str]] = (JUDGED,)

    source: str
    judge: JudgeRecord
    labels: Mapping[str, int]
    """The number of answers with each label."""
    undecided: int
    """How many of them are only the judge's likelier label."""
    agreement: Agreement | None = None
    """How far the judge agrees with the labels of the file, where they were named."""
    agreement_decided: Agreement | None = None
    """The same without the answers that the judge left undecided."""
    not_compared: int = 0
    """Labelled answers that are neither refused nor answered by the judge, such as empty ones."""
    answers: Sequence[JudgedAnswer] = ()

    def rows(self) -> list[dict[str, Any]]:
        """One row for each label that an answer has."""
        return [{"label": label, "answers": count} for label, count in self.labels.items()]

    def differences(self) -> list[JudgedAnswer]:
        """The answers on which the judge and the file differ."""
        return [answer for answer in self.answers if answer.differs]

    def write_beside(self, folder: Path) -> None:
        """Writes one row for each answer."""
        write_jsonl(folder / JUDGED, map(asdict, self.answers))
