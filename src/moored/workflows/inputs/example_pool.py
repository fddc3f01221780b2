"""The safety examples that a repair may choose from, and refusals in the aligned model's own words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from moored.embedded.prompts import RequestPair, example_pool, ordinary_instructions, request_pairs
from moored.errors import InputError
from moored.huggingface.data import read_rows, render_prompt
from moored.huggingface.inference import REASONING_TOKENS, generate, spoken
from moored.huggingface.models import (
    ModelSource,
    best_device,
    load_model,
    load_tokenizer,
    require_chat_template,
    require_fit,
)
from moored.measurement import Exchange, Label, RuleJudge
from moored.recovery import OneShot
from moored.workflows.inputs.prompt_sets import EMBEDDED

_ANSWER = 48
"""The longest refusal, in tokens, that the aligned model is asked for."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The examples to choose from, and how to choose."""

    examples: str = EMBEDDED
    """`embedded`, or a file with a column `prompt` and, optionally, `refusal`."""
    by: Literal["halving", "bilevel"] = "halving"
    """`halving`: trial repairs, dropping the worst each round. `bilevel`: the paper's method."""
    task: str = EMBEDDED
    """The prompts on which the repaired model should stay the same: a file, or `embedded` for ordinary instructions."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A request and the refusal to train on."""

    prompt: str
    refusal: str
    category: str | None = None


def unpooled_pairs() -> list[RequestPair]:
    """Returns the pairs of *align* whose requests are not in the embedded pool."""
    pool = {example.id for example in example_pool()}
    return [pair for pair in request_pairs("align") if pair.id not in pool]


def task_prompts(name: str) -> list[str]:
    """Reads the prompts of a task; `embedded` stands for ordinary instructions."""
    if name == EMBEDDED:
        return [item.prompt for item in ordinary_instructions("align")]
    return [row["prompt"] for row in _rows(name)]


def pool_rows(name: str) -> list[dict[str, Any]]:
    """Reads the rows of a pool; each has a prompt, and a refusal that it may leave open is never blank."""
    if name == EMBEDDED:
        return [vars(example) for example in example_pool()]
    rows = _rows(name)
    for number, row in enumerate(rows, 1):
        refusal = row.get("refusal")
        if refusal is not None and (not isinstance(refusal, str) or not refusal.strip()):
            raise InputError(f"{name}, row {number}: the refusal is empty or not a text; give one, or null.")
    return rows


def _rows(name: str) -> list[dict[str, Any]]:
    """Reads the rows of a file, each with a prompt."""
    rows = read_rows(name)
    if "prompt" not in rows[0]:
        raise InputError(f"{name} has no column prompt; its columns are {', '.join(rows[0])}.")
    for number, row in enumerate(rows, 1):
        if not isinstance(row["prompt"], str) or not row["prompt"].strip():
            raise InputError(f"{name}, row {number}: the prompt is empty or not a text; give every row a prompt.")
    return rows


def candidates_of(rows: Sequence[dict[str, Any]], aligned: Any, tokenizer: Any) -> list[Candidate]:
    """Makes the candidates of a pool.

    A row without a refusal gets the aligned model's own, and is dropped if that model does not refuse.
    """
    own = iter(own_refusals(aligned, tokenizer, [row["prompt"] for row in rows if not row.get("refusal")]))
    worded = [(row, row.get("refusal") or next(own)) for row in rows]
    return [
        Candidate(prompt=row["prompt"], refusal=refusal, category=row.get("category"))
        for row, refusal in worded
        if refusal is not None
    ]


def own_refusals(aligned: Any, tokenizer: Any, prompts: Sequence[str]) -> list[str | None]:
    """Returns the first sentence of the aligned model's answer to each prompt; None if that is not a refusal."""
    rendered = [render_prompt(tokenizer, prompt) for prompt in prompts]
    texts = generate(aligned, tokenizer, rendered, max_new_tokens=_ANSWER, reasoning_tokens=REASONING_TOKENS)
    answers = [first_sentence(text) or "" for text in spoken(tokenizer, rendered, texts)]
    verdicts = RuleJudge().verdicts([Exchange(*pair) for pair in zip(prompts, answers, strict=True)])
    return [answer if made.label is Label.REFUSED else None for answer, made in zip(answers, verdicts, strict=True)]


def with_own_refusal(method: OneShot, aligned: ModelSource, tuned: ModelSource) -> OneShot:
    """Returns the method with the aligned model's own refusal of its prompt.

    Args:
        method: The repair.
        aligned: The model that is asked.
        tuned: The model to repair; the prompt is rendered by its tokenizer, as it will be when it is trained on.

    Raises:
        InputError: The aligned model does not refuse.
        ModelError: The model to repair has no chat template, or its adapter does not fit.
    """
    require_fit(tuned)  # Before the other model is loaded.
    tokenizer = load_tokenizer(tuned)
    require_chat_template(tokenizer, tuned.describe())
    model: Any = load_model(aligned, dtype="auto", merge=True)
    model.to(best_device())
    (refusal,) = own_refusals(model, tokenizer, [method.prompt])
    if refusal is None:
        raise InputError(
            f"{aligned.describe()} does not refuse {method.prompt!r}, so there is no refusal of its own to train on; "
            "give one with --refusal, or another request with --prompt."
        )
    return replace(method, refusal=refusal)


def first_sentence(text: str) -> str | None:
    """Returns the text up to its first full stop; None without one, since the model would learn to stop at the cut."""
    match = re.match(r".*?[.!?](?=\s|$)", text.strip(), re.DOTALL)
    return None if match is None else match[0]
