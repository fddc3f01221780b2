"""Folding an adapter into the weights under it, and the check that the model is the same afterwards.

Embedding and head of many models are one weight. An adapter on one of the two would move both, so the one that it
moves gets a copy first. Whatever else folding can get wrong shows in the logits of a few tokens, which are compared.
"""

import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from moored.errors import ModelError, first_line

_TOKENS = 8
_TOLERANCE = {4: 0.01, 2: 0.3}
"""By bytes of a weight: how far logits may move, against their spread. Rounding to bf16 moves them by a few percent."""
_QUANTIZED = 0.5
"""Weights that are dequantized, moved and quantized again move more."""


def fold(model: PeftModel, adapter: Path, *, trainable: bool = False) -> PreTrainedModel:
    """The model with its adapter folded into the weights; weights that the adapter takes apart are no longer tied.

    Raises:
        ModelError: the folded model's logits are not those of the model under the adapter, or it is to be trained and
            has biases that a checkpoint of its kind does not hold.
    """
    if trainable and any(_new_biases(model)):
        raise ModelError(
            f"The adapter {adapter} has biases (lora_bias) where the weights under it have none, so the model could "
            "not be saved with them after training; train on its base, or on another adapter."
        )
    before = _logits(model)
    folded: Any = require_foldable(model, adapter)
    _forget_ties(folded)
    _require_same(before, _logits(folded), folded, adapter)
    return folded


def require_foldable(model: PeftModel, adapter: Path) -> PreTrainedModel:
    """Folds a model, a skeleton without numbers even, by PEFT alone; raises ModelError where PEFT cannot."""
    _untie(model)
    _make_room_for_biases(model)
    try:
        return _merged(model)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"PEFT cannot fold the adapter {adapter} into the weights under it ({first_line(error)}); merge it by the "
            "tool that made it, and name the checkpoint that results."
        ) from error


@torch.no_grad()
def _logits(model: Any) -> Float[Tensor, "1 tokens vocabulary"]:
    # From the middle of the vocabulary, since special tokens stand at its ends.
    size = model.get_input_embeddings().weight.shape[0]
    tokens = torch.linspace(size // 4, 3 * size // 4, _TOKENS, device=model.device).long()
    return model(tokens.unsqueeze(0)).logits.double()


def _untie(model: PeftModel) -> None:
    """Gives the layers under an adapter weights of their own where other layers share them."""
    owners = Counter(id(weight) for module in model.modules() for weight in module._parameters.values())
    moved = [layer.get_base_layer() for layer in model.modules() if isinstance(layer, BaseTunerLayer)]
    shared = [
        (layer, name, weight)
        for layer in moved
        for name, weight in layer.named_parameters(recurse=False)
        if owners[id(weight)] > 1
    ]
    for layer, name, weight in shared:
        setattr(layer, name, nn.Parameter(weight.detach().clone(), requires_grad=weight.requires_grad))


def _make_room_for_biases(model: PeftModel) -> None:
    """Gives a layer a bias of zero where its adapter has one (`lora_bias`): PEFT folds it into one that is there."""
    for layer in _new_biases(model):
        layer.bias = nn.Parameter(layer.weight.new_zeros(layer.out_features))


def _new_biases(model: PeftModel) -> Iterator[nn.Linear]:
    for layer in model.modules():
        if isinstance(layer, LoraLayer) and any(layer.lora_bias.values()):
            base = layer.get_base_layer()
            if isinstance(base, nn.Linear) and base.bias is None:
                yield base


def _merged(model: Any) -> PreTrainedModel:
    with warnings.catch_warnings():
        # Of ends that are tied, or were: they are seen to here.
        warnings.filterwarnings("ignore", "Model with `tie_word_embeddings=True`", UserWarning)
        warnings.filterwarnings("ignore", "Input and output embeddings are no longer tied", UserWarning)
        return model.merge_and_unload()


def _forget_ties(model: Any) -> None:
    """Keeps transformers from tying again what has come apart, in memory or in a checkpoint that is written of it."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            ties, weights = module.all_tied_weights_keys, dict(module.named_parameters(remove_duplicate=False))
            kept = {one: other for one, other in ties.items() if weights.get(one) is weights.get(other)}
            module.all_tied_weights_keys = kept
            if kept != ties:
                module.config.tie_word_embeddings = module.config.get_text_config().tie_word_embeddings = False


def _require_same(before: Tensor, after: Tensor, model: Any, adapter: Path) -> None:
    # Equal infinities, such as those of masked words, are no change.
    change = float(torch.where(after == before, 0.0, after - before).square().mean().sqrt())
    spread = float(before[before.isfinite()].std())
    width = min(weight.dtype.itemsize for weight in model.parameters() if weight.is_floating_point())
    tolerance = _QUANTIZED if getattr(model, "is_quantized", False) else _TOLERANCE.get(width, _TOLERANCE[4])
    if not change <= tolerance * spread:
        raise ModelError(
            f"The adapter {adapter} cannot be folded into the weights under it: the logits move by {change:.2g}, where "
            f"rounding explains {tolerance * spread:.2g} at most; merge it by the tool that made it, and name the "
            "checkpoint that results."
        )
