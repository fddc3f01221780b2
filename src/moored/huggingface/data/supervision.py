"""Rows to token ids and labels: which tokens a fine-tune learns from.

The labels are made here and not by TRL, because TRL supervises every token of a `messages` row unless it knows the
chat template, trains string prompts without any template, and drops rows without a label silently.
"""

import logging
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from datasets import Dataset

from moored.errors import InputError
from moored.huggingface.data.formats import as_written, written_rows
from moored.huggingface.data.row_tokens import LAYOUTS, Supervision
from moored.huggingface.data.together import run_together
from moored.huggingface.data.unread import unread_keys

_TOGETHER = 256
"""The number of rows that are rendered and tokenized together."""
_FORGETFUL = "the chat template takes the thoughts out of earlier turns, so those turns are not learned"

_logger = logging.getLogger(__name__)


def supervise(rows: Dataset, how: Supervision, *, where: str, num_proc: int | None = None, first: int = 1) -> Dataset:
    """Rows as `input_ids` and `labels` (the id where a token is learned, -100 elsewhere), in their order.

    `messages` rows learn the assistant's turns, each with its end-of-turn token; `prompt`/`completion` rows learn the
    completion; `text` rows learn everything. Text that no template renders gets the end-of-sequence token appended.
    A chat row whose column `unfinished` is true ends in the middle of its last answer, so that no end is learned. Turns
    whose `weight` is 0 or whose `train` is false are not learned.

    Args:
        rows: with the columns `messages`, or `prompt` and `completion` (strings or messages), or a text column.
        how: the tokenizer and the settings.
        where: the name of the data in errors.
        num_proc: processes to tokenize with.
        first: the number of the first row in errors, where the rows are a part of more.

    Raises:
        InputError: no known columns, or a row whose value has the wrong form (with its number).
        ModelError: a chat is to be rendered without a template, or by one whose turns cannot be told apart.
    """
    layout = _layout(rows.column_names, how.text_field, where)
    if layout != "text":
        _name_unread(rows, how, layout, where, first)
    return rows.map(
        _tokenized,
        batched=True,
        batch_size=_TOGETHER,
        with_indices=True,
        fn_kwargs={"how": how, "layout": layout, "features": rows.features, "where": where, "first": first},
        remove_columns=rows.column_names,
        num_proc=num_proc,
        # It would be made of the function and the tokenizer otherwise, which takes longer than a thousand rows.
        new_fingerprint=uuid4().hex,
        desc=f"Tokenizing {where}",
    )


def _tokenized(
    columns: Mapping[str, list[Any]],
    numbers: list[int],
    *,
    how: Supervision,
    layout: str,
    features: Mapping[str, Any],
    where: str,
    first: int,
) -> dict[str, list[list[int]]]:
    rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    tokens = run_together(
        how.tokenizer,
        [
            LAYOUTS[layout](as_written(row, features), how, f"row {number + first} of {where}")
            for row, number in zip(rows, numbers, strict=True)
        ],
    )
    forgetful = [number for number, own in zip(numbers, tokens, strict=True) if own.is_forgetful]
    if forgetful and _FORGETFUL not in how.named:
        how.named.add(_FORGETFUL)
        _logger.warning("%s: %s (row %d, say).", where, _FORGETFUL, forgetful[0] + first)
    return {"input_ids": [own.ids for own in tokens], "labels": [own.labels() for own in tokens]}


def _name_unread(rows: Dataset, how: Supervision, layout: str, where: str, first: int) -> None:
    """Says in one line which keys of the rows are learned by no token, each once."""
    unread = unread_keys(
        written_rows(rows), lambda row: run_together(how.tokenizer, [LAYOUTS[layout](row, how, where)]), how.tries
    )
    new = [f"{key} (row {number + first}, say)" for key, number in unread.items() if str(key) not in how.named]
    how.named.update(map(str, unread))
    if new:
        _logger.warning(
            "%s: the rendering does not change with %s, so nothing of it is learned.", where, ", ".join(new)
        )


def _layout(columns: list[str], text_field: str, where: str) -> str:
    if "messages" in columns:
        return "messages"
    if {"prompt", "completion"} <= set(columns):
        return "prompt"
    if text_field in columns:
        return "text"
    raise InputError(
        f"{where} has the columns {', '.join(columns) or '(none)'}, but training needs messages, "
        f"prompt and completion, or {text_field}; rename its columns."
    )
