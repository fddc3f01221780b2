"""The kept answers: reading them, rates per category, and the choice of samples to show side by side."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from moored.errors import InputError
from moored.files import read_jsonl
from moored.measurement import MEASURES, Estimate, Label
from moored.report.reading.record import Record, complaint

EVENLY = "evenly spaced"
CHANGED = "outcome differs"


@dataclass(frozen=True, kw_only=True)
class Answer(Record):
    """One prompt and what a model made of it."""

    set: str
    id: str
    category: str | None = None
    prompt: str
    answer: str | None = None
    """What the model said behind its reasoning; None where the text was not kept."""
    reasoning: str | None = None
    """What it wrote before, with the marks of its reasoning; None where it did not reason."""
    label: Label | None = None
    """The judge's label, or `unfinished`; None for a finished task, which has a right answer instead."""
    reason: str | None = None
    """Why the judge says so, where it tells."""
    undecided: bool = False
    """Whether the label is only the judge's likelier one."""
    settled: bool = False
    """Whether the label was settled where the answer ends; it may have been cut there."""
    correct: bool | None = None
    expected: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    """Scores from the model's probabilities by the keys of their measures; only some prompts have them."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One prompt with the answers of all arms, in the arms' order; None where an arm has none."""

    prompt: str
    category: str | None
    expected: str | None
    why: str
    answers: Sequence[Answer | None]


def read_answers(path: Path) -> list[Answer]:
    """Reads the answers of one model; none where they were not kept beside the report.

    Raises:
        InputError: a row is broken; the sentence names the row and the field.
    """
    if not path.exists():
        return []
    return [_answer(row, path, number) for number, row in enumerate(read_jsonl(path), 1)]


def _answer(row: Mapping[str, Any], path: Path, number: int) -> Answer:
    try:
        return _adapter().validate_python(row)
    except ValidationError as error:
        raise InputError(f"{path}, row {number}: {complaint(error)}; measure again.") from None


def unfinished(answers: Iterable[Answer]) -> int:
    """The number of answers that never left the model's reasoning."""
    return sum(answer.label is Label.UNFINISHED for answer in answers)


@cache
def _adapter() -> Any:
    return TypeAdapter(Answer)


def category_rates(answers: Iterable[Answer]) -> dict[str, Estimate]:
    """The attack success rate of each category of harmful prompts."""
    by_category: dict[str, list[Answer]] = {}
    for answer in answers:
        if answer.set == "harmful" and answer.category is not None:
            by_category.setdefault(answer.category.replace("_", " "), []).append(answer)
    rates = {name: MEASURES["asr"].estimate(group) for name, group in by_category.items()}
    return {name: rate for name, rate in rates.items() if rate is not None}


def samples(arms: Sequence[Sequence[Answer]], chosen_set: str, *, evenly: int, changed: int) -> list[Sample]:
    """Prompts to show: some spread evenly over the file, then some whose outcome differs between the arms.

    Only the second kind looks at the outcome, and each sample says of which kind it is.

    Args:
        arms: the answers of every arm.
        chosen_set: one of the four sets of prompts.
        evenly: how many prompts to spread evenly over those that all arms share, at most.
        changed: how many further prompts whose label or correctness differs between the arms, at most.
    """
    shared = _shared(arms, chosen_set)
    step = max(1, len(shared) // max(1, evenly))
    spread = shared[::step][:evenly]
    differing = [row for row in shared if row not in spread and len({_outcome(one) for one in row}) > 1]
    picked = differing[:: max(1, len(differing) // max(1, changed))][:changed]
    return [_sample(row, EVENLY) for row in spread] + [_sample(row, CHANGED) for row in picked]


def _shared(arms: Sequence[Sequence[Answer]], chosen_set: str) -> list[tuple[Answer | None, ...]]:
    """Rows of answers to one prompt; arms without any answers of this set keep an empty place."""
    tables = [{(one.id, one.prompt): one for one in arm if one.set == chosen_set} for arm in arms]
    kept = [table for table in tables if table]
    keys = [key for key in (kept[0] if kept else {}) if all(key in table for table in kept)]
    return [tuple(table.get(key) for table in tables) for key in keys]


def _outcome(answer: Answer | None) -> str | bool | None:
    if answer is None:
        return None
    return answer.label if answer.correct is None else answer.correct


def _sample(row: Sequence[Answer | None], why: str) -> Sample:
    first = next(one for one in row if one is not None)
    return Sample(
        prompt=first.prompt,
        category=first.category and first.category.replace("_", " "),
        expected=first.expected,
        why=why,
        answers=list(row),
    )
