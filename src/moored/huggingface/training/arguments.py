"""Settings as users write them in YAML, turned into TRL's and PEFT's configuration."""

import importlib.util
import logging
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from huggingface_hub import is_offline_mode
from transformers import BitsAndBytesConfig
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations
from trl.trainer.sft_config import SFTConfig

from moored.errors import InputError
from moored.huggingface.models.lora_config import refusals
from moored.settings import typed

_logger = logging.getLogger(__name__)


def sft_fields() -> set[str]:
    """The names of all settings that TRL's SFTConfig takes."""
    return {field.name for field in fields(SFTConfig) if field.init}


def sft_config(values: Mapping[str, Any]) -> SFTConfig:
    """Makes TRL's configuration; it never changes what the user set.

    Raises:
        InputError: an unknown key, a value of the wrong type, or one that TRL refuses.
    """
    settings = typed(values, SFTConfig)
    with refusals():
        config = SFTConfig(**{**_defaults_for_this_machine(settings), **settings})
    _require_legal(config)
    return config


_LEAST = {
    "learning_rate": 0,
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "max_length": 1,
}
"""Lower bounds that TRL does not check, or checks only once the run has begun."""


def _require_legal(config: SFTConfig) -> None:
    for name, least in _LEAST.items():
        value = getattr(config, name)
        if value is not None and not least <= value < float("inf"):
            raise InputError(f"{name} is {value}, but it must be a number of {least} or more.")
    # The callbacks of these packages notice it only once the model is loaded, and some print a traceback besides.
    missing = {*(config.report_to or [])} & INTEGRATION_TO_CALLBACK.keys() - {*get_available_reporting_integrations()}
    if missing:
        raise InputError(f"report_to names {min(missing)}, which is not installed; install it, or leave it out.")
    if config.push_to_hub and is_offline_mode():
        raise InputError(
            "push_to_hub needs the network, which HF_HUB_OFFLINE=1 forbids; unset that, or leave push_to_hub out."
        )


def _defaults_for_this_machine(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Replacements for defaults of TRL that do not work on this machine."""
    defaults: dict[str, Any] = {}
    known = sft_fields()
    chosen = {"activation_checkpointing", "gradient_checkpointing"} & set(settings)
    if "activation_checkpointing" in known and not chosen:
        # The same setting under its present name in transformers; the old name warns at every start.
        defaults["activation_checkpointing"] = next(
            field.default for field in fields(SFTConfig) if field.name == "gradient_checkpointing"
        )
    if torch.accelerator.is_available():
        return defaults
    # Without an accelerator there is no memory to pin, and torch warns.
    defaults["dataloader_pin_memory"] = False
    if not {"bf16", "fp16", "use_cpu"} & set(settings):
        _logger.warning("No accelerator was found, so bf16 is off (TRL's default is on); set bf16 to choose.")
        defaults["bf16"] = False
    return defaults


def four_bit() -> BitsAndBytesConfig:
    """Makes QLoRA's configuration: NF4 with double quantization, computing in bf16 (arXiv 2305.14314).

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
