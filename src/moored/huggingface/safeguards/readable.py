"""Checks, before the run, that a trainer suits safeguards that read the output head or the labels of rows."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from moored.errors import InputError
from moored.huggingface.gradients.causal_model import known_head, require_causal, split
from moored.huggingface.safeguards.start_logits import at_rest
from moored.huggingface.safeguards.trainer_access import first_batch


def require_readable(model: nn.Module, *, head: bool) -> None:
    """Tries a model on the first tokens of its vocabulary.

    Args:
        model: the model, possibly with a PEFT adapter.
        head: whether its output head is read too; a random selection looks only at labels.

    Raises:
        ModelError: the model is not causal, is sharded, or computes its logits in an unknown way.
    """
    parts = split(model) if head else None
    few = torch.arange(8, device=next(model.parameters()).device)[None]
    with at_rest(model):
        require_causal(model, few)
        if parts is not None:
            known_head(parts, few, packed=False, after_forward=lambda: None)


def require_labelled_rows(trainer: Any, name: str) -> None:
    """Raises InputError, before the run, for a trainer whose batches are no rows of tokens with labels."""
    batch = first_batch(trainer)
    if batch is not None:
        require_labels(batch, trainer, name)


def require_labels(batch: Any, trainer: Any, name: str) -> None:
    """Raises InputError for a batch without tokens and their labels, as GRPO (prompts) and DPO (pairs) have them."""
    problem = _lacking(batch)
    if problem is not None:
        raise InputError(
            f"{name} reads the tokens and the labels of each row, and the batches of {type(trainer).__name__} "
            f"{problem}; remove {name}, or use a trainer that learns labelled text, such as SFTTrainer."
        )


def _lacking(batch: Any) -> str | None:
    if not isinstance(batch, Mapping):
        return "hold no tensors"
    missing = next((key for key in ("input_ids", "labels") if not isinstance(batch.get(key), Tensor)), None)
    if missing is not None:
        return f"hold no {missing}"
    return None if batch["labels"].shape == batch["input_ids"].shape else "hold labels that are not one for each token"


def cuts_documents(arguments: Any) -> str | None:
    """Returns the packing strategy if it may split documents over several rows, as all but `bfd` do, else None."""
    strategy = getattr(arguments, "packing_strategy", None) if getattr(arguments, "packing", False) else None
    return None if strategy == "bfd" else strategy


def cuts_beginnings(arguments: Any) -> str | None:
    """Returns the setting, if there is one, by which rows may begin in the middle of an answer."""
    strategy = cuts_documents(arguments)
    if strategy is not None:
        return f"packing_strategy: {strategy}"
    from_the_left = getattr(arguments, "truncation_mode", None) == "keep_end" and arguments.max_length is not None
    return "truncation_mode: keep_end" if from_the_left else None
