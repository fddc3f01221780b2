"""Scores a whole data set in batches of rows of similar length; results are in the order of the rows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from moored.huggingface.data import IGNORED
from moored.huggingface.gradients.score import Scores, score


def score_rows(
    model: nn.Module,
    rows: Sequence[Mapping[str, Any]],
    *,
    batch_size: int,
    max_length: int,
    by_parameter: bool = False,
    advance: Callable[[int], None] = lambda done: None,
) -> Scores:
    """Scores rows of token ids and labels, cut to `max_length`, batch by batch.

    Args:
        model: as in `score`; the batches go to its device.
        rows: each with `input_ids` and `labels`.
        batch_size: the number of rows per batch, ≥ 1.
        max_length: the number of tokens after which a row is cut.
        by_parameter: as in `score`.
        advance: called with the number of rows done since the last call.

    Returns:
        The scores on the CPU, in the order of the rows.

    Raises:
        UserError: what `score` raises.
    """
    device = next(model.parameters()).device
    # The longest first: a batch that is too large for the memory then fails at once.
    order = sorted(range(len(rows)), key=lambda row: -len(rows[row]["input_ids"]))
    parts = []
    for start in range(0, len(order), batch_size):
        batch = padded([rows[row] for row in order[start : start + batch_size]], max_length, device)
        parts.append(score(model, batch, by_parameter=by_parameter))
        advance(len(batch["input_ids"]))
    return _joined(parts, torch.tensor(order).argsort())


def padded(rows: Sequence[Mapping[str, Any]], max_length: int, device: torch.device) -> dict[str, Tensor]:
    """Makes one batch, padded on the right."""
    columns = {
        key: [torch.tensor(row[key][:max_length], device=device) for row in rows] for key in ("input_ids", "labels")
    }
    return {
        "input_ids": pad_sequence(columns["input_ids"], True, 0),
        "labels": pad_sequence(columns["labels"], True, IGNORED),
        "attention_mask": pad_sequence([torch.ones_like(ids) for ids in columns["input_ids"]], True, 0),
    }


def _joined(parts: Sequence[Scores], place: Tensor) -> Scores:
    def together(pieces: Sequence[Tensor]) -> Tensor:
        return torch.cat([each.cpu() for each in pieces])[place]

    squares = [part.squares for part in parts if part.squares is not None]
    return Scores(
        together([part.losses for part in parts]),
        together([part.norms for part in parts]),
        together([part.lengths for part in parts]),
        {name: together([each[name] for each in squares]) for name in squares[0]} if squares else None,
    )
