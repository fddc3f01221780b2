"""A sample of a data set as token ids and labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moored.errors import InputError
from moored.huggingface.data import IGNORED, Supervision, open_rows, supervise, tokens_hash
from moored.huggingface.models import ModelSource, context_length, load_tokenizer
from moored.report.reading.gradients import DataRecord
from moored.workflows.inspect.settings import GradientsSettings


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
    rows = open_rows(settings.data)
    drawn = np.sort(np.random.default_rng(settings.seed).permutation(rows.count)[: settings.limit])
    supervision = Supervision(tokenizer=load_tokenizer(source))
    tokens = supervise(rows.take(drawn.tolist()), supervision, where=settings.data)
    context = context_length(source)
    length = settings.max_length if context is None else min(context, settings.max_length)
    learned = np.array([any(label != IGNORED for label in labels[1:length]) for labels in tokens["labels"]])
    if not learned.any():
        raise InputError(
            f"None of the {len(tokens)} rows drawn from {settings.data} has a supervised token within --max-length "
            f"{length}; add answers to the rows or raise --max-length."
        )
    kept = tokens.select(np.flatnonzero(learned))
    record = DataRecord(
        source=settings.data,
        rows=rows.count,
        sampled=len(kept),
        without_answer=len(tokens) - len(kept),
        cut=sum(len(ids) > length for ids in kept["input_ids"]),
        max_length=length,
        tokens_sha256=tokens_hash(kept),
    )
    return Sample(rows=kept.to_list(), numbers=(drawn[learned] + 1).tolist(), record=record)
