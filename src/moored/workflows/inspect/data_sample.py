"""A sample of a data set as token ids and labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moored.errors import InputError
from moored.huggingface.data import IGNORED, Supervision, read_rows, supervise
from moored.huggingface.models import ModelSource, context_length, load_tokenizer
from moored.report.reading.gradients import DataRecord
from moored.workflows.inspect.settings import GradientsSettings
from moored.workflows.records.provenance import tokens_hash


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Rows drawn from a data set, in the data set's order."""

    rows: Sequence[Mapping[str, Any]]
    """The rows' `input_ids` and `labels`; each row has a supervised token within the maximum length."""
    numbers: Sequence[int]
    """The positions of the rows in the data set, counted from 1."""
    record: DataRecord


def draw_sample(settings: GradientsSettings, source: ModelSource) -> Sample:
    """Draws `limit` rows without replacement, or all, and leaves out rows with nothing to learn.

    Raises:
        InputError: the data cannot be read, or no row that was drawn has a supervised token within `max_length`.
        ModelError: the tokenizer cannot render the rows.
    """
    rows = read_rows(settings.data)
    drawn = np.sort(np.random.default_rng(settings.seed).permutation(len(rows))[: settings.limit])
    supervision = Supervision(tokenizer=load_tokenizer(source))
    tokens = supervise(rows.select(drawn), supervision, where=settings.data).to_list()
    context = context_length(source)
    length = settings.max_length if context is None else min(context, settings.max_length)
    learned = [any(label != IGNORED for label in row["labels"][1:length]) for row in tokens]
    if not any(learned):
        raise InputError(
            f"None of the {len(tokens)} rows drawn from {settings.data} has a supervised token within --max-length "
            f"{length}; add answers to the rows or raise --max-length."
        )
    kept = [row for row, has_answer in zip(tokens, learned, strict=True) if has_answer]
    record = DataRecord(
        source=settings.data,
        rows=len(rows),
        sampled=len(kept),
        without_answer=len(tokens) - len(kept),
        cut=sum(len(row["input_ids"]) > length for row in kept),
        max_length=length,
        tokens_sha256=tokens_hash(kept),
    )
    numbers = [int(number) + 1 for number, has_answer in zip(drawn, learned, strict=True) if has_answer]
    return Sample(rows=kept, numbers=numbers, record=record)
