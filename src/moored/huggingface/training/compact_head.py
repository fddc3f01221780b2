"""A shortcut for TRL's fused output head on a CPU: it projects only the positions that have a label.

Without Triton, so on a CPU, TRL projects every position onto the vocabulary in fp32, labelled or not; with short
answers after long prompts that is most of a training step. The sums that TRL takes stay the same.
"""

import functools
from typing import Any

from torch import Tensor, nn

from moored.huggingface.models import without_adapter


def compact_head(model: nn.Module) -> None:
    """Gives the fused head of a model in a TRL trainer only the labelled positions; on a GPU TRL does so by itself.

    Its per-token outputs then have the shape (1, labelled positions); TRL sums them.

    Args:
        model: the trainer's model with TRL's fused head, possibly with an adapter.
    """
    causal = without_adapter(model)
    if next(causal.parameters()).device.type != "cpu":
        return
    original = causal.forward

    @functools.wraps(original)
    def forward(*args: Any, labels: Tensor | None = None, **kwargs: Any) -> Any:
        targets = None if labels is None else labels[:, 1:]
        if not kwargs.get("fused_lm_head") or targets is None or not (targets != -100).any():
            return original(*args, **kwargs) if labels is None else original(*args, labels=labels, **kwargs)
        places = targets != -100
        hook = causal.base_model.register_forward_hook(lambda *call: _only(call[-1], places))
        try:
            return original(*args, shift_labels=targets[places][None], **kwargs)
        finally:
            hook.remove()

    causal.forward = forward


def _only(output: Any, places: Tensor) -> Any:
    hidden = output.last_hidden_state
    output.last_hidden_state = hidden[:, : places.shape[1]][places][None]
    return output
