"""Settings as users write them in YAML, checked and turned into TRL's and PEFT's configuration."""

import difflib
import importlib.util
import logging
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from huggingface_hub import is_offline_mode
from peft import LoraConfig
from transformers import BitsAndBytesConfig
from trl.trainer.sft_config import SFTConfig

from moored.errors import InputError, UserError
from moored.huggingface.models import refuse_lm_head

_logger = logging.getLogger(__name__)

_LORA_DEFAULTS = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}


def sft_fields() -> set[str]:
    """The names of all settings that TRL's SFTConfig takes."""
    return {field.name for field in fields(SFTConfig) if field.init}


def require_known(keys: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raises InputError for the first key that is not known, naming the nearest that is."""
    known = sorted(known)
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"it may be one of {', '.join(known[:8])}, …"
            raise InputError(f"{where} has the unknown key {key}; {hint}")


def typed(values: Mapping[str, Any], cls: type, where: str) -> dict[str, Any]:
    """Values converted to the types that a dataclass states for them.

    YAML reads 1e-4 as a string, and a command line knows nothing else; `null` stands for None.

    Raises:
        InputError: an unknown key (names the nearest known one) or a value of another type.
    """
    known = {field.name for field in fields(cls) if field.init}
    require_known(values, known, where)
    hints: dict[str, Any] = get_type_hints(cls)
    return {name: _converted(value, hints[name], f"{where}: {name}") for name, value in values.items()}


def _converted(value: Any, hint: Any, what: str) -> Any:
    """`value` as the first of the hint's types that takes it."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    found = _fitting(value, options)
    if found is not _MISFIT:
        return found
    names = " or ".join(_name(option) for option in options)
    raise InputError(f"{what} is {value!r}, but it must be {names}.")


_MISFIT = object()


def _fitting(value: Any, options: Sequence[Any]) -> Any:
    """As it is where one of the types fits already, so that "1" stays text where text is allowed."""
    tried = (convert(value, option) for convert in (_as_it_is, _parsed) for option in options)
    return next((found for found in tried if found is not _MISFIT), _MISFIT)


def _as_it_is(value: Any, option: Any) -> Any:
    if option is Any or (option is type(None) and value is None):
        return value
    if get_origin(option) is Literal:
        return value if value in get_args(option) else _MISFIT
    kind = get_origin(option) or option
    if not isinstance(kind, type):
        return value
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        return _MISFIT
    if isinstance(value, list) and get_args(option):
        fits = all(_as_it_is(each, get_args(option)[0]) is not _MISFIT for each in value)
        return value if fits else _MISFIT
    return value


def _parsed(value: Any, option: Any) -> Any:
    """An int where a float is due, numbers and truth values that YAML left as text, names of an enumeration."""
    if option is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if option is bool and isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower(), _MISFIT)
    if isinstance(value, str) and option in (int, float):
        try:
            return option(value)
        except ValueError:
            return _MISFIT
    if isinstance(option, type) and issubclass(option, Enum):
        return value if value in [member.value for member in option] else _MISFIT
    return _members(value, option) if isinstance(value, list) else _MISFIT


def _members(value: list[Any], option: Any) -> Any:
    """A list where a set or a tuple is due, and lists of such."""
    kind, members = get_origin(option), get_args(option)
    if kind not in (list, set, tuple, Sequence):
        return _MISFIT
    of_each = members if kind is tuple and Ellipsis not in members else members[:1] * len(value)
    if len(of_each) != len(value):
        return _MISFIT
    found = [_fitting(each, (member,)) for each, member in zip(value, of_each, strict=True)]
    if any(each is _MISFIT for each in found):
        return _MISFIT
    return kind(found) if kind in (set, tuple) else found


def _name(option: Any) -> str:
    if get_origin(option) is Literal:
        return ", ".join(map(str, get_args(option)))
    if option is type(None):
        return "null"
    return str(option) if get_args(option) else getattr(option, "__name__", str(option))


def sft_config(values: Mapping[str, Any], where: str) -> SFTConfig:
    """TRL's configuration; what the user stated is taken as it is.

    Raises:
        InputError: an unknown key, a value of another type, or one that TRL refuses.
    """
    stated = typed(values, SFTConfig, where)
    with refusals(where):
        made = SFTConfig(**{**_defaults_for_this_machine(stated), **stated})
    _require_legal(made, where)
    return made


_LEAST = {
    "learning_rate": 0,
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "max_length": 1,
}
"""What TRL lets pass, or finds out only once the run has begun."""


def _require_legal(made: SFTConfig, where: str) -> None:
    for name, least in _LEAST.items():
        value = getattr(made, name)
        if value is not None and not least <= value < float("inf"):
            raise InputError(f"{where}: {name} is {value}, but it must be a number of {least} or more.")
    if made.push_to_hub and is_offline_mode():
        raise InputError(f"{where}: push_to_hub needs the network; set HF_HUB_OFFLINE=0 or leave it out.")


def _defaults_for_this_machine(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults of TRL that cannot hold here; never what the user stated."""
    chosen: dict[str, Any] = {}
    known = sft_fields()
    if "activation_checkpointing" in known and not {"activation_checkpointing", "gradient_checkpointing"} & set(stated):
        # The same meaning under the name that transformers has now; the old one brings a warning at every start.
        chosen["activation_checkpointing"] = next(
            field.default for field in fields(SFTConfig) if field.name == "gradient_checkpointing"
        )
    if torch.accelerator.is_available():
        return chosen
    # Without an accelerator there is no memory to pin, and torch warns.
    chosen["dataloader_pin_memory"] = False
    if not {"bf16", "fp16", "use_cpu"} & set(stated):
        _logger.warning("There is no accelerator here, so bf16 is off (TRL's default is on); set bf16 to choose.")
        chosen["bf16"] = False
    return chosen


class refusals:
    """Turns a setting that TRL or PEFT refuses into one sentence."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (ValueError, TypeError, ImportError)) and not isinstance(error, UserError):
            reason = " ".join(str(error).split()).rstrip(".").replace(". ", "; ")
            raise InputError(f"{self.where} is refused: {reason}.") from error


def lora_config(values: Mapping[str, Any], where: str) -> LoraConfig:
    """A LoRA of rank 16 on all linear layers unless `values`, any of LoraConfig's fields, say otherwise.

    Raises:
        InputError: an unknown key, a value of another type, or LoRA on the output head.
    """
    stated = typed(values, LoraConfig, where)
    refuse_lm_head(stated.get("target_modules"))
    with refusals(where):
        return LoraConfig(**{**_LORA_DEFAULTS, **stated})


def four_bit() -> BitsAndBytesConfig:
    """NF4 with double quantization, computing in bf16 (QLoRA, arXiv 2305.14314).

    Raises:
        InputError: bitsandbytes is not installed, or there is no accelerator.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError("quantize: 4bit needs the package bitsandbytes; install it or leave quantize out.")
    if not torch.accelerator.is_available():
        raise InputError("quantize: 4bit needs a GPU that bitsandbytes supports; leave quantize out on this machine.")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
