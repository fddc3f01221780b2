"""A sample of a data set as token ids and labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moored.errors import InputError
from moored.huggingface.data import IGNORED, Supervision, read_rows, supervise
from moored.huggingface.models import ModelSource, context_length, load_tokenizer
from moored.workflows.records.provenance import tokens_hash


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Rows drawn from a data set, in its order."""

    rows: Sequence[Mapping[str, Any]]
    """Each with `input_ids` and `labels`, of which at least one is learned within `max_length`."""
    numbers: Sequence[int]
    """Where they stand in the data set, from 1."""
    max_length: int
    """The tokens that a row is cut to: those asked for, or the model's context if that is shorter."""
    described: dict[str, Any]
    """As it stands in `report.json`."""


def draw_sample(data: str, source: ModelSource, *, limit: int, seed: int, max_length: int) -> Sample:
    """Draws `limit` rows without replacement, or all, and leaves out those with nothing to learn.

    Raises:
        InputError: the data cannot be read, or no row that was drawn has a supervised token within `max_length`.
        ModelError: the tokenizer cannot render the rows.
    """
    rows = read_rows(data)
    drawn = np.sort(np.random.default_rng(seed).permutation(len(rows))[:limit])
    room = context_length(source)
    length = max_length if room is None else min(room, max_length)
    how = Supervision(tokenizer=load_tokenizer(source))
    tokens = supervise(rows.select(drawn), how, where=data).to_list()
    learned = [any(label != IGNORED for label in row["labels"][1:length]) for row in tokens]
    if not any(learned):
        raise InputError(
            f"None of the {len(tokens)} rows drawn from {data} has a supervised token within --max-length {length}; "
            "give them answers or raise it."
        )
    kept = [row for row, has in zip(tokens, learned, strict=True) if has]
    described = {
        "source": data,
        "rows": len(rows),
        "sampled": len(kept),
        "without_answer": len(tokens) - len(kept),
        "cut": sum(len(row["input_ids"]) > length for row in kept),
        "max_length": length,
        "tokens_sha256": tokens_hash(kept),
    }
    numbers = [int(number) + 1 for number, has in zip(drawn, learned, strict=True) if has]
    return Sample(rows=kept, numbers=numbers, max_length=length, described=described)
