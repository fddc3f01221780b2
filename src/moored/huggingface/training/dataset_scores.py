"""Scoring rows of tokens at a model that stays as it is: what they are selected by outside of a training run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from jaxtyping import Bool, Float, Int
from peft import get_peft_model
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from moored.errors import InputError
from moored.huggingface.data import IGNORED
from moored.huggingface.models import ModelSource, best_device, load_model
from moored.huggingface.training.arguments import lora_config
from moored.huggingface.training.scoring import score

_LORA_SEED = 0


@dataclass(frozen=True)
class RowScores:
    """What was measured of each row, on the CPU."""

    losses: Float[Tensor, " row"]
    """Mean loss over its supervised tokens, in nats; NaN without one."""
    norms: Float[Tensor, " row"]
    """L2 norm of that loss's gradient; NaN without a supervised token."""
    lengths: Int[Tensor, " row"]
    """Its supervised tokens, within the maximum length."""
    cut: Bool[Tensor, " row"]
    """Whether it is longer than the maximum length."""


def load_scored_model(source: ModelSource, parameters: str) -> nn.Module:
    """The model whose gradients are taken, in fp32 on the best device, an adapter folded into its weights.

    Args:
        source: the model.
        parameters: `all`, or `lora` for a new LoRA of rank 16 and alpha 32 on all linear layers. It is always drawn
            alike, and as its factors B are zero, so are the gradients of its factors A: the norm is that of B alone.

    Raises:
        ModelError: the model cannot be loaded.
        InputError: PEFT finds no linear layer.
    """
    all_of_it = parameters == "all"
    model: Any = load_model(source, trainable=all_of_it, merge=source.adapter is not None)
    if not all_of_it:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_LORA_SEED)
            model = get_peft_model(model, lora_config({}, "--parameters lora"))
    return model.to(best_device())


def score_rows(
    model: nn.Module,
    rows: Dataset,
    *,
    max_length: int,
    batch_size: int,
    where: str,
    first: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> RowScores:
    """Scores rows, those of like length together, so that little is padded.

    Args:
        model: as `score` takes it, on its device.
        rows: with `input_ids` and `labels`.
        max_length: tokens that a row is cut to, from the right.
        batch_size: rows a batch.
        where: the name of the data in errors.
        first: the number of the first row in errors.
        progress: called with the number of rows that are done.

    Raises:
        InputError: what cannot be scored exactly, or a loss or norm that is not finite (names the row).
    """
    cut = torch.tensor([len(row) > max_length for row in rows["input_ids"]])
    ids, labels = ([row[:max_length] for row in rows[column]] for column in ("input_ids", "labels"))
    lengths = torch.tensor([sum(label != IGNORED for label in row[1:]) for row in labels])
    losses, norms = torch.full((2, len(ids)), float("nan")).unbind()
    device = next(model.parameters()).device
    # The longest first, so that a batch too large for the memory is found out at once.
    order = sorted((n for n in range(len(ids)) if lengths[n]), key=lambda n: -len(ids[n]))
    progress(len(ids) - len(order))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        found = score(
            model, {"input_ids": _padded(ids, batch, 0, device), "labels": _padded(labels, batch, IGNORED, device)}
        )
        losses[batch], norms[batch] = found.losses.cpu().float(), found.norms.cpu().float()
        _require_finite(losses, norms, batch, where, first)
        progress(len(batch))
    return RowScores(losses, norms, lengths, cut)


def _padded(rows: Sequence[list[int]], batch: list[int], value: int, device: torch.device) -> Int[Tensor, "row column"]:
    """Filled up on the right, which a causal model's earlier tokens never see."""
    return pad_sequence([torch.tensor(rows[n]) for n in batch], True, value).to(device)


def _require_finite(losses: Tensor, norms: Tensor, batch: list[int], where: str, first: int) -> None:
    for n in batch:
        if not (losses[n].isfinite() and norms[n].isfinite()):
            raise InputError(
                f"Row {n + first} of {where} has a loss of {losses[n]:.4g} and a gradient norm of {norms[n]:.4g}, by "
                "which nothing can be selected; check that row and the model."
            )
