"""Whether a model passes over the padding before a prompt: some recurrent ones read it as if it were text."""

from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from moored.huggingface.inference.batches import Ids
from moored.huggingface.inference.shared_start import knows_positions

_FEW, _GAP = 6, 3
"""The number of tokens, and of paddings before them, on which a model is tried."""
_checked: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@torch.no_grad()
def passes_over_padding(model: nn.Module, prompt: Ids) -> bool:
    """Tries, once per model, whether the beginning of a prompt gets the same logits alone and after padding.

    Two kinds of padding are compared too, since what they do to the logits may be less than rounding.
    """
    if model not in _checked:
        few = prompt[:_FEW]
        alone = _logits(model, few, None)
        # Any two tokens will do that are not the same.
        one, other = (_logits(model, few, filler) for filler in (few[0], few[-1] if few[-1] != few[0] else 0))
        scale = float(alone.abs().max())
        coarse = torch.finfo(next(model.parameters()).dtype).eps > 1e-4
        is_same = float((one - other).abs().max()) <= 1e-6 * scale
        _checked[model] = is_same and float((one - alone).abs().max()) <= (0.05 if coarse else 1e-4) * scale
    return _checked[model]


def _logits(model: Any, tokens: Ids, filler: int | None) -> Float[Tensor, "token vocab"]:
    gap = 0 if filler is None else _GAP
    device = next(model.parameters()).device
    ids = torch.tensor([[filler or 0] * gap + tokens], device=device)
    mask = torch.tensor([[0] * gap + [1] * len(tokens)], device=device)
    positions = {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)} if knows_positions(model) else {}
    return model(input_ids=ids, attention_mask=mask, **positions, use_cache=False).logits[0, gap:].float()
