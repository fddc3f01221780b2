"""Random LoRA adapters for the tiny models: what fine-tuning would leave, without the fine-tuning."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tests.tiny import Kind, tiny_model

LORA: dict[str, Any] = {"r": 2, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj", "down_proj"]}


def random_adapter(kind: Kind = "llama", *, seed: int = 0, base: str = "base", **settings: Any) -> PeftModel:
    """A tiny model under an adapter none of whose factors is zero."""
    model = get_peft_model(tiny_model(kind), LoraConfig(**{**LORA, **settings}))
    draw = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=draw)
            parameter.data = (0.2 * noise + (parameter.data if "modules_to_save" in name else 0.0)).to(parameter.dtype)
    model.peft_config["default"].base_model_name_or_path = base
    return model.eval()


def save_adapter(
    folder: Path, kind: Kind = "llama", *, dtype: torch.dtype = torch.float32, seed: int = 0, **settings: Any
) -> Path:
    """Writes such an adapter as PEFT does and returns the folder."""
    random_adapter(kind, seed=seed, **settings).to(dtype).save_pretrained(folder, save_embedding_layers=False)
    return folder
