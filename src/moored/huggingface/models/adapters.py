"""LoRA adapter folders: do they fit, and two of them as one."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from moored.errors import InputError, ModelError
from moored.files import read_text, whole_folder
from moored.huggingface.models.names import plain_name
from moored.huggingface.models.weights import weight_files


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


def load_factors(folder: Path) -> dict[str, Tensor]:
    """The tensors of an adapter by plain name (no wrapper prefixes, no adapter name)."""
    (file,) = weight_files(folder)[:1]
    return {plain_name(name): tensor for name, tensor in load_file(file).items()}


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
        rows, columns = weight.shape if isinstance(modules[module_name], nn.Linear) else weight.T.shape
        size, wanted = (tensor.shape[1], columns) if kind == "lora_A" else (tensor.shape[0], rows)
        if size != wanted:
            raise ModelError(
                f"The adapter {folder} is for another base: {name} is {tuple(tensor.shape)}, but the weight of "
                f"{module_name} is {tuple(weight.shape)}."
            )


def stack_adapters(below: Path, above: Path, out: Path) -> None:
    """Writes one adapter whose update is the sum of two, for the base of `below`.

    The ranks are concatenated and both scales are folded into B, so that s₀B₀A₀ + s₁B₁A₁ = [s₀B₀, s₁B₁][A₀; A₁]
    holds exactly (DESIGN, contract 11; our choice). Modules that only one of the two touches keep its rank.

    Raises:
        InputError: `out` is not empty.
        ModelError: one of them is no plain LoRA (DoRA, a trained bias or other tensors cannot be summed).
    """
    parts = [(_scales(folder), load_factors(folder)) for folder in (below, above)]
    stacked: dict[str, Tensor] = {}
    for module in sorted({name.rpartition(".lora_")[0] for _, factors in parts for name in factors}):
        pairs = [_scaled_pair(module, scales, factors) for scales, factors in parts]
        present = [pair for pair in pairs if pair is not None]
        stacked[f"{module}.lora_A.weight"] = torch.cat([a for a, _ in present]).contiguous()
        stacked[f"{module}.lora_B.weight"] = torch.cat([b for _, b in present], dim=1).contiguous()
    config = _stacked_config(below, stacked)
    with whole_folder(out) as folder:
        save_file({f"base_model.model.{n}": t for n, t in stacked.items()}, folder / "adapter_model.safetensors")
        config.save_pretrained(str(folder))


def _scaled_pair(module: str, scales: "_Scales", factors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    a = factors.get(f"{module}.lora_A.weight")
    if a is None:
        return None
    return a, factors[f"{module}.lora_B.weight"] * scales.of(module, rank=a.shape[0])


class _Scales:
    """The factor between BA and ΔW, per module."""

    def __init__(self, config: LoraConfig) -> None:
        self.config = config

    def of(self, module: str, rank: int) -> float:
        patterns = self.config.alpha_pattern or {}
        matching = (alpha for key, alpha in patterns.items() if module == key or module.endswith(f".{key}"))
        alpha = next(matching, self.config.lora_alpha)
        return alpha / rank**0.5 if self.config.use_rslora else alpha / rank


def _scales(folder: Path) -> _Scales:
    config = LoraConfig.from_pretrained(str(folder))
    others = sorted(
        {name.rpartition(".")[0].rpartition(".")[2] for name in load_factors(folder)} - {"lora_A", "lora_B"}
    )
    if not isinstance(config, LoraConfig) or config.use_dora or others:
        found = ", ".join(others) or config.peft_type
        raise ModelError(f"{folder} is more than a plain LoRA ({found}) and cannot be stacked with another adapter.")
    return _Scales(config)


def _stacked_config(below: Path, stacked: Mapping[str, Tensor]) -> LoraConfig:
    config = LoraConfig.from_pretrained(str(below))
    ranks = {n.removesuffix(".lora_A.weight"): t.shape[0] for n, t in stacked.items() if ".lora_A." in n}
    usual = max(set(ranks.values()), key=list(ranks.values()).count)
    uneven = {module: rank for module, rank in ranks.items() if rank != usual}
    config.r = config.lora_alpha = usual
    config.rank_pattern = config.alpha_pattern = uneven
    config.use_rslora = False
    config.target_modules = set(ranks) if uneven else {module.rpartition(".")[2] for module in ranks}
    config.inference_mode = True
    return config


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
    (file,) = weight_files(original)[:1]
    now = {plain_name(name): tensor for name, tensor in model.state_dict().items() if ".lora_" in name}
    tensors = {}
    for name, tensor in load_file(file).items():
        if plain_name(name) not in now:
            raise ModelError(f"The model in memory has no {name}, which the adapter {original} holds; load it again.")
        tensors[name] = now[plain_name(name)].detach().to("cpu", tensor.dtype).contiguous()
    shutil.copytree(original, folder, ignore=shutil.ignore_patterns("*.safetensors"), dirs_exist_ok=True)
    save_file(tensors, folder / file.name, metadata={"format": "pt"})
