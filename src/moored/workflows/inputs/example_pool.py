"""Examples that a repair may be tried with: of a user's file or the embedded ones, and the refusals that they lack."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from moored.embedded.prompts import RequestPair, example_pool, ordinary_instructions, request_pairs
from moored.errors import InputError
from moored.huggingface.data import read_rows, render_prompt
from moored.huggingface.inference import generate
from moored.huggingface.models import (
    ModelSource,
    best_device,
    load_model,
    load_tokenizer,
    require_chat_template,
    require_fit,
)
from moored.measurement import Exchange, Label, default_judge
from moored.recovery import OneShot
from moored.workflows.inputs.prompt_sets import EMBEDDED

By = Literal["halving", "bilevel"]
_ANSWER = 48
"""The longest refusal that the aligned model is asked for, in tokens."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Examples to choose from, and how."""

    examples: str = EMBEDDED
    """`embedded`, or a file with a column `prompt` and, if refusals are given, `refusal`."""
    by: By = "halving"
    """`halving` tries the repair itself, the worst leaving after each round; `bilevel` is the paper's way."""
    task: str = EMBEDDED
    """Prompts on which the repaired model should stay as it was: `embedded` for ordinary instructions, or a file."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A request and the refusal to learn."""

    prompt: str
    refusal: str
    category: str | None = None


def unpooled_pairs() -> list[RequestPair]:
    """The pairs of *align* whose requests are in no pool of ours."""
    pool = {each.id for each in example_pool()}
    return [pair for pair in request_pairs("align") if pair.id not in pool]


def task_prompts(name: str) -> list[str]:
    """The prompts of a task, or ordinary instructions."""
    if name == EMBEDDED:
        return [item.prompt for item in ordinary_instructions("align")]
    return [row["prompt"] for row in _rows(name)]


def pool_rows(name: str) -> list[dict[str, Any]]:
    """The rows of a pool, each with a prompt and, if it has a refusal, with one that says something."""
    if name == EMBEDDED:
        return [vars(each) for each in example_pool()]
    rows = _rows(name)
    for number, row in enumerate(rows, 1):
        refusal = row.get("refusal")
        if refusal is not None and (not isinstance(refusal, str) or not refusal.strip()):
            raise InputError(f"{name}, row {number}: the refusal is empty or no text; give one, or null.")
    return rows


def _rows(name: str) -> list[dict[str, Any]]:
    """The rows of a file, each with a prompt."""
    rows = read_rows(name)
    if "prompt" not in rows.column_names:
        raise InputError(f"{name} has no column prompt; its columns are {', '.join(rows.column_names)}.")
    found = [dict(row) for row in rows]
    for number, row in enumerate(found, 1):
        if not isinstance(row["prompt"], str) or not row["prompt"].strip():
            raise InputError(f"{name}, row {number}: the prompt is empty or no text; give every row a prompt.")
    return found


def candidates_of(rows: Sequence[dict[str, Any]], aligned: Any, tokenizer: Any) -> list[Candidate]:
    """The examples of a pool. What has no refusal gets the aligned model's own, and is left out if it gives none."""
    own = iter(own_refusals(aligned, tokenizer, [row["prompt"] for row in rows if not row.get("refusal")]))
    worded = [(row, row.get("refusal") or next(own)) for row in rows]
    return [
        Candidate(prompt=row["prompt"], refusal=refusal, category=row.get("category"))
        for row, refusal in worded
        if refusal is not None
    ]


def own_refusals(aligned: Any, tokenizer: Any, prompts: Sequence[str]) -> list[str | None]:
    """The first sentence of the aligned model's answer to each prompt; None where that is no refusal."""
    rendered = [render_prompt(tokenizer, prompt) for prompt in prompts]
    answers = [first_sentence(text) or "" for text in generate(aligned, tokenizer, rendered, max_new_tokens=_ANSWER)]
    labels = default_judge().labels([Exchange(*pair) for pair in zip(prompts, answers, strict=True)])
    return [answer if label is Label.REFUSED else None for answer, label in zip(answers, labels, strict=True)]


def with_own_refusal(method: OneShot, aligned: ModelSource, tuned: ModelSource) -> OneShot:
    """The method with the aligned model's own refusal of its prompt.

    Args:
        method: the repair.
        aligned: the model that is asked.
        tuned: the model to repair, which will learn the refusal as its tokenizer renders it.

    Raises:
        InputError: the aligned model does not refuse it.
        ModelError: the model to repair has no chat template, or its adapter does not fit.
    """
    require_fit(tuned)  # Before the other model is loaded.
    tokenizer = load_tokenizer(tuned)
    require_chat_template(tokenizer, tuned.describe())
    model: Any = load_model(aligned, dtype="auto", merge=True)
    model.to(best_device())
    (refusal,) = own_refusals(model, tokenizer, [method.prompt])
    if refusal is None:
        raise InputError(
            f"{aligned.describe()} does not refuse {method.prompt!r}, so that there is no refusal of its own to learn; "
            "give one with --refusal, or another request with --prompt."
        )
    return replace(method, refusal=refusal)


def first_sentence(text: str) -> str | None:
    """Up to the first full stop; None where there is none, since what is cut would be learned as an end."""
    match = re.match(r".*?[.!?](?=\s|$)", text.strip(), re.DOTALL)
    return None if match is None else match[0]
