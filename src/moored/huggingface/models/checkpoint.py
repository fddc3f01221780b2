"""A full checkpoint: its folder, its model with every weight that the files hold, and what is refused of it."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import snapshot_download
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from moored.errors import ModelError
from moored.huggingface.models.load_errors import load_errors
from moored.huggingface.models.quantized import quantization, require_readable_codes, unreadable_codes
from moored.huggingface.models.skeleton import configuration
from moored.huggingface.models.stored_files import named_files, refuse_gguf, weight_files
from moored.huggingface.models.weights import refuse_non_finite, refuse_wrapped

_NUMBER = re.compile(r"\.(\d+)(?=\.)")
"""The number of a layer, or of an expert in it."""


def checkpoint_folder(path: str) -> Path:
    """The folder of a checkpoint; that of a Hub id lies in the Hub cache.

    Raises:
        ModelError: no folder, and neither in the Hub cache nor, unless HF_HUB_OFFLINE=1 is set, on the Hub.
    """
    if os.path.isdir(path):
        return Path(path)
    with load_errors(path):
        return Path(snapshot_download(path, allow_patterns=["*.safetensors", "*.json"]))


def load_checkpoint(path: str, dtype: torch.dtype | Literal["auto"]) -> PreTrainedModel:
    """Loads a checkpoint whose every weight is there and finite.

    Raises:
        ModelError: a weight is missing, pickled, non-finite or of another shape than the configuration says, or a
            quantized one cannot be read here.
    """
    require_loadable_files(path)
    config = configuration(path)
    require_readable_codes(config, path)
    model, names = _load(path, dtype, is_quantized=quantization(config) is not None)
    if names["missing_keys"]:
        # They would be random numbers.
        raise lacking(path, names["missing_keys"])
    refuse_more_layers(model, names["unexpected_keys"], path)
    refuse_non_finite(model.named_parameters(), path)
    return model


def _load(path: str, dtype: torch.dtype | Literal["auto"], *, is_quantized: bool) -> tuple[PreTrainedModel, Any]:
    """Loads a model, and returns with it the names that its files lack and those that it does not know."""
    try:
        with load_errors(path):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                path, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True
            )
        return loaded
    except ImportError as error:
        raise unreadable_codes(error, path) from error
    except RuntimeError as error:
        if "mismatched" in str(error):
            raise misfitting(path) from error
        if is_quantized:
            raise unreadable_codes(error, path) from error
        raise


def require_loadable_files(path: str) -> None:
    """Raises ModelError where transformers would read other files than those that are checked, an adapter's even."""
    refuse_gguf(path)
    if os.path.isdir(path):
        weight_files(path)
        folder = Path(path)
    else:
        with load_errors(path):
            folder = Path(snapshot_download(path, allow_patterns="*.json"))
        named_files(folder)
    if (folder / "adapter_config.json").is_file():
        raise ModelError(f"{path} is an adapter (it holds adapter_config.json); give its base as the model.")


def refuse_more_layers(model: PreTrainedModel, unread: Iterable[str], path: str) -> None:
    """Raises ModelError where files hold more layers, or experts, than config.json says and transformers builds.

    Layers for multi-token prediction come after the others, too; those config.json names.
    """
    kinds = {_without_numbers(name) for name in model.state_dict()}
    ignored = [re.compile(pattern) for pattern in model._keys_to_ignore_on_load_unexpected or ()]
    known = {name for name in unread if any(pattern.search(name) for pattern in ignored)}
    empty = {name for name, module in model.named_modules() if isinstance(module, nn.ModuleList) and not len(module)}
    left = sorted(
        name
        for name in {*unread} - known
        if _without_numbers(name) in kinds or _NUMBER.split(name, maxsplit=1)[0] in empty
    )
    layers = {_NUMBER.findall(name)[0] for name in left}
    if len(layers) > (getattr(model.config.get_text_config(), "num_nextn_predict_layers", None) or 0):
        raise ModelError(
            f"{path} holds {left[0]}, which belongs to a layer that its config.json does not name; fetch config.json "
            "again."
        )


def _without_numbers(name: str) -> str:
    return _NUMBER.sub(".#", name)


def lacking(path: str, names: Iterable[str]) -> ModelError:
    """Makes one sentence of the weights that a checkpoint does not hold."""
    refuse_wrapped(checkpoint_folder(path))
    missing = sorted(names)
    return ModelError(f"{path} lacks {len(missing)} weights ({missing[0]}, say); fetch it again.")


def misfitting(path: str) -> ModelError:
    """Makes one sentence of weights that have other shapes than the configuration says."""
    return ModelError(f"The weights in {path} do not fit its config.json; fetch both again.")
