"""Hashes of what a document's reference logits depend on, by which it is found again in whatever batch it comes."""

import hashlib
from typing import NamedTuple

from jaxtyping import Bool, Int
from torch import Tensor

from moored.huggingface.safeguards.guarded_logits import guarded_positions
from moored.huggingface.safeguards.rows import Batch, is_packed, take_apart


class Document(NamedTuple):
    """A row of a padded batch, or a document of packed ones."""

    key: bytes
    """A hash of its tokens up to the last guarded position, and of where it is guarded: what the logits depend on."""
    positions: int
    """The number of guarded positions."""


def documents(batch: Batch, first: int | None) -> list[Document]:
    """Returns the documents of a batch, in order.

    Raises:
        InputError: a batch that cannot be taken apart.
    """
    names = ("input_ids", "labels", "position_ids" if is_packed(batch) else "attention_mask")
    text = {name: batch[name].cpu() for name in names if batch.get(name) is not None}
    rows = take_apart({**text, "labels": guarded_positions(text, first)})
    return [_document(row["input_ids"], row["labels"]) for row in rows]


def _document(ids: Int[Tensor, " position"], guarded: Bool[Tensor, " position"]) -> Document:
    end = int(guarded.nonzero()[-1]) + 1 if guarded.any() else 0
    content = ids[:end].long().numpy().tobytes() + guarded[:end].numpy().tobytes()
    return Document(hashlib.blake2b(content, digest_size=16).digest(), int(guarded.sum()))
