"""Edits of tiny checkpoints: what other tools and hands leave of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tests.tiny import SIZES, tiny_model, tiny_tokenizer
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM, PreTrainedModel

Edit = Callable[[Path], object]
FILE, INDEX = "model.safetensors", "model.safetensors.index.json"


def model_of(kind: str, seed: int = 0) -> PreTrainedModel:
    """A tiny model: Llama, Gemma (tied), GPT-2 (in × out) or Mixtral (experts)."""
    if kind in ("llama", "gemma"):
        return tiny_model("llama" if kind == "llama" else "gemma", seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "gpt2":
            ids = {"bos_token_id": 2, "eos_token_id": 2}
            return GPT2LMHeadModel(GPT2Config(vocab_size=384, n_embd=16, n_layer=2, n_head=2, **ids)).eval()
        return MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=2, num_experts_per_tok=1)).eval()


def saved(folder: Path, kind: str = "llama", *, seed: int = 0, dtype: torch.dtype = torch.float32, **how: Any) -> Path:
    """Writes such a model and its tokenizer."""
    model_of(kind, seed).to(dtype).save_pretrained(folder, **how)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def tensors(change: Callable[[dict[str, Tensor]], dict[str, Tensor]], file: str = FILE) -> Edit:
    """Changes what a file of weights holds."""

    def edit(folder: Path) -> None:
        new = change(load_file(folder / file))
        save_file({name: t.contiguous().clone() for name, t in new.items()}, folder / file, metadata={"format": "pt"})

    return edit


def more(**extra: Tensor) -> Edit:
    """Adds tensors."""
    return tensors(lambda old: {**old, **{name.replace("__", "."): tensor for name, tensor in extra.items()}})


def renamed(new: Callable[[str], str]) -> Edit:
    """Gives every tensor another name."""
    return tensors(lambda old: {new(name): tensor for name, tensor in old.items()})


def config(file: str = "config.json", **changes: Any) -> Edit:
    """Changes entries of a JSON file."""

    def edit(folder: Path) -> None:
        place = folder / file
        settings = json.loads(place.read_text()) if place.is_file() else {}
        place.write_text(json.dumps(settings | changes))

    return edit


def index(name: str, *, moved: bool = True) -> Edit:
    """Names the file of weights otherwise in an index, and puts it there."""

    def edit(folder: Path) -> None:
        place, names = folder / name, load_file(folder / FILE)
        if moved:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(folder / FILE, place)
        else:
            (folder / FILE).unlink()
        weight_map = dict.fromkeys(names, str(name))
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))

    return edit


def file(name: str, content: bytes) -> Edit:
    """Writes a file."""
    return lambda folder: (folder / name).write_bytes(content)


def without(name: str) -> Edit:
    """Removes a file."""
    return lambda folder: (folder / name).unlink()


def both(*edits: Edit) -> Edit:
    """Makes several edits."""

    def edit(folder: Path) -> None:
        for each in edits:
            each(folder)

    return edit
