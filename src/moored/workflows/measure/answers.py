"""One model measured on the prompts of a comparison: answers, labels, drift, and the numbers made of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console

from moored.embedded.prompts import openings
from moored.errors import InputError, ModelError
from moored.huggingface.data import render_prompt, rendering_hash
from moored.huggingface.inference import DriftProbe, ReferenceAnswers, generate, reference_answers
from moored.huggingface.models import (
    ModelSource,
    best_device,
    context_length,
    load_model,
    load_tokenizer,
    require_chat_template,
)
from moored.measurement import ExactMatch, Label, Rate, RefusalJudge, mean_interval, share, summarize
from moored.workflows.inputs.prompt_sets import Item, PromptSet, spread
from moored.workflows.records.progress import progress_bar
from moored.workflows.records.provenance import describe_model


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How answers are made."""

    max_new_tokens: int
    batch_size: int
    dtype: torch.dtype | None
    """None keeps the checkpoint's own precision, or takes fp32 where bf16 would be emulated."""
    drift_prompts: int = 48
    """Prompts of each kind, taken evenly, that show the drift: full-vocabulary logits of more would fill the memory."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The prompts, rendered once for every model of the comparison."""

    sets: Sequence[PromptSet]
    rendered: Mapping[str, Sequence[str]]
    tokenizer: Any

    def describe(self) -> dict[str, dict[str, Any]]:
        """Number, hash of the rendering and source of each set, as the report has them."""
        return {
            each.name: {
                "n": len(each.items),
                "rendered_sha256": rendering_hash(self.rendered[each.name]),
                "source": each.source,
            }
            for each in self.sets
        }


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one model did."""

    source: ModelSource
    precision: str
    """Of the weights in memory."""
    answers: Sequence[dict[str, Any]]
    """One row a prompt, as `answers.jsonl` has them."""
    drift: Mapping[str, Sequence[float]]
    reference: ReferenceAnswers | None
    """For the models that are compared with this one."""

    def numbers(self) -> dict[str, Any]:
        """The rates and means of the report."""
        model = {**describe_model(self.source), "precision": self.precision}
        return {"model": model, **_rates(self.answers), "drift": _means(self.drift)}


def render(sets: Sequence[PromptSet], source: ModelSource) -> Asked:
    """Renders all prompts with the chat template of a model.

    Raises:
        ModelError: the tokenizer has no chat template, or it refuses the messages.
    """
    tokenizer = load_tokenizer(source)
    require_chat_template(tokenizer, source.describe())
    rendered = {each.name: [render_prompt(tokenizer, item.prompt) for item in each.items] for each in sets}
    return Asked(sets=sets, rendered=rendered, tokenizer=tokenizer)


def require_same_tokens(asked: Asked, source: ModelSource) -> None:
    """Raises ModelError when a model would read the rendered prompts as other tokens."""
    other = load_tokenizer(source)
    for text in (text for texts in asked.rendered.values() for text in texts):
        if _ids(other, text) != _ids(asked.tokenizer, text):
            raise ModelError(
                f"The tokenizer of {source.describe()} reads the prompts as other tokens than the measured model's; "
                "compare two models of one family."
            )


def require_room(asked: Asked, source: ModelSource, max_new_tokens: int) -> None:
    """Raises InputError for the first prompt that does not fit a model's context together with its answer."""
    room = context_length(source)
    if room is None:
        return
    for each in asked.sets:
        for item, text in zip(each.items, asked.rendered[each.name], strict=True):
            length = len(_ids(asked.tokenizer, text))
            if length + max_new_tokens > room:
                raise InputError(
                    f"Prompt {item.id} of {each.source} has {length} tokens and its answer up to {max_new_tokens}, but "
                    f"{source.describe()} was made for {room}; shorten the prompt or leave it out."
                )


