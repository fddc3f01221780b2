"""One model measured on the prompts of a comparison: its answers, judged and scored."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from moored.huggingface.models import ModelSource
from moored.measurement import MEASURES, EarlyJudge, ExactMatch, Exchange, Judge, Label, Verdict
from moored.report.reading.answers import Answer
from moored.report.reading.measure import MeasuredModel
from moored.workflows.inputs.prompt_sets import Item, spread
from moored.workflows.measure.interface import Answerer, DriftPrompts, Scorer
from moored.workflows.measure.kept_answers import KeptAnswers
from moored.workflows.measure.local_model import LocalModel
from moored.workflows.measure.prompts import Prompts
from moored.workflows.measure.settings import MeasureSettings
from moored.workflows.records.progress import progress_bar
from moored.workflows.records.provenance import model_record, versions


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one model did."""

    source: ModelSource
    model: MeasuredModel
    answers: Sequence[Answer]
    reference: Any = None
    """What the models that are compared with this one are scored against."""


def measure_model(
    source: ModelSource,
    *,
    prompts: Prompts,
    settings: MeasureSettings,
    judge: Judge,
    name: str,
    keep_in: Path | None = None,
    reference: Any = None,
    is_reference: bool = False,
    console: Console | None = None,
) -> Measured:
    """Loads a model, lets it answer every prompt, judges the answers, and scores its drift.

    Args:
        source: the model; an adapter is merged into the weights in memory, as it would be for serving.
        prompts: what it is asked.
        settings: how it is asked.
        judge: what labels the answers.
        name: the model's name in the progress bar.
        keep_in: the file in which answers are kept as they come, for an interrupted run.
        reference: the `reference` of another model, for the KL divergence.
        is_reference: whether other models are compared with this one.
        console: where progress is shown.
    """
    record = model_record(source)
    # The reference's answers that drift is measured along are needed in full.
    whole = _probed(prompts, settings.drift_prompts) if is_reference else []
    kept = KeptAnswers(keep_in, _made_with(record.weights_sha256, prompts, settings, judge, whole), console)
    is_final = _final(prompts, judge, whole)
    model: Answerer = LocalModel(source, prompts.tokenizer, settings)
    texts = _answers(model, prompts, kept, is_final, name, console)
    answers = _judged(prompts, texts, judge, is_final)
    measured = Measured(source=source, model=MeasuredModel(**vars(record), precision=model.precision), answers=answers)
    drift = prompts.drift(settings.drift_prompts)
    if drift is None or model.scorer is None:
        return measured
    answers = _scored(answers, model.scorer, drift, settings.drift_prompts, reference)
    kept_reference = _reference(answers, model.scorer, drift, settings.drift_prompts) if is_reference else None
    return replace(measured, answers=answers, reference=kept_reference)


def _made_with(
    weights: str | None, prompts: Prompts, settings: MeasureSettings, judge: Judge, whole: Sequence[int]
) -> dict[str, Any]:
    """Everything that an answer depends on, by the name that a message gives it."""
    return {
        "weights": weights,
        "judge": f"{judge.name} {judge.version}",
        "drift prompts": list(whole),
        "prompts": {name: record.rendered_sha256 for name, record in prompts.describe().items()},
        "settings": [prompts.lengths, settings.max_reasoning_tokens, settings.batch_size, settings.dtype],
        "versions of the libraries": versions(),
    }


def _final(prompts: Prompts, judge: Judge, whole: Sequence[int]) -> Callable[[int, str], bool] | None:
    """Tells of a prompt's answer so far whether its label is settled, so that the answer may end there.

    None where the judge cannot tell. Tasks are compared whole, and `whole` are the positions of other such prompts.
    """
    if not isinstance(judge, EarlyJudge):
        return None
    items, never, split = prompts.items(), frozenset(whole), prompts.split()

    def is_final(row: int, text: str) -> bool:
        name, item = items[row]
        if name == "task" or row in never:
            return False
        _, answer = split(row, text)
        return answer is not None and judge.is_settled(item.prompt, answer)

    return is_final


