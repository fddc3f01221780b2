"""Rows to token ids and labels: which tokens a fine-tune learns from.

The labels are made here and not by TRL, because TRL supervises every token of a `messages` row unless it knows the
chat template, trains string prompts without any template, and drops rows without a label silently.
"""

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
from datasets import Dataset

from moored.huggingface.data.chat_turns import Tokens
from moored.huggingface.data.formats import Row
from moored.huggingface.data.notices import say
from moored.huggingface.data.row_tokens import Supervision, is_chat, row_tokens
from moored.huggingface.data.together import run_together
from moored.huggingface.data.unread import rows_to_try

TOGETHER = 256
"""The number of rows that are rendered and tokenized together."""
_IDS = pa.list_(pa.int32())
SCHEMA = pa.schema({"input_ids": _IDS, "labels": _IDS})


class Block(NamedTuple):
    """Rows that became tokens together."""

    tokens: pa.RecordBatch
    """The columns of `SCHEMA`."""
    forgetful: int | None
    """The number of a row with turns that are not learned, because their thoughts are gone."""
    to_try: list[tuple[int, Row]]
    """The rows with keys that may be read by nothing, with their numbers."""


def supervise(rows: Sequence[Row], how: Supervision, *, where: str, first: int = 1) -> Dataset:
    """Rows as `input_ids` and `labels` (the id where a token is learned, -100 elsewhere), in their order.

    `messages` rows learn the assistant's turns, each with its end-of-turn token; `prompt`/`completion` rows learn the
    completion; `text` rows learn everything. Text that no template renders gets the end-of-sequence token appended.
    A chat row whose column `unfinished` is true ends in the middle of its last answer, so that no end is learned. Turns
    whose `weight` is 0 or whose `train` is false are not learned.

    Args:
        rows: each with `messages`, or `prompt` and `completion` (strings or messages), or a text.
        how: the tokenizer and the settings.
        where: the name of the data in errors.
        first: the number of the first row in errors, where the rows are a part of more.

    Raises:
        InputError: a row has no known columns, or its value has the wrong form (with its number).
        ModelError: a chat is to be rendered without a template, or by one whose turns cannot be told apart.
    """
    starts = range(0, len(rows), TOGETHER)
    blocks = [tokenized(rows[start : start + TOGETHER], how, where, first + start) for start in starts]
    for block in blocks:
        take_note(block, how, where)
    say(how.notices.sentences(), where)
    return Dataset(pa.Table.from_batches([block.tokens for block in blocks], SCHEMA))


def tokenized(rows: Sequence[Row], how: Supervision, where: str, first: int) -> Block:
    """Rows that become tokens together; the first has the number `first`."""
    numbered = list(enumerate(rows, first))
    tokens = run_together(how.encoder, [row_tokens(row, how, f"row {number} of {where}") for number, row in numbered])
    forgetful = (number for (number, _), own in zip(numbered, tokens, strict=True) if own.is_forgetful)
    to_try = rows_to_try((number, row) for number, row in numbered if is_chat(row))
    return Block(_table(tokens), next(forgetful, None), to_try)


def _table(tokens: Sequence[Tokens]) -> pa.RecordBatch:
    columns = ([own.ids for own in tokens], [own.labels() for own in tokens])
    return pa.record_batch([pa.array(column, _IDS) for column in columns], schema=SCHEMA)


def take_note(block: Block, how: Supervision, where: str) -> None:
    """Tries the keys of a block's rows, and adds what was noticed in it to the notices of `how`."""
    how.notices.keys.try_out(
        block.to_try, lambda row: run_together(how.encoder, [row_tokens(row, how, f"a row of {where}")])
    )
    if how.notices.forgetful is None:
        how.notices.forgetful = block.forgetful
