"""Token ids and labels a batch of rows at a time, as Arrow holds them."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

_BATCH = 1000
"""Rows that are in memory at once."""


def batches(rows: Dataset, column: str) -> Iterator[pa.ListArray]:
    """Yields a column of lists, a batch of rows at a time."""
    tables: Any = rows.select_columns(column).with_format("arrow").iter(batch_size=_BATCH)
    for table in tables:
        yield table[column].combine_chunks()


def tokens_hash(rows: Dataset) -> str:
    """Hashes all token ids and labels, in order: equal hashes mean that the same was learned."""
    lengths, values = hashlib.sha256(), hashlib.sha256()
    for column in ("input_ids", "labels"):
        for batch in batches(rows, column):
            lengths.update(np.diff(batch.offsets.to_numpy()).astype("<i8").tobytes())
            values.update(batch.flatten().to_numpy().astype("<i8").tobytes())
    return hashlib.sha256(lengths.digest() + values.digest()).hexdigest()
