"""Weights read key by key from safetensors; nothing here unpickles, nothing holds two models."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from moored.errors import ModelError

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


def weight_files(folder: Path | str) -> list[Path]:
    """The safetensors files of a checkpoint or adapter folder, in the order of its index.

    Raises:
        ModelError: the folder is missing, holds only pickled weights, or holds none at all.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError(f"There is no folder {folder}; check the path.")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        files = [folder / name for name in names]
    else:
        files = sorted(folder.glob("*.safetensors"))
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ModelError(f"{folder} lacks {', '.join(missing)}, which its index names; fetch the folder again.")
    if not files:
        raise ModelError(_no_weights(folder))
    return files


def _no_weights(folder: Path) -> str:
    pickled = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
    if pickled:
        return (
            f"{folder} holds pickled weights ({pickled[0]}), which can run code when they are read; "
            "convert them to safetensors."
        )
    return f"{folder} holds no *.safetensors file; name a checkpoint or adapter folder."


def iterate_weights(folder: Path | str) -> Iterator[tuple[str, Tensor]]:
    """Yields (name, tensor) for each tensor of a folder, one at a time.

    Raises:
        ModelError: a file is no valid safetensors file.
    """
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - no mapping
                    yield name, tensors.get_tensor(name)
        except SafetensorError as error:
            raise ModelError(f"{file} is not a valid safetensors file ({error}); fetch it again.") from error


def require_finite(folder: Path | str) -> None:
    """Raises ModelError naming the first tensor of a folder that holds NaN or infinity."""
    for name, tensor in iterate_weights(folder):
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelError(f"{name} in {folder} holds NaN or infinity; the checkpoint is broken, use another.")


def stored_dtype(folder: Path | str) -> torch.dtype:
    """The precision of a checkpoint's first floating-point tensor."""
    return next(tensor.dtype for _, tensor in iterate_weights(folder) if tensor.is_floating_point())