def _probed(prompts: Prompts, count: int) -> list[int]:
    """The positions of the prompts whose answers drift is measured along."""
    names = [name for name, _ in prompts.items()]
    rows = {kind: [row for row, name in enumerate(names) if name == kind] for kind in ("harmful", "ordinary")}
    return [row for own in rows.values() for row in spread(own, count)]


def _answers(
    model: Answerer,
    prompts: Prompts,
    kept: KeptAnswers,
    is_final: Callable[[int, str], bool] | None,
    name: str,
    console: Console | None,
) -> list[str]:
    """The answers in the order of the prompts. All sets share batches: a small one takes as long as a large one."""
    texts, lengths = prompts.texts(), prompts.lengths_of_answers()
    missing = [row for row in range(len(texts)) if row not in kept.known]
    if missing:
        bar = progress_bar(console, f"{name}: {len(texts)} prompts", len(texts), done=len(kept.known))
        asks = None if is_final is None else (lambda place, text: is_final(missing[place], text))
        with bar as advance:
            asked = [texts[row] for row in missing], [lengths[row] for row in missing]
            for portion in model.answers(*asked, advance, asks):
                kept.add({missing[row]: text for row, text in portion.items()})
    return [kept.known[row] for row in range(len(texts))]


def _judged(
    prompts: Prompts, texts: Sequence[str], judge: Judge, is_final: Callable[[int, str], bool] | None
) -> list[Answer]:
    """The answers with their labels; a task is not judged, but compared with the expected answer.

    What a model thinks is no answer. One that never left its reasoning is neither judged nor compared.
    """
    items, split = prompts.items(), prompts.split()
    parts = [split(row, text) for row, text in enumerate(texts)]
    said = {row: answer for row, (_, answer) in enumerate(parts) if answer is not None}
    judged = [row for row, (name, _) in enumerate(items) if name != "task" and row in said]
    verdicts = dict(
        zip(judged, judge.verdicts([Exchange(items[row][1].prompt, said[row]) for row in judged]), strict=True)
    )
    unfinished = Verdict(Label.UNFINISHED)
    return [
        Answer(
            set=name,
            id=item.id,
            category=item.category,
            prompt=item.prompt,
            answer=said.get(row, ""),
            reasoning=parts[row][0] or None,
            **_stated(verdicts.get(row) if row in said else unfinished),
            settled=is_final is not None and is_final(row, texts[row]),
            correct=_is_correct(item, said.get(row)),
            expected=item.expected,
        )
        for row, (name, item) in enumerate(items)
    ]


def _stated(verdict: Verdict | None) -> dict[str, Any]:
    if verdict is None:
        return {}
    return {"label": verdict.label, "reason": verdict.reason or None, "undecided": verdict.undecided}


def _is_correct(item: Item, answer: str | None) -> bool | None:
    if item.expected is None or answer is None:
        return None
    return ExactMatch(json=_is_json(item.expected))(answer, item.expected)


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def _scored(answers: Sequence[Answer], scorer: Scorer, drift: DriftPrompts, count: int, reference: Any) -> list[Answer]:
    """The answers, those whose prompts were scored with their scores.

    Where a score is infinite or no number, none of its kind is kept: leaving one out would flatter the model.
    """
    scores: list[dict[str, float]] = [{} for _ in answers]
    found = scorer.scores(drift, reference)
    for key, values in ((key, values) for key, values in found.items() if all(map(math.isfinite, values))):
        for row, value in zip(_rows(answers, MEASURES[key].prompts, count), values, strict=True):
            scores[row][key] = round(value, 6)
    return [replace(answer, scores=own) for answer, own in zip(answers, scores, strict=True)]


def _reference(answers: Sequence[Answer], scorer: Scorer, drift: DriftPrompts, count: int) -> Any:
    texts: Mapping[str, list[str]] = {
        name: [_whole(answers[row]) for row in _rows(answers, (name,), count)] for name in ("harmful", "ordinary")
    }
    return scorer.reference(drift, texts)


def _whole(answer: Answer) -> str:
    """What a model wrote first is its reasoning, if there is any."""
    return (answer.reasoning or "") + (answer.answer or "")


def _rows(answers: Sequence[Answer], sets: Sequence[str], count: int) -> Sequence[int]:
    """The positions of the answers whose prompts show drift."""
    return spread([row for row, answer in enumerate(answers) if answer.set in sets], count)
