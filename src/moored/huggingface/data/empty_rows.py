"""Rows of which nothing is learned."""

import logging
from typing import Literal

import numpy as np
import pyarrow as pa
from datasets import Dataset

from moored.errors import InputError
from moored.huggingface.data.chat_turns import IGNORED
from moored.huggingface.data.token_batches import batches

_logger = logging.getLogger(__name__)


def drop_empty_rows(
    rows: Dataset,
    *,
    where: str,
    max_length: int | None,
    keep_end: bool = False,
    on_empty: Literal["error", "drop"] = "error",
) -> Dataset:
    """Rows that still have a supervised token once they are cut to `max_length`.

    The first token of a row has no context and is never predicted, so its label does not count.

    Args:
        rows: with `input_ids` and `labels`.
        where: the name of the data in messages.
        max_length: tokens a row is cut to, or None.
        keep_end: cut from the left instead of from the right.
        on_empty: `error` refuses such rows, `drop` leaves them out and says how many and which.

    Raises:
        InputError: some rows are empty and `on_empty` is `error`, or all are.
    """
    full = np.concatenate([_has_labels(labels, max_length, keep_end) for labels in batches(rows, "labels")])
    empty = (np.flatnonzero(~full) + 1).tolist()
    if not empty:
        return rows
    what = f"{len(empty)} of {len(full)} rows of {where} have no supervised token"
    what += "" if max_length is None else f" within max_length={max_length}"
    what += f" (rows {_some(empty)})"
    if on_empty == "error" or len(empty) == len(full):
        switch = "" if len(empty) == len(full) else ", or leave them out with on_empty_rows: drop"
        raise InputError(f"{what}; give them an answer to learn or raise max_length{switch}.")
    _logger.warning("%s; they are left out.", what)
    return rows.select(np.flatnonzero(full))


def _has_labels(labels: pa.ListArray, max_length: int | None, keep_end: bool) -> np.ndarray:
    """Whether each row has a label behind the first token of what is kept of it."""
    offsets = labels.offsets.to_numpy() - labels.offsets[0].as_py()
    starts, ends = offsets[:-1], offsets[1:]
    if max_length is not None and keep_end:
        starts = np.maximum(starts, ends - max_length)
    elif max_length is not None:
        ends = np.minimum(ends, starts + max_length)
    learned_before = np.concatenate([[0], np.cumsum(labels.flatten().to_numpy() != IGNORED)])
    return learned_before[ends] > learned_before[np.minimum(starts + 1, ends)]


def _some(numbers: list[int], most: int = 5) -> str:
    return ", ".join(map(str, numbers[:most])) + (", …" if len(numbers) > most else "")
