"""Builds a trainer from a model source and settings."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import BitsAndBytesConfig, PreTrainedTokenizerBase
from trl.trainer.sft_config import SFTConfig

from moored.errors import InputError, blaming
from moored.files import read_text
from moored.huggingface.models import (
    ModelSource,
    load_model,
    remember_folded,
    require_finite,
    require_fit,
    stack_adapters,
    unstackable,
)
from moored.huggingface.models.lora_config import lora_config, refusals
from moored.huggingface.safeguards.interface import Safeguard
from moored.huggingface.training.arguments import four_bit
from moored.huggingface.training.compact_head import compact_head
from moored.huggingface.training.trainer import SafeguardedSFTTrainer


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a run starts from, checked before anything is loaded."""

    source: ModelSource
    lora: LoraConfig | None
    """The adapter to train; None trains all parameters."""
    quantization: BitsAndBytesConfig | None
    dtype: torch.dtype
    attention: str | None


def prepare_start(
    source: ModelSource, lora: Mapping[str, Any] | None, quantize: str | None, trl: Mapping[str, Any]
) -> Start:
    """Checks that a model can be trained with these settings.

    Args:
        source: the checkpoint, with or without an adapter.
        lora: fields of LoraConfig, or None for all parameters.
        quantize: `4bit` or None.
        trl: SFTConfig's settings; `model_init_kwargs` may hold `dtype` and `attn_implementation`.

    Raises:
        InputError: settings that do not work together.
        ModelError: an adapter of the source that does not fit, or cannot be stacked.
    """
    config = None if lora is None else _lora(lora)
    require_fit(source)
    if source.adapter is not None and config is not None:
        _require_stackable(source.adapter, config)
    if quantize is not None and (source.adapter is not None or config is None):
        raise InputError("quantize trains a LoRA on a checkpoint without an adapter; merge the adapter first.")
    if trl.get("trust_remote_code"):
        raise InputError("trust_remote_code is not supported; moored runs no code from a checkpoint.")
    dtype, attention = _init_kwargs(trl.get("model_init_kwargs") or {})
    quantization = None if quantize is None else four_bit()
    return Start(source=source, lora=config, quantization=quantization, dtype=dtype, attention=attention)


def _lora(values: Mapping[str, Any]) -> LoraConfig:
    with blaming("lora"):
        return lora_config(values)


def _require_stackable(below: Path, config: LoraConfig) -> None:
    name = unstackable(config)
    if name is not None:
        raise InputError(f"lora.{name} cannot be used where the run starts from an adapter; leave it out.")
    # Tried out now, lest a run find at its end that its result cannot be written.
    with tempfile.TemporaryDirectory() as scratch:
        stack_adapters(below, below, Path(scratch) / "trial")


def _init_kwargs(settings: Mapping[str, Any]) -> tuple[torch.dtype, str | None]:
    others = sorted(set(settings) - {"dtype", "torch_dtype", "attn_implementation"})
    if others:
        raise InputError(f"model_init_kwargs.{others[0]} is not supported; use only dtype and attn_implementation.")
    name = str(settings.get("dtype", settings.get("torch_dtype", "float32"))).removeprefix("torch.")
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise InputError(f"model_init_kwargs.dtype is {name}; use float32, bfloat16 or float16.")
    return dtype, settings.get("attn_implementation")


def set_template(tokenizer: PreTrainedTokenizerBase, arguments: SFTConfig) -> None:
    """Gives the tokenizer the chat template and end token of the configuration, before any row is rendered.

    Raises:
        InputError: `chat_template_path` is not a Jinja file.
    """
    path = arguments.chat_template_path
    if path is not None:
        if not path.endswith((".jinja", ".j2")):
            raise InputError(
                f"chat_template_path is {path}; give a .jinja file, since another tokenizer's "
                "template may need tokens that this one lacks."
            )
        tokenizer.chat_template = read_text(path)
    if arguments.eos_token is not None:
        tokenizer.eos_token = arguments.eos_token


def make_trainer(
    start: Start,
    arguments: SFTConfig,
    tokenizer: PreTrainedTokenizerBase,
    train: Dataset,
    evaluation: Dataset | None,
    safeguards: Sequence[Safeguard],
) -> SafeguardedSFTTrainer:
    """Loads the model and builds the trainer on rows that are already token ids and labels.

    Raises:
        ModelError: the checkpoint or the adapter cannot be used.
        InputError: TRL refuses the combination of settings.
    """
    arguments.model_init_kwargs = None  # `start` has them already.
    with refusals():
        model: Any = _quantizable(start) if start.quantization is not None else _loaded(start)
        trainer = SafeguardedSFTTrainer(
            model=model,
            args=arguments,
            train_dataset=train,
            eval_dataset=evaluation,
            processing_class=tokenizer,
            peft_config=start.lora,
            quantization_config=start.quantization,
            safeguards=safeguards,
        )
    trainer.refuse_divergence = True
    assert trainer.model is not None
    compact_head(trainer.model)
    return trainer


def _loaded(start: Start) -> Any:
    merged = start.source.adapter is not None
    model = load_model(start.source, dtype=start.dtype, trainable=start.lora is None, merge=merged)
    if merged:
        remember_folded(model, start.source)
    if start.attention is not None:
        model.set_attn_implementation(start.attention)
    return model


def _quantizable(start: Start) -> str:
    """The name of the checkpoint, from which TRL loads a quantized model itself."""
    if Path(start.source.path).is_dir():
        require_finite(start.source.path)
    return start.source.path
