"""The configuration of an adapter, and what is refused by it alone: whatever PEFT or a fold would get wrong.

moored reads the adapters that are a change of weights, since that is what it measures, repairs and trains on.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import peft
from peft import PEFT_TYPE_TO_CONFIG_MAPPING, LoraConfig, PeftConfig, PeftType

from moored.errors import ModelError, first_line
from moored.files import read_text

CONFIG = "adapter_config.json"

_OTHER_TOOLS = {
    "lora_parameters": ("mlx-lm", "fuse it into its model with mlx_lm.fuse, dequantized"),
    "fine_tune_type": ("mlx-lm", "fuse it into its model with mlx_lm.fuse, dequantized"),
    "model_class": ("AdapterHub", "merge it into its model with merge_adapter"),
}
"""Entries that other tools' files of the same name have: the tool, and how its adapter becomes a checkpoint."""

_NOT_WEIGHTS = {
    "ADAPTION_PROMPT": "adds trained prompts to the attention",
    "XLORA": "chooses a new mix of adapters for each token",
    "POLY": "mixes several adapters by task",
    "SHADOW": "runs a second model beside its base",
}
"""Kinds of adapters that are no change of weights, though PEFT does not count them as prompts."""

_REPEATABLE = {"gaussian", "eva", "orthogonal", "mica", "pissa", "olora"}
"""Initializations that leave the base's weights alone, or change them in a way that PEFT computes again when it loads.

The others take something off the weights by chance (pissa_niter) or by data (lora_ga, corda, loftq), or are not known.
"""


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """The `adapter_config.json` of a PEFT folder.

    Raises:
        ModelError: the folder holds none, it is another tool's, or it is no JSON object.
    """
    folder = Path(folder)
    file = folder / CONFIG
    if not file.is_file():
        raise ModelError(_no_config(folder))
    try:
        values = json.loads(read_text(file))
    except ValueError:
        raise ModelError(f"{file} is not valid JSON; fetch the adapter again.") from None
    if not isinstance(values, dict):
        raise ModelError(f"{file} is not a JSON object, as PEFT writes it; fetch the adapter again.")
    for key, (tool, remedy) in _OTHER_TOOLS.items():
        if key in values and "peft_type" not in values:
            raise ModelError(
                f"{folder} is an adapter of {tool}, not of PEFT; {remedy}, and name the checkpoint that results."
            )
    return values


def adapter_base(adapter: Path | str) -> str:
    """The checkpoint that an adapter folder names as its base.

    Raises:
        ModelError: it names none.
    """
    base = read_adapter_config(Path(adapter)).get("base_model_name_or_path")
    if not base:
        raise ModelError(f"The adapter {adapter} names no base model; give the base as the model and it as --adapter.")
    return str(base)


def load_adapter_config(folder: Path) -> PeftConfig:
    """The configuration as PEFT reads it.

    Raises:
        ModelError: it is broken, unknown to PEFT, or of an adapter that moored cannot read.
    """
    values = read_adapter_config(folder)
    file, kind = Path(folder) / CONFIG, values.get("peft_type")
    if not kind:
        raise ModelError(f"{file} names no peft_type, so it is not PEFT's; name the folder that PEFT wrote.")
    if not isinstance(kind, str) or kind not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise ModelError(
            f"{file} names the peft_type {kind}, which PEFT {peft.__version__} does not know; update PEFT, or merge "
            "the adapter with the tool that made it, and name the checkpoint that results."
        )
    _require_types(values, PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)], file)
    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (AttributeError, ImportError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"PEFT cannot read {file}: {first_line(error)}.") from error
    _require_change_of_weights(config, folder)
    _require_repeatable(config, folder)
    return config


def _no_config(folder: Path) -> str:
    if folder.suffix == ".gguf" or any(folder.glob("*.gguf")):
        return f"{folder} is a LoRA of llama.cpp, not of PEFT; name the PEFT folder that it was converted from."
    if (folder / "adapters.safetensors").is_file():
        return f"{folder} is an adapter of mlx-lm without its {CONFIG}; fuse it into its model with mlx_lm.fuse."
    if folder.is_file():
        return f"{folder} is a file; name the folder that PEFT wrote."
    inside = sorted(file.parent.name for file in folder.glob(f"*/{CONFIG}"))
    remedy = f"name one of its folders ({', '.join(inside[:3])})" if inside else "name the folder that PEFT wrote"
    return f"{folder} holds no {CONFIG}; {remedy}."


def _require_types(values: Mapping[str, Any], kind: type, file: Path) -> None:
    """Raises ModelError for a value of another type than PEFT states, which it would meet somewhere inside."""
    hints, defaults = get_type_hints(kind), {field.name: field.default for field in fields(kind)}
    for name in values.keys() & hints.keys():
        value, hint = values[name], hints[name]
        options = set(get_args(hint)) if get_origin(hint) in (Union, UnionType) else {hint}
        what = _misfit(value, options)
        # Some state a type that their own default is not of.
        may_be_null = type(None) in options or defaults[name] is None
        if what is not None and not (value is None and may_be_null):
            raise ModelError(f"{name} in {file} is {json.dumps(value)}, but must be {what}; fetch the adapter again.")


def _misfit(value: Any, options: set[Any]) -> str | None:
    """What a value should be, where that is plain and it is not; other types are PEFT's to check."""
    some = options - {type(None)}
    if some and some <= {int, float, bool}:
        fits = isinstance(value, int | float) and math.isfinite(value)
        return None if fits else "true or false" if bool in some else "a number"
    if some == {str}:
        return None if isinstance(value, str) else "a text"
    if some == {str, list[str]}:
        fits = isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value))
        return None if fits else "a list of names"
    if some == {dict}:
        return None if isinstance(value, dict) else "a mapping"
    return None


def _require_change_of_weights(config: PeftConfig, folder: Path) -> None:
    what = _NOT_WEIGHTS.get(PeftType(config.peft_type).value)
    if config.is_prompt_learning:
        what = "puts trained tokens before the prompt"
    elif getattr(config, "alora_invocation_tokens", None):
        what = "acts only after its invocation tokens (aLoRA)"
    elif getattr(config, "layer_replication", None):
        what = "repeats layers of its base (layer_replication)"
    if what is not None:
        raise ModelError(
            f"The adapter {folder} {what}, which is no change of its base's weights; moored reads only adapters that "
            "can be folded into the weights."
        )


def _require_repeatable(config: PeftConfig, folder: Path) -> None:
    name = getattr(config, "init_lora_weights", None)
    if isinstance(config, LoraConfig) and isinstance(name, str) and name.lower() not in _REPEATABLE:
        raise ModelError(
            f"The adapter {folder} was initialized by {name}, which PEFT cannot repeat on the base's weights; where it "
            "was trained, save it with path_initial_model_for_weight_conversion."
        )
