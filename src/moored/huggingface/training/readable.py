"""Whether a model suits safeguards that read its output head or its rows' labels, found out before the run."""

import torch
from torch import nn

from moored.huggingface.gradients.causal_model import known_head, require_causal, split
from moored.huggingface.safeguards.start_logits import at_rest


def require_readable(model: nn.Module, *, head: bool) -> None:
    """Tries a model on the first tokens of its vocabulary.

    Args:
        model: the model, maybe with a PEFT adapter.
        head: whether its output head is read, too; a selection at random looks at labels alone.

    Raises:
        ModelError: the model is not causal, or makes its logits in a way that is not known here.
    """
    few = torch.arange(8, device=next(model.parameters()).device)[None]
    with at_rest(model):
        require_causal(model, few)
        if head:
            known_head(split(model), few, packed=False, after_forward=lambda: None)
