"""Taking the batches of an optimizer step apart into rows, and putting some of the rows together again.

A row is what can be kept or dropped by itself: a row of a padded batch without its padding, or a document of packed
ones.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DataCollatorWithFlattening

from moored.errors import InputError
from moored.huggingface.data import IGNORED
from moored.huggingface.gradients import samples_of

Batch = Mapping[str, Any]
Row = dict[str, Tensor]
"""One-dimensional tensors of one length."""

_MADE_ANEW = {"position_ids", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx"}
"""What says where the documents of a packed batch end."""


def is_packed(batch: Batch) -> bool:
    """Whether documents stand one behind the other, told apart by their positions."""
    return batch.get("position_ids") is not None and batch.get("attention_mask") is None


def take_apart(batch: Batch) -> list[Row]:
    """The rows of a batch, in their order, or its documents; in the order of `score`.

    Args:
        batch: `input_ids` and `labels` [row, column], and whatever else has that shape.

    Raises:
        InputError: it holds something that cannot be told apart by row.
    """
    if "input_ids" not in batch:
        raise InputError("The batches hold no input_ids, without which no rows are found in them.")
    ids, packed = batch["input_ids"], is_packed(batch)
    parts = {key: value for key, value in batch.items() if not (packed and key in _MADE_ANEW)}
    strange = [key for key, value in parts.items() if getattr(value, "shape", None) != ids.shape]
    strange += sorted(parts.keys() - {"input_ids", "labels"}) if packed else []
    if strange or "labels" not in parts:
        what = f"hold {strange[0]}, which" if strange else "hold no labels, without which they"
        raise InputError(
            f"The batches {what} cannot be taken apart by row, as gradient selection and safety tokens need it; both "
            "work on text alone."
        )
    if packed:
        return [{key: value.flatten()[own] for key, value in parts.items()} for own in samples_of(batch).positions()]
    filled = batch.get("attention_mask", torch.ones_like(ids)).bool()
    return [{key: value[row][filled[row]] for key, value in parts.items()} for row in range(len(ids))]


def put_together(rows: Sequence[Row], like: Batch) -> dict[str, Any]:
    """One batch of the rows, padded on the right or packed as `like` is, and on its device."""
    if not is_packed(like):
        # A causal model's earlier tokens never see what fills up the right end, with a mask or without.
        return {
            key: pad_sequence([row[key] for row in rows], True, IGNORED if "labels" in key else 0) for key in rows[0]
        }
    flatten = DataCollatorWithFlattening(
        return_flash_attn_kwargs="cu_seq_lens_q" in like, return_seq_idx="seq_idx" in like
    )
    device = like["input_ids"].device
    # As plain numbers: it would fetch tensors from the device one token at a time.
    made = flatten([{key: value.tolist() for key, value in row.items()} for row in rows])
    return {key: value.to(device) if isinstance(value, Tensor) else value for key, value in made.items()}


def unlabelled(row: Row) -> Row:
    """The first tokens of a row with nothing to learn from them: the least that a model can be run on."""
    return {
        key: torch.full_like(value[:2], IGNORED) if "labels" in key else value[:2].clone() for key, value in row.items()
    }


def spread(rows: Sequence[Row], cells: int, *, by_length: bool) -> list[list[Row]]:
    """The rows in their order over so many cells, some maybe empty: by number, or by tokens where `by_length`.

    By number no cell gets more than ⌈rows / cells⌉.
    """
    costs = [len(row["input_ids"]) if by_length else 1 for row in rows]
    total, before = sum(costs), 0
    spread_out: list[list[Row]] = [[] for _ in range(cells)]
    for row, cost in zip(rows, costs, strict=True):
        # Where the row's middle lies, in half tokens so that nothing is rounded.
        spread_out[(2 * before + cost) * cells // (2 * total)].append(row)
        before += cost
    return spread_out
