"""Scores of a chunk of a data set, which may contain rows with nothing to learn."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from datasets import Dataset
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from moored.errors import InputError
from moored.huggingface.data import IGNORED
from moored.huggingface.gradients import score_rows


@dataclass(frozen=True)
class RowScores:
    """The scores of each row, on the CPU."""

    losses: Float[Tensor, " row"]
    """Mean loss over its supervised tokens, in nats; NaN without one."""
    norms: Float[Tensor, " row"]
    """L2 norm of that loss's gradient; NaN without a supervised token."""
    lengths: Int[Tensor, " row"]
    """The number of its supervised tokens within the maximum length."""
    cut: Bool[Tensor, " row"]
    """Whether it is longer than the maximum length."""


def score_chunk(
    model: nn.Module,
    rows: Dataset,
    *,
    max_length: int,
    batch_size: int,
    where: str,
    first: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> RowScores:
    """Scores rows; one without a supervised token has no score.

    Args:
        model: as `score` takes it, on its device.
        rows: with `input_ids` and `labels`.
        max_length: the number of tokens to which a row is cut.
        batch_size: the number of rows per batch.
        where: the name of the data in errors.
        first: the number of the first row in errors.
        progress: called with the number of rows done since the last call.

    Raises:
        InputError: the model cannot be scored exactly, or a row's loss or norm is not finite.
    """
    cut = torch.tensor([len(row) > max_length for row in rows["input_ids"]])
    lengths = torch.tensor([sum(label != IGNORED for label in row[1:max_length]) for row in rows["labels"]])
    losses, norms = torch.full((2, len(rows)), float("nan")).unbind()
    learnable = lengths.nonzero().flatten()
    progress(len(rows) - len(learnable))
    if len(learnable):
        scores = score_rows(
            model, rows.select(learnable).to_list(), batch_size=batch_size, max_length=max_length, advance=progress
        )
        losses[learnable], norms[learnable] = scores.losses.float(), scores.norms.float()
        _require_finite(losses, norms, learnable.tolist(), where, first)
    return RowScores(losses, norms, lengths, cut)


def _require_finite(losses: Tensor, norms: Tensor, learnable: list[int], where: str, first: int) -> None:
    for n in learnable:
        if not (losses[n].isfinite() and norms[n].isfinite()):
            raise InputError(
                f"Row {n + first} of {where} has a loss of {losses[n]:.4g} and a gradient norm of {norms[n]:.4g}; both "
                "must be finite to rank rows, so check that row and the model."
            )
