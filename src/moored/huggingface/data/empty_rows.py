"""Rows of which nothing is learned."""

import logging
from typing import Literal

from datasets import Dataset

from moored.errors import InputError
from moored.huggingface.data.chat_turns import IGNORED

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
    kept_part = slice(None) if max_length is None else slice(-max_length, None) if keep_end else slice(max_length)
    full = [any(label != IGNORED for label in labels[kept_part][1:]) for labels in rows["labels"]]
    empty = [number for number, good in enumerate(full, 1) if not good]
    if not empty:
        return rows
    what = f"{len(empty)} of {len(full)} rows of {where} have no supervised token"
    what += "" if max_length is None else f" within max_length={max_length}"
    what += f" (rows {_some(empty)})"
    if on_empty == "error" or len(empty) == len(full):
        switch = "" if len(empty) == len(full) else ", or leave them out with on_empty_rows: drop"
        raise InputError(f"{what}; give them an answer to learn or raise max_length{switch}.")
    _logger.warning("%s; they are left out.", what)
    return rows.select([number for number, good in enumerate(full) if good])


def _some(numbers: list[int], most: int = 5) -> str:
    return ", ".join(map(str, numbers[:most])) + (", …" if len(numbers) > most else "")
