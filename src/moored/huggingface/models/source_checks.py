"""The checks of a source that come before long work; they do not read the checkpoint's weights."""

import re
from collections.abc import Iterable
from typing import Any

import torch

from moored.errors import ModelError
from moored.huggingface.models.adapter_config import load_adapter_config
from moored.huggingface.models.adapter_fit import lay_over, take_vocabulary
from moored.huggingface.models.checkpoint import require_loadable_files
from moored.huggingface.models.fold import require_foldable
from moored.huggingface.models.quantized import quantization, require_readable_codes
from moored.huggingface.models.skeleton import configuration, skeleton
from moored.huggingface.models.source import ModelSource
from moored.huggingface.models.weights import require_finite

_NO_NUMBERS = re.compile(r"\bmeta (tensor|device|kernel)|\bdevice meta\b|\bregister_meta\b", re.IGNORECASE)
"""How PyTorch says that it lacks the numbers of a skeleton."""


def require_fit(source: ModelSource) -> None:
    """Checks a checkpoint, and an adapter against it, before long work and without reading the checkpoint's weights.

    Raises:
        ModelError: a quantized checkpoint that cannot be read here, a broken adapter, one made for another base (names
            the shapes), or one that cannot be folded.
    """
    config = configuration(source.path)
    require_loadable_files(source.path)
    require_readable_codes(config, source.path)
    if source.adapter is None:
        return
    load_adapter_config(source.adapter)
    require_finite(source.adapter)
    try:
        with torch.device("meta"):
            over = lay_over(skeleton(source.path), source.adapter)
            if quantization(config) is None:
                require_foldable(over, source.adapter)
    except ModelError as error:
        # Some kinds compute with weights as soon as they are applied; they are checked once the weights are there.
        if not _NO_NUMBERS.search(str(error.__cause__)):
            raise


def require_tokens(source: ModelSource, ids: Iterable[int]) -> None:
    """Raises ModelError where a model, with the vocabulary that its adapter brings, lacks one of the tokens."""
    with torch.device("meta"):
        model = skeleton(source.path)
        if source.adapter is not None:
            take_vocabulary(model, source.adapter)
    refuse_beyond(model, ids, source.describe())


def refuse_beyond(model: Any, ids: Iterable[int], name: str) -> None:
    """Raises ModelError where one of the tokens has no row in a model's embedding."""
    size, last = model.get_input_embeddings().weight.shape[0], max(ids, default=0)
    if last >= size:
        raise ModelError(
            f"The tokenizer gives the token {last}, which lies beyond the {size} tokens of {name}; use the tokenizer "
            "that belongs to the model, or the model with its resized embeddings."
        )
