"""LoRA adapter folders: do they fit, and two of them as one."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model_state_dict
from peft.utils.other import get_pattern_key
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from moored.errors import InputError, ModelError
from moored.files import read_text, whole_folder
from moored.huggingface.models.names import plain_name
from moored.huggingface.models.weights import copy_companions, disk_errors, iterate_file, weight_files

_FILE = "adapter_model.safetensors"
_CHANGES_BASE = ("pissa", "olora", "corda", "lora_ga", "loftq")
"""Initializations that take something off the base weights, so that the adapter alone is not the whole update."""


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """The `adapter_config.json` of a PEFT folder.

    Raises:
        ModelError: the folder holds none, or it is no JSON object.
    """
    file = Path(folder) / "adapter_config.json"
    if not file.is_file():
        raise ModelError(f"{folder} holds no adapter_config.json; name the folder that PEFT wrote.")
    try:
        return dict(json.loads(read_text(file)))
    except (json.JSONDecodeError, TypeError, ValueError):
        raise ModelError(f"{file} is not valid JSON; fetch the adapter again.") from None


def _load_config(folder: Path) -> PeftConfig:
    read_adapter_config(folder)
    try:
        return PeftConfig.from_pretrained(str(folder))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"PEFT cannot read the configuration of the adapter {folder} ({error}).") from error


def _load_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of an adapter as its file names them; pickled ones are refused."""
    file = Path(folder) / _FILE
    return dict(iterate_file(file if file.is_file() else weight_files(folder)[0]))


def load_factors(folder: Path) -> dict[str, Tensor]:
    """The tensors of an adapter by plain name (no wrapper prefixes, no adapter name)."""
    return {plain_name(name): tensor for name, tensor in _load_tensors(folder).items()}


def check_fits(folder: Path, model: nn.Module) -> None:
    """Raises ModelError when an adapter's LoRA factors do not fit the modules of a model, naming the shapes."""
    modules = dict(model.named_modules())
    for name, tensor in load_factors(folder).items():
        module_name, kind = name.removesuffix(".weight").rpartition(".")[::2]
        if kind not in ("lora_A", "lora_B"):
            continue
        weight = getattr(modules.get(module_name), "weight", None)
        if weight is None:
            raise ModelError(f"The adapter {folder} is for another base: this model has no module {module_name}.")
        if weight.dim() != 2:
            continue
        rows, columns = weight.shape if isinstance(modules[module_name], nn.Linear) else weight.T.shape
        size, wanted = (tensor.shape[1], columns) if kind == "lora_A" else (tensor.shape[0], rows)
        if size != wanted:
            raise ModelError(
                f"The adapter {folder} is for another base: {name} is {tuple(tensor.shape)}, but the weight of "
                f"{module_name} is {tuple(weight.shape)}."
            )


