"""The model of a source in memory, with its adapter over the checkpoint or folded into it."""

import re
from typing import Any, Literal

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from moored.errors import ModelError
from moored.huggingface.models.adapter_config import load_adapter_config
from moored.huggingface.models.adapter_fit import lay_over
from moored.huggingface.models.checkpoint import load_checkpoint
from moored.huggingface.models.device import bf16_is_native
from moored.huggingface.models.fold import fold
from moored.huggingface.models.quantized import holds_codes, quantization
from moored.huggingface.models.skeleton import configuration
from moored.huggingface.models.source import ModelSource
from moored.huggingface.models.weights import require_finite


def load_model(
    source: ModelSource,
    *,
    dtype: torch.dtype | Literal["auto"] = torch.float32,
    trainable: bool = False,
    merge: bool = False,
) -> PreTrainedModel | PeftModel:
    """The model of a source, in eval mode unless it is to be trained.

    Args:
        source: the checkpoint and, laid over it, the adapter.
        dtype: precision of the weights in memory; `auto` is the checkpoint's own, but fp32 for bf16 where
            `bf16_is_native` says that this processor would have to emulate it.
        trainable: whether the adapter's factors (or, without adapter, all parameters) require gradients.
        merge: fold the adapter into the weights in memory and return a plain model. Over quantized weights, which
            folding would round once more, the adapter stays beside them.

    Raises:
        ModelError: pickled, non-finite or (to be trained) quantized weights, an adapter made for another base (names
            the shapes), or one that folding would change.
    """
    if source.adapter is not None:
        load_adapter_config(source.adapter)
        require_finite(source.adapter)
    model = load_checkpoint(source.path, dtype)
    is_quantized = holds_codes(model)
    if not is_quantized:
        model = _in_precision(model, dtype, was_quantized=quantization(configuration(source.path)) is not None)
    elif trainable and (merge or source.adapter is None):
        raise ModelError(
            f"{source.describe()} is quantized, so its weights have no gradient; use an adapter over it, or a "
            "checkpoint in bf16."
        )
    if source.adapter is not None:
        model = lay_over(model, source.adapter, trainable=trainable and not merge)
        if merge and not is_quantized:
            model = fold(model, source.adapter, trainable=trainable)
    if source.adapter is None or (merge and not is_quantized):
        model.requires_grad_(trainable)
    return model.train(trainable)


def _in_precision(model: Any, dtype: torch.dtype | Literal["auto"], *, was_quantized: bool) -> PreTrainedModel:
    """Puts a model in a precision where loading has not: weights that were quantized come out in bf16.

    Buffers, and the parameters that transformers keeps in fp32, stay as loading has left them.
    """
    if dtype == "auto":
        return model.float() if model.dtype == torch.bfloat16 and not bf16_is_native() else model
    if was_quantized:
        kept = [part.replace("*", ".*") for part in model._get_dtype_plan(dtype)]
        for name, parameter in model.named_parameters():
            if not any(re.search(pattern, name) for pattern in kept):
                parameter.data = parameter.data.to(dtype)
    return model
