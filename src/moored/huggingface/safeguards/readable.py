"""Whether a trainer suits safeguards that read the output head or the rows' labels, found out before the run."""

from typing import Any

import torch
from torch import nn

from moored.errors import InputError
from moored.huggingface.gradients.causal_model import known_head, require_causal, split
from moored.huggingface.safeguards.start_logits import at_rest


def require_readable(model: nn.Module, *, head: bool) -> None:
    """Tries a model on the first tokens of its vocabulary.

    Args:
        model: the model, maybe with a PEFT adapter.
        head: whether its output head is read, too; a selection at random looks at labels alone.

    Raises:
        ModelError: the model is not causal, is sharded, or makes its logits in a way that is not known here.
    """
    parts = split(model) if head else None
    few = torch.arange(8, device=next(model.parameters()).device)[None]
    with at_rest(model):
        require_causal(model, few)
        if parts is not None:
            known_head(parts, few, packed=False, after_forward=lambda: None)


def require_labelled_rows(trainer: Any, name: str) -> None:
    """Raises InputError for a trainer that collates no tensors and makes its tokens later, as GRPO and RLOO do."""
    if getattr(trainer.data_collator, "__name__", None) == "identity":
        raise InputError(
            f"{name} reads the tokens and labels of the batches, and {type(trainer).__name__} generates its own; take "
            f"{name} out, or use another trainer."
        )


def cuts_documents(arguments: Any) -> str | None:
    """The strategy of packing that lets documents go on in another row, if the run has such a one."""
    strategy = getattr(arguments, "packing_strategy", None) if getattr(arguments, "packing", False) else None
    return strategy if strategy in ("wrapped", "bfd_split") else None
