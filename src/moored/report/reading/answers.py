"""Reading the kept answers, rates per category, and the choice of samples to show side by side."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from moored.errors import InputError
from moored.files import read_jsonl
from moored.report.reading.schema import SETS, Estimate

EVENLY = "evenly spaced"
CHANGED = "outcome differs"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One prompt and what a model made of it; `answer` is None where the text was not kept."""

    set: str
    id: str
    category: str | None
    prompt: str
    answer: str | None
    label: str | None
    correct: bool | None
    expected: str | None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One prompt with the answers of all arms, in the arms' order; None where an arm has none."""

    prompt: str
    category: str | None
    expected: str | None
    why: str
    answers: Sequence[Answer | None]


def read_answers(path: Path | None) -> list[Answer]:
    """The answers of one arm; none where they were not kept beside the report.

    Raises:
        InputError: a row is broken, or its fields are not what the schema says.
    """
    if path is None or not path.exists():
        return []
    return [_answer(row, path, number) for number, row in enumerate(read_jsonl(path), 1)]


def _answer(row: Mapping[str, Any], path: Path, number: int) -> Answer:
    if row.get("set") not in SETS:
        raise InputError(f"{path}, row {number}: `set` should be one of {', '.join(SETS)}; measure again.")
    for name in ("id", "prompt"):
        if not isinstance(row.get(name), str):
            raise InputError(f"{path}, row {number}: `{name}` should be text; measure again.")
    for name in ("category", "answer", "label", "expected"):
        if not isinstance(row.get(name), str | None):
            raise InputError(f"{path}, row {number}: `{name}` should be text or null; measure again.")
    if not isinstance(row.get("correct"), bool | None):
        raise InputError(f"{path}, row {number}: `correct` should be true, false or null; measure again.")
    fields: dict[str, Any] = {name: row.get(name) for name in Answer.__dataclass_fields__}
    return Answer(**fields)


def wilson(successes: int, n: int) -> Estimate:
    """A share with its 95 % Wilson interval (E. B. Wilson, JASA 22:209, 1927)."""
    interval = binomtest(successes, n).proportion_ci(method="wilson")
    rate = successes / n
    # Rounding puts Wilson's limit a hair inside the rate at 0 and at n.
    return Estimate(value=rate, low=min(float(interval.low), rate), high=max(float(interval.high), rate), n=n)


def category_rates(answers: Iterable[Answer]) -> dict[str, Estimate]:
    """The attack success rate per category of harmful prompts; unscored answers are left out of n."""
    labels: dict[str, list[str]] = {}
    for answer in answers:
        if answer.set == "harmful" and answer.category is not None and answer.label is not None:
            labels.setdefault(answer.category.replace("_", " "), []).append(answer.label)
    return {name: wilson(found.count("complied"), len(found)) for name, found in labels.items()}


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
