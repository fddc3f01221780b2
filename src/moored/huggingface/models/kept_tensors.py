"""What a checkpoint keeps when it is loaded and written again: transformers leaves out what its class does not know.

A vision tower, layers for multi-token prediction, a value head: transformers mentions some of them when it loads a
checkpoint and others not at all, so the names in the files themselves are compared.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    rename_source_key,
    revert_weight_conversion,
)

from moored.errors import ModelError
from moored.huggingface.models.load import skeleton
from moored.huggingface.models.weights import stored_dtypes, stored_tensors

_COMPUTED = re.compile(r"(?:rotary_emb\.inv_freq|attn\.masked_bias|(?:^|\.)position_ids)$")
"""What files of older versions hold and models compute."""


def require_kept(path: str) -> None:
    """Finds out from the headers alone whether a checkpoint comes out whole when it is loaded and written again.

    Raises:
        ModelError: a tensor would be left out or renamed, or the checkpoint is quantized.
    """
    model: Any = skeleton(path)
    if getattr(model.config, "quantization_config", None) is not None:
        raise ModelError(
            f"{path} is quantized, so its weights cannot be moved; repair an adapter over it, or a checkpoint in bf16."
        )
    stored = [name for name in stored_tensors(path) if not _COMPUTED.search(name)]
    conversions, known = get_model_conversion_mapping(model), _known(model)
    lost = [name for name in stored if _in_memory(name, model, conversions, known) not in known]
    # As from_pretrained does: only conversions that renamed something are undone when the model is written.
    model._weight_conversions = [each for each in conversions if each.was_used()]
    written = {*revert_weight_conversion(model, model.state_dict()), *dict(model.named_buffers())}
    _require_none(lost, path, f"left out by transformers' {type(model).__name__}")
    _require_none(
        [name for name in stored if not _names_of(name, model) & written],
        path,
        f"written under other names by transformers' {type(model).__name__}",
    )


def require_same_tensors(start: Path, folder: Path, model: PreTrainedModel) -> None:
    """Raises ModelError where a written checkpoint lacks a tensor of its start or has it in another shape or type."""
    before, after = stored_tensors(start), stored_tensors(folder)
    state, in_memory = model.state_dict(), names_in_memory(model, [*before, *after])
    # Of weights that share their memory, such as a head that is the embedding, one is written.
    written = {state[in_memory[name]].data_ptr() for name in after if name in in_memory}
    for name, what in before.items():
        same = next((each for each in _names_of(name, model) if each in after), None)
        is_tied = name in in_memory and state[in_memory[name]].data_ptr() in written
        if same is None and not is_tied and not _is_computed(name, model):
            raise ModelError(f"{name} of {start} would be missing from the repaired checkpoint; repair an adapter.")
        if same is not None and after[same] != what:
            kinds = " and ".join(f"{tuple(shape)} {kind}" for shape, kind in (what, after[same]))
            raise ModelError(f"{name} of {start} would not be written as it was ({kinds}); repair an adapter over it.")


def dtypes_as_stored(start: Path, model: nn.Module, names: Iterable[str]) -> dict[str, torch.dtype]:
    """The precision that each of a model's tensors has in the files (of an adapter or a checkpoint) of its start."""
    in_memory = names_in_memory(model, stored_tensors(start)) if isinstance(model, PreTrainedModel) else None
    return stored_dtypes(start, names, in_memory)


def names_in_memory(model: PreTrainedModel, stored: Iterable[str]) -> dict[str, str]:
    """The names that a model has for the tensors of its files, by their names there; those it does not read are absent.

    Where several tensors are fused in memory, all get the name of the whole.
    """
    conversions, known = get_model_conversion_mapping(model), model.state_dict()
    pairs = ((name, _in_memory(name, model, conversions, known)) for name in stored)
    return {name: found for name, found in pairs if found in known}


def _in_memory(name: str, model: Any, conversions: list[Any], known: dict[str, Tensor]) -> str:
    """As transformers finds the place of a stored tensor."""
    renamings = [each for each in conversions if isinstance(each, WeightRenaming)]
    converters = [each for each in conversions if isinstance(each, WeightConverter)]
    renamed = rename_source_key(name, renamings, converters, model.base_model_prefix, known)[0]
    if renamed not in known and name in known:
        return name
    return renamed


def _known(model: PreTrainedModel) -> dict[str, Tensor]:
    """All that a model has a place for, and what it computes under a name of its own."""
    return {**model.state_dict(), **dict(model.named_buffers())}


def _is_computed(name: str, model: PreTrainedModel) -> bool:
    own = {each for each, _ in model.named_buffers()} - model.state_dict().keys()
    return bool(_COMPUTED.search(name) or _names_of(name, model) & own)


def _names_of(name: str, model: PreTrainedModel) -> set[str]:
    """Under which names transformers takes a tensor for the same: the prefix of the headless model may be left out."""
    prefix = f"{model.base_model_prefix}."
    return {name, name.removeprefix(prefix), prefix + name}


def _require_none(names: list[str], path: str, why: str) -> None:
    if names:
        some = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        raise ModelError(
            f"{len(names)} tensors of {path} ({some}) would be {why}; repair an adapter over it, or use "
            "--method linear_pull, which keeps every tensor."
        )
