"""Settings as users write them in YAML, turned into TRL's and PEFT's configuration."""

import importlib.util
import logging
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from huggingface_hub import is_offline_mode
from transformers import BitsAndBytesConfig
from trl.trainer.sft_config import SFTConfig

from moored.errors import InputError
from moored.huggingface.models.lora_config import refusals
from moored.settings import typed

_logger = logging.getLogger(__name__)


def sft_fields() -> set[str]:
    """The names of all settings that TRL's SFTConfig takes."""
    return {field.name for field in fields(SFTConfig) if field.init}


def sft_config(values: Mapping[str, Any]) -> SFTConfig:
    """TRL's configuration; what the user stated is taken as it is.

    Raises:
        InputError: an unknown key, a value of another type, or one that TRL refuses.
    """
    stated = typed(values, SFTConfig)
    with refusals():
        made = SFTConfig(**{**_defaults_for_this_machine(stated), **stated})
    _require_legal(made)
    return made


_LEAST = {
    "learning_rate": 0,
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "max_length": 1,
}
"""What TRL lets pass, or finds out only once the run has begun."""


def _require_legal(made: SFTConfig) -> None:
    for name, least in _LEAST.items():
        value = getattr(made, name)
        if value is not None and not least <= value < float("inf"):
            raise InputError(f"{name} is {value}, but it must be a number of {least} or more.")
    if made.push_to_hub and is_offline_mode():
        raise InputError(
            "push_to_hub needs the network, which HF_HUB_OFFLINE=1 forbids; unset that, or leave push_to_hub out."
        )


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