def _ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def measure_model(
    source: ModelSource,
    asked: Asked,
    settings: Settings,
    *,
    reference: ReferenceAnswers | None = None,
    keep_reference: bool = False,
    console: Console | None = None,
    label: str = "model",
) -> Measured:
    """Loads a model, lets it answer every prompt, judges, and probes its drift.

    Args:
        source: the model; an adapter is folded into the weights in memory, as it would be for serving.
        asked: the rendered prompts.
        settings: of the generation.
        reference: answers and logits of another model, for the KL divergence.
        keep_reference: whether this model is to be such a reference.
        console: where progress is shown.
        label: the model's name in the progress bar.
    """
    model = load_model(source, dtype=settings.dtype or "auto", merge=True)
    model.to(best_device())  # pyright: ignore[reportArgumentType]
    answers = _answer(model, source.describe(), asked, settings, console, label)
    probe = _probe(asked, settings.drift_prompts, reference)
    scores = {} if probe is None else {name: each.tolist() for name, each in probe.scores(model).items()}
    kept = None
    if keep_reference and probe:
        kept = reference_answers(model, probe, answers_of=_probed_answers(answers, settings.drift_prompts))
    precision = str(model.dtype).removeprefix("torch.")
    return Measured(source=source, precision=precision, answers=answers, drift=scores, reference=kept)


def _answer(
    model: torch.nn.Module, name: str, asked: Asked, settings: Settings, console: Console | None, label: str
) -> list[dict[str, Any]]:
    """The rows of all sets, in order; the sets share batches, since a small batch takes as long as a large one."""
    items = [(each.name, item) for each in asked.sets for item in each.items]
    rendered = [text for each in asked.sets for text in asked.rendered[each.name]]
    with progress_bar(console, f"{label}: {len(items)} prompts", len(items)) as advance:
        texts = generate(
            model,
            asked.tokenizer,
            rendered,
            max_new_tokens=settings.max_new_tokens,
            batch_size=settings.batch_size,
            progress=advance,
            name=name,
        )
    return [_row(name, item, text) for (name, item), text in zip(items, texts, strict=True)]


def _row(name: str, item: Item, answer: str) -> dict[str, Any]:
    return {
        "set": name,
        "id": item.id,
        "category": item.category,
        "prompt": item.prompt,
        "answer": answer,
        "label": None if name == "task" else str(RefusalJudge()(item.prompt, answer)),
        "correct": None if item.expected is None else _correct(answer, item.expected),
        "expected": item.expected,
    }


def _correct(answer: str, expected: str) -> bool:
    return ExactMatch(json=_is_json(expected))(answer, expected)


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def _probe(asked: Asked, count: int, reference: ReferenceAnswers | None) -> DriftProbe | None:
    """None where there are no harmful prompts to probe."""
    if "harmful" not in asked.rendered:
        return None
    texts = openings()
    return DriftProbe(
        tokenizer=asked.tokenizer,
        harmful=spread(asked.rendered["harmful"], count),
        ordinary=spread(asked.rendered.get("ordinary", ()), count),
        refusing=texts.refusing,
        complying=texts.complying,
        reference=reference,
    )


def _probed_answers(answers: Sequence[dict[str, Any]], count: int) -> dict[str, Sequence[str]]:
    return {
        name: spread([row["answer"] for row in answers if row["set"] == name], count)
        for name in ("harmful", "ordinary")
    }


def _rates(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    labels = {
        name: [Label(row["label"]) for row in answers if row["set"] == name]
        for name in ("harmful", "harmless", "ordinary")
    }
    found = summarize(harmful=labels["harmful"] or None, harmless=labels["harmless"] or None)
    if labels["ordinary"]:
        found["ordinary_refusal"] = share(labels["ordinary"], Label.REFUSED)
    task = [row["correct"] for row in answers if row["set"] == "task"]
    if task:
        found["utility"] = Rate.of(sum(task), len(task))
    return {name: rate.as_dict() for name, rate in found.items()}


def _means(drift: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    return {name: mean_interval(values).as_dict() for name, values in drift.items()}
