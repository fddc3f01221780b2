"""LoRA settings as users write them in YAML, turned into PEFT's configuration."""

from collections.abc import Mapping
from typing import Any

from peft import LoraConfig

from moored.errors import InputError, UserError
from moored.huggingface.models.adapters import refuse_lm_head
from moored.settings import typed

_LORA_DEFAULTS = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}


class refusals:
    """Turns a setting that TRL or PEFT refuses into one sentence."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (ValueError, TypeError, ImportError)) and not isinstance(error, UserError):
            reason = " ".join(str(error).split()).rstrip(".").replace(". ", "; ")
            raise InputError(f"these settings are refused: {reason}.") from error


def lora_config(values: Mapping[str, Any]) -> LoraConfig:
    """A LoRA of rank 16 on all linear layers unless `values`, any of LoraConfig's fields, say otherwise.

    Raises:
        InputError: an unknown key, a value of another type, or LoRA on the output head.
    """
    stated = typed(values, LoraConfig)
    refuse_lm_head(stated.get("target_modules"))
    with refusals():
        return LoraConfig(**{**_LORA_DEFAULTS, **stated})
