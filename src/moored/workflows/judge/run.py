"""`moored judge`: answers that are there already are labelled, and the labels compared with the user's own."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console

from moored.errors import InputError
from moored.files import require_place
from moored.huggingface.data import read_rows
from moored.measurement import Agreement, Exchange, Label, agreement
from moored.measurement.measures import REFUSALS
from moored.report.reading.judge import JudgedAnswer, JudgeReport
from moored.report.reading.measure import JudgeRecord
from moored.verbs import verb
from moored.workflows.inputs.judges import judge_named
from moored.workflows.inputs.prompt_sets import spread
from moored.workflows.judge.given_labels import refusal_of
from moored.workflows.judge.settings import JudgeSettings
from moored.workflows.records.provenance import origin

Meanings = Mapping[str, bool | None]
_ANSWER_FIELDS = ("answer", "completion", "response", "output")
_COMPARED = (*REFUSALS, Label.COMPLIED)


@verb(JudgeSettings)
def judge_answers(settings: JudgeSettings, *, console: Console | None = None) -> JudgeReport:
    """Labels answers that a file holds, and tells how far the judge agrees with the labels that they have.

    Returns:
        The report; it is written to `out` where one is named.

    Raises:
        UserError: Something the user can put right; nothing is written then.
    """
    started = time.perf_counter()
    if settings.out is not None:
        require_place(settings.out)
    judge = judge_named(settings.judge)
    answers = _answers(settings)
    verdicts = judge.verdicts([Exchange(one.prompt, one.answer) for one in answers])
    answers = [
        replace(one, label=verdict.label, reason=verdict.reason or None, undecided=verdict.undecided)
        for one, verdict in zip(answers, verdicts, strict=True)
    ]
    report = JudgeReport(
        **origin(),
        seconds=round(time.perf_counter() - started, 1),
        source=settings.file,
        judge=JudgeRecord(name=judge.name, version=judge.version),
        labels=dict(Counter(str(one.label) for one in answers).most_common()),
        undecided=sum(one.undecided for one in answers),
        answers=answers,
    )
    if settings.labels is not None:
        report = _compared(report, settings.refused)
    if settings.out is not None:
        report.save(settings.out)
    return report


def _answers(settings: JudgeSettings) -> list[JudgedAnswer]:
    """The rows of the file, not judged yet."""
    rows = read_rows(settings.file)
    answer = settings.answer or next((name for name in _ANSWER_FIELDS if name in rows[0]), _ANSWER_FIELDS[0])
    for name in filter(None, (settings.prompt, answer, settings.labels)):
        if name not in rows[0]:
            raise InputError(f"{settings.file} has no field {name}; it has {', '.join(rows[0])}.")
    asked = [
        JudgedAnswer(
            row=number,
            prompt=_text(row, settings.prompt, number, settings.file),
            answer=_text(row, answer, number, settings.file),
            label=Label.UNSCORED,
            given=None if settings.labels is None or row[settings.labels] is None else str(row[settings.labels]),
        )
        for number, row in enumerate(rows, 1)
        if row[answer] is not None
    ]
    if not asked:
        raise InputError(f"{settings.file} holds no answer in the field {answer}.")
    return list(spread(asked, settings.limit))


def _text(row: Mapping[str, Any], name: str, number: int, file: str) -> str:
    if not isinstance(row[name], str):
        raise InputError(f"{file}, row {number}: {name} must be a text, but is {type(row[name]).__name__}.")
    return row[name]


def _compared(report: JudgeReport, values: str | None) -> JudgeReport:
    """The report with the agreement between the judge and the given labels."""
    refusal = refusal_of({one.given for one in report.answers if one.given is not None}, values)
    answers = [replace(one, differs=_differs(one, refusal)) for one in report.answers]
    compared = [one for one in answers if _meant(one, refusal) is not None and one.label in _COMPARED]
    return replace(
        report,
        answers=answers,
        agreement=_agreement(compared, refusal),
        agreement_decided=_agreement([one for one in compared if not one.undecided], refusal),
        not_compared=sum(one.given is not None for one in answers) - len(compared),
    )


def _agreement(answers: Sequence[JudgedAnswer], refusal: Meanings) -> Agreement:
    return agreement([bool(_meant(one, refusal)) for one in answers], [one.label in REFUSALS for one in answers])


def _differs(answer: JudgedAnswer, refusal: Meanings) -> bool:
    meant = _meant(answer, refusal)
    return meant is not None and meant != (answer.label in REFUSALS)


def _meant(answer: JudgedAnswer, refusal: Meanings) -> bool | None:
    """Whether the label in the file means a refusal; None where there is none, or where it is neither."""
    return None if answer.given is None else refusal[answer.given]
