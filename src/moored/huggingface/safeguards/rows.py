"""Takes the batches of an optimizer step apart into rows, and puts some of the rows together again.

A row is what can be kept or dropped by itself: a row of a padded batch without its padding, or one document of a packed
batch.
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
from moored.huggingface.safeguards.interface import Batch

Row = dict[str, Tensor]
"""One-dimensional tensors of one length."""

_REBUILT = {"position_ids", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx"}
"""The entries that say where the documents of a packed batch end; `put_together` makes new ones."""


def is_packed(batch: Batch) -> bool:
    """Whether documents follow one another in a row, each with positions from 0."""
    return batch.get("position_ids") is not None and batch.get("attention_mask") is None


def take_apart(batch: Batch) -> list[Row]:
    """Returns the rows of a batch, or its documents, in the order in which `score` has them.

    Args:
        batch: `input_ids` and `labels` [row, column], and whatever else has that shape.

    Raises:
        InputError: it holds something that cannot be divided by row.
    """
    if not isinstance(batch, Mapping) or "input_ids" not in batch:
        raise InputError("The batches have no input_ids, so they cannot be taken apart by row.")
    ids, packed = batch["input_ids"], is_packed(batch)
    parts = {key: value for key, value in batch.items() if not (packed and key in _REBUILT)}
    strange = [key for key, value in parts.items() if getattr(value, "shape", None) != ids.shape]
    strange += sorted(parts.keys() - {"input_ids", "labels"}) if packed else []
    if strange or "labels" not in parts:
        problem = f"hold {strange[0]}, which" if strange else "hold no labels, without which they"
        raise InputError(
            f"The batches {problem} cannot be taken apart by row, as gradient selection and safety tokens require; "
            "both work on text only."
        )
    if packed:
        return [{key: value.flatten()[own] for key, value in parts.items()} for own in samples_of(batch).positions()]
    filled = batch.get("attention_mask", torch.ones_like(ids)).bool()
    return [{key: value[row][filled[row]] for key, value in parts.items()} for row in range(len(ids))]


def put_together(rows: Sequence[Row], like: Batch) -> dict[str, Any]:
    """Makes one batch of the rows, padded on the right or packed like `like`, and on its device."""
    if not is_packed(like):
        # In a causal model no token sees the padding to its right, so that no mask is needed.
        return {
            key: pad_sequence([row[key] for row in rows], True, IGNORED if "labels" in key else 0) for key in rows[0]
        }
    flatten = DataCollatorWithFlattening(
        return_flash_attn_kwargs="cu_seq_lens_q" in like, return_seq_idx="seq_idx" in like
    )
    device = like["input_ids"].device
    # As lists: the collator would fetch tensors from the device one token at a time.
    batch = flatten([{key: value.tolist() for key, value in row.items()} for row in rows])
    return {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}


def unlabelled(row: Row) -> Row:
    """Returns the first tokens of a row without labels: the shortest row on which a model can run."""
    return {
        key: torch.full_like(value[:2], IGNORED) if "labels" in key else value[:2].clone() for key, value in row.items()
    }


def distribute(rows: Sequence[Row], cells: int, *, by_length: bool) -> list[list[Row]]:
    """Distributes rows over cells, in their order: evenly by number, or by tokens with `by_length`.

    A cell may stay empty. By number, none gets more than ⌈rows / cells⌉.
    """
    costs = [len(row["input_ids"]) if by_length else 1 for row in rows]
    total, before = sum(costs), 0
    shares: list[list[Row]] = [[] for _ in range(cells)]
    for row, cost in zip(rows, costs, strict=True):
        # The cell in which the row's middle falls; in half tokens, so that nothing is rounded.
        shares[(2 * before + cost) * cells // (2 * total)].append(row)
        before += cost
    return shares
