"""LoRA adapters as the updates that they are: sums of them, and adapters written from updates."""

from collections.abc import Mapping
from dataclasses import fields
from functools import reduce
from operator import add
from pathlib import Path

from peft import AdaLoraConfig, LoraConfig, PeftType
from peft.utils.other import get_pattern_key
from safetensors.torch import save_file
from torch import Tensor

from moored.errors import ModelError
from moored.files import whole_folder
from moored.huggingface.models.adapter_config import load_adapter_config, read_adapter_config
from moored.huggingface.models.adapters import load_factors
from moored.huggingface.models.stored_files import ADAPTER_FILE
from moored.huggingface.models.weights import disk_errors
from moored.tensors.low_rank import LowRank

_CHANGES_BASE = ("pissa", "olora")
"""Initializations that take something off the base weights, so that the adapter alone is not the whole update.

Others that do are refused wherever an adapter is read.
"""

_TWO_FACTORS = {
    *("peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "fan_in_fan_out"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("lora_dropout", "inference_mode", "runtime_config", "init_lora_weights"),
    *("eva_config", "corda_config", "lora_ga_config", "loftq_config"),
}
"""The settings of a LoRA that leave it two factors and a scale; of all others, only the default does for sure."""

_PAIRS = ((".lora_A.", ".lora_B."), (".lora_B.", ".lora_A."))


def stack_adapters(below: Path, above: Path, out: Path) -> None:
    """Writes one adapter whose update is the sum of two, for the base of `below`.

    The ranks are concatenated and both scales are folded into B: s₀B₀A₀ + s₁B₁A₁ = [s₀B₀, s₁B₁][A₀; A₁]. The result
    is in fp32, so no scale costs precision. A module that only one of the two touches keeps that one's rank.

    Raises:
        InputError: `out` is not empty.
        ModelError: one of them is no plain LoRA (DoRA, a trained bias or other tensors cannot be summed).
    """
    parts = [adapter_updates(folder) for folder in (below, above)]
    modules = sorted({module for part in parts for module in part})
    sums = {module: reduce(add, [part[module] for part in parts if module in part]) for module in modules}
    with whole_folder(out) as folder:
        write_updates(sums, folder, like=below)


def write_updates(updates: Mapping[str, LowRank], folder: Path, *, like: Path) -> None:
    """Writes an adapter whose updates are these, by module, in fp32; for the base and task of the adapter `like`."""
    tensors = {}
    for module, update in updates.items():
        tensors[f"{module}.lora_A.weight"] = update.a.contiguous()
        tensors[f"{module}.lora_B.weight"] = update.b.contiguous()
    with disk_errors():
        save_file({f"base_model.model.{name}": tensor for name, tensor in tensors.items()}, folder / ADAPTER_FILE)
        _stacked_config(_plain_lora(like), tensors).save_pretrained(str(folder))


def adapter_updates(folder: Path) -> dict[str, LowRank]:
    """ΔW = (s·B) A of each module that an adapter moves, by plain name, in fp32.

    Raises:
        ModelError: it is no plain LoRA.
    """
    config, factors = _plain_lora(folder), load_factors(folder)
    modules = sorted({name.rpartition(".lora_")[0] for name in factors})
    return {module: _update(module, config, factors) for module in modules}


def _update(module: str, config: LoraConfig, factors: Mapping[str, Tensor]) -> LowRank:
    a, b = (factors[f"{module}.lora_{kind}.weight"].float() for kind in "AB")
    return LowRank(b * _scale(config, module, rank=len(a)), a)


def _scale(config: LoraConfig, module: str, *, rank: int) -> float:
    """The factor between BA and ΔW. The keys of PEFT's patterns are regular expressions, so PEFT matches them."""
    patterns = config.alpha_pattern or {}
    alpha = patterns.get(get_pattern_key(list(patterns), module), config.lora_alpha)
    return alpha / rank**0.5 if config.use_rslora else alpha / rank


def _plain_lora(folder: Path) -> LoraConfig:
    """The configuration of an adapter that is its two factors and a scale, nothing more."""
    config = load_adapter_config(folder)
    if not isinstance(config, LoraConfig) or isinstance(config, AdaLoraConfig):
        raise _more_than_plain(folder, [PeftType(config.peft_type).value])
    names = load_factors(folder)
    more = {_kind(name) for name in names if not name.endswith((".lora_A.weight", ".lora_B.weight"))}
    more |= {f"{_kind(name)} alone" for name in names if not {name.replace(*pair) for pair in _PAIRS} <= names.keys()}
    more |= _other_settings(config) | _unknown_settings(folder)
    if str(config.init_lora_weights).lower() in _CHANGES_BASE:
        more.add(f"initialized by {config.init_lora_weights}")
    if more:
        raise _more_than_plain(folder, sorted(more))
    return config


def _more_than_plain(folder: Path, what: list[str]) -> ModelError:
    return ModelError(
        f"{folder} is more than a plain LoRA ({', '.join(what)}), and its update no product of two factors; merge it "
        "into a checkpoint, or repair it by example."
    )


def _other_settings(config: LoraConfig) -> set[str]:
    """The settings that may change what an adapter is, where they are not at their defaults."""
    default = LoraConfig()
    others = {field.name for field in fields(config)} - _TWO_FACTORS
    return {name for name in others if (getattr(config, name) or None) != (getattr(default, name) or None)}


def _unknown_settings(folder: Path) -> set[str]:
    """What this version of PEFT would leave out of a configuration, as far as it says anything."""
    known = {field.name for field in fields(LoraConfig)} | _TWO_FACTORS
    return {name for name, value in read_adapter_config(folder).items() if name not in known and value}


def _kind(name: str) -> str:
    return ".".join(name.split(".")[-2:])


def _stacked_config(below: LoraConfig, stacked: Mapping[str, Tensor]) -> LoraConfig:
    """Every module is named in full: two adapters seldom agree on shorter patterns."""
    ranks = {n.removesuffix(".lora_A.weight"): t.shape[0] for n, t in stacked.items() if n.endswith(".lora_A.weight")}
    usual = max(set(ranks.values()), key=list(ranks.values()).count)
    uneven = {module: rank for module, rank in ranks.items() if rank != usual}
    return LoraConfig(
        base_model_name_or_path=below.base_model_name_or_path,
        task_type=below.task_type,
        fan_in_fan_out=below.fan_in_fan_out,
        target_modules=list(ranks),
        r=usual,
        lora_alpha=usual,
        rank_pattern=uneven,
        alpha_pattern=dict(uneven),
        inference_mode=True,
    )