def lay_over(model: PreTrainedModel, folder: Path, *, trainable: bool) -> PeftModel:
    """The model under an adapter whose every factor has found its place.

    Raises:
        ModelError: PEFT does not know some of its names; it would warn and go on without them.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Found missing adapter keys", UserWarning)
        try:
            return PeftModel.from_pretrained(model, folder, is_trainable=trainable)
        except UserWarning as error:
            name = next(iter(_load_tensors(folder)))
            raise ModelError(
                f"Some tensors of the adapter {folder} are not named as PEFT names them ({name}, say) and would have "
                "no effect; save it again from a model without torch.compile or other wrappers."
            ) from error


def stack_adapters(below: Path, above: Path, out: Path) -> None:
    """Writes one adapter whose update is the sum of two, for the base of `below`.

    The ranks are concatenated and both scales are folded into B, so that s₀B₀A₀ + s₁B₁A₁ = [s₀B₀, s₁B₁][A₀; A₁]
    holds (DESIGN, contract 11; our choice), in fp32 so that no scale costs precision. Modules that only one of the
    two touches keep its rank.

    Raises:
        InputError: `out` is not empty.
        ModelError: one of them is no plain LoRA (DoRA, a trained bias or other tensors cannot be summed).
    """
    parts = [(_plain_lora(folder), load_factors(folder)) for folder in (below, above)]
    stacked: dict[str, Tensor] = {}
    for module in _modules({name: tensor for _, factors in parts for name, tensor in factors.items()}):
        pairs = [_scaled_pair(module, config, factors) for config, factors in parts]
        present = [pair for pair in pairs if pair is not None]
        stacked[f"{module}.lora_A.weight"] = torch.cat([a for a, _ in present]).contiguous()
        stacked[f"{module}.lora_B.weight"] = torch.cat([b for _, b in present], dim=1).contiguous()
    config = _stacked_config(parts[0][0], stacked)
    with whole_folder(out) as folder, disk_errors():
        save_file({f"base_model.model.{n}": t for n, t in stacked.items()}, folder / _FILE)
        config.save_pretrained(str(folder))


def scaled_factors(folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """A and s·B of each module that an adapter moves, by plain name, in fp32: ΔW = (s·B) A.

    Raises:
        ModelError: it is no plain LoRA.
    """
    config, factors = _plain_lora(folder), load_factors(folder)
    pairs = {module: _scaled_pair(module, config, factors) for module in _modules(factors)}
    return {module: pair for module, pair in pairs.items() if pair is not None}


def _modules(factors: Mapping[str, Tensor]) -> list[str]:
    return sorted({name.rpartition(".lora_")[0] for name in factors})


def _scaled_pair(module: str, config: LoraConfig, factors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    a = factors.get(f"{module}.lora_A.weight")
    if a is None:
        return None
    return a.float(), factors[f"{module}.lora_B.weight"].float() * _scale(config, module, rank=a.shape[0])


def _scale(config: LoraConfig, module: str, *, rank: int) -> float:
    """The factor between BA and ΔW. The keys of PEFT's patterns are regular expressions, so PEFT matches them."""
    patterns = config.alpha_pattern or {}
    alpha = patterns.get(get_pattern_key(list(patterns), module), config.lora_alpha)
    return alpha / rank**0.5 if config.use_rslora else alpha / rank


def _plain_lora(folder: Path) -> LoraConfig:
    """The configuration of an adapter that is its two factors and a scale, nothing more."""
    config = _load_config(folder)
    names = load_factors(folder)
    found = sorted({_kind(name) for name in names if not name.endswith((".lora_A.weight", ".lora_B.weight"))})
    if not isinstance(config, LoraConfig):
        found = [str(config.peft_type)]
    elif config.use_dora:
        found = ["DoRA"]
    elif str(config.init_lora_weights).startswith(_CHANGES_BASE):
        found = [f"initialized by {config.init_lora_weights}"]
    if found or not isinstance(config, LoraConfig):
        raise ModelError(
            f"{folder} is more than a plain LoRA ({', '.join(found)}) and cannot be stacked with another adapter."
        )
    return config


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


def refuse_lm_head(target_modules: object) -> None:
    """Raises InputError when LoRA is asked for on the output head, which SFTTrainer cannot train."""
    names = [target_modules] if isinstance(target_modules, str) else list(target_modules or ())  # type: ignore[call-overload]
    if any(str(name).rpartition(".")[2] == "lm_head" for name in names):
        raise InputError("LoRA on lm_head cannot be trained by SFTTrainer; leave lm_head out of target_modules.")


def save_adapter_like(original: Path, model: nn.Module, folder: Path) -> None:
    """Writes a model's adapter with the names, the precisions and the other files of the folder it came from.

    PEFT itself would save a bf16 adapter as fp32 and write the machine's path of the base into the config.

    Raises:
        ModelError: the model lacks a tensor of the original.
    """
    assert isinstance(model, PeftModel)
    now = {plain_name(n): t for n, t in get_peft_model_state_dict(model, save_embedding_layers=False).items()}
    tensors = {}
    for name, tensor in _load_tensors(original).items():
        if plain_name(name) not in now:
            raise ModelError(f"The model in memory has no {name}, which the adapter {original} holds; load it again.")
        tensors[name] = now[plain_name(name)].detach().to("cpu", tensor.dtype).contiguous()
    copy_companions(original, folder)
    with disk_errors():
        save_file(tensors, folder / _FILE, metadata={"format": "pt"})
