"""What a checkpoint's configuration alone says: its model without numbers, and the names and limits of that."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from moored.huggingface.models.load_errors import load_errors
from moored.huggingface.models.names import plain_name
from moored.huggingface.models.source import ModelSource


def configuration(path: str) -> Any:
    """The configuration of a checkpoint."""
    # Entries of a wrong type end in errors of any kind.
    with load_errors(path, AttributeError, TypeError, KeyError):
        return AutoConfig.from_pretrained(path, trust_remote_code=False)


def context_length(source: ModelSource) -> int | None:
    """The positions that a checkpoint was made for, or None where its configuration does not say."""
    return getattr(configuration(source.path).get_text_config(), "max_position_embeddings", None)


def skeleton(path: str) -> PreTrainedModel:
    """The model of a checkpoint without its numbers."""
    config = configuration(path)
    with torch.device("meta"), load_errors(path):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def transposed_weights(path: str) -> set[str]:
    """The names of the weights that a checkpoint's layers keep as `in × out`, as GPT-2's do."""
    modules = skeleton(path).named_modules()
    return {f"{plain_name(name)}.weight" for name, module in modules if isinstance(module, Conv1D)}


def tied_weights(path: str) -> dict[str, str]:
    """The names of the weights that are others' in a checkpoint's model, as a tied head is, with the names of those."""
    ties = skeleton(path).all_tied_weights_keys
    return {plain_name(name): plain_name(other) for name, other in ties.items()}
