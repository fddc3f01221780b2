"""Weights read key by key from safetensors; nothing here unpickles, nothing holds two models."""

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from os import strerror
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from moored.errors import ModelError
from moored.huggingface.models.names import plain_name
from moored.huggingface.models.quantized import is_code
from moored.huggingface.models.stored_files import INDEX, PICKLES, WEIGHTS, weight_files


def iterate_file(file: Path) -> Iterator[tuple[str, Tensor]]:
    """Yields (name, tensor) for each tensor of one file.

    Raises:
        ModelError: it is no valid safetensors file.
    """
    with _open(file) as tensors:
        for name in tensors.keys():  # noqa: SIM118 - no mapping
            yield name, tensors.get_tensor(name)


@contextmanager
def _open(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="pt") as tensors:
            yield tensors
    except SafetensorError as error:
        raise ModelError(f"{file} is not a valid safetensors file ({error}); fetch it again.") from error


def iterate_weights(folder: Path | str) -> Iterator[tuple[str, Tensor]]:
    """Yields (name, tensor) for each tensor of a folder, one at a time.

    Raises:
        ModelError: a file is missing, pickled, or no valid safetensors file.
    """
    for file in weight_files(folder):
        yield from iterate_file(file)


def rewrite_weights(start: Path, folder: Path, change: Callable[[str, Tensor], Tensor]) -> None:
    """Writes the tensors of one folder to another, changed one by one; a file of them is in memory at a time.

    Args:
        start: a checkpoint folder.
        folder: gets files of the same names, and the index if there is one.
        change: makes the new tensor of a stored name and its tensor.

    Raises:
        ModelError: a file is missing, pickled, or no valid safetensors file.
    """
    files = weight_files(start)
    for file in files:
        tensors = {name: change(name, tensor).contiguous() for name, tensor in iterate_file(file)}
        with disk_errors():
            save_file(tensors, _same_place(file, start, folder), metadata={"format": "pt"})
    if files != [start / WEIGHTS]:
        shutil.copyfile(start / INDEX, folder / INDEX)


def _same_place(file: Path, start: Path, folder: Path) -> Path:
    """Where in `folder` the copy of a file of `start` goes; shards may stand in folders of their own."""
    place = folder / file.relative_to(start)
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


class StoredWeights:
    """The tensors of a folder, each read when it is asked for by its plain name.

    Raises:
        ModelError: a file is missing, pickled, or no valid safetensors file.
    """

    def __init__(self, folder: Path | str) -> None:
        self._folder = folder
        self._places: dict[str, tuple[Path, str]] = {}
        for file in weight_files(folder):
            with _open(file) as tensors:
                self._places |= {plain_name(name): (file, name) for name in tensors.keys()}  # noqa: SIM118

    def names(self) -> list[str]:
        """The plain names of all tensors."""
        return list(self._places)

    def stored_names(self) -> list[str]:
        """The names of all tensors as the files have them, with the prefixes of wrappers."""
        return [stored for _, stored in self._places.values()]

    def stored_name(self, name: str) -> str:
        """The name that the tensor of a plain name has in the files."""
        return self._places[name][1]

    def holds(self, name: str) -> bool:
        """Whether there is a tensor of a plain name."""
        return name in self._places

    def require(self, name: str) -> None:
        """Raises ModelError where there is no tensor of a plain name."""
        if not self.holds(name):
            raise ModelError(f"{self._folder} holds no tensor {name}; name a checkpoint of the same architecture.")

    def read(self, name: str) -> Tensor:
        """The tensor of a plain name; raises ModelError where there is none."""
        self.require(name)
        return self._tensor(*self._places[name])

    def read_stored(self, stored: str) -> Tensor:
        """The tensor of a name as the files have it."""
        return self._tensor(*self._places[plain_name(stored)])

    def _tensor(self, file: Path, stored: str) -> Tensor:
        with _open(file) as tensors:
            return tensors.get_tensor(stored)


def require_finite(folder: Path | str) -> None:
    """Raises ModelError naming the first tensor of a folder that holds NaN or infinity."""
    refuse_non_finite(iterate_weights(folder), folder)


def refuse_non_finite(weights: Iterable[tuple[str, Tensor]], where: Path | str) -> None:
    """Raises ModelError naming the first of `weights`, those of `where`, that holds NaN or infinity."""
    for name, tensor in weights:
        # The codes of quantized checkpoints have no such test.
        if not is_code(tensor) and not torch.isfinite(tensor).all():
            raise ModelError(f"{name} in {where} holds NaN or infinity; the weights are broken, use others.")


def refuse_wrapped(folder: Path | str) -> None:
    """Raises ModelError for a checkpoint that was saved inside a wrapper, whose names transformers does not read."""
    for name in stored_tensors(folder):
        if plain_name(name) != name:
            raise ModelError(
                f"The names in {folder} carry the prefix of a wrapper such as torch.compile or FSDP ({name}, for "
                f"{plain_name(name)}), and no library reads them so; save the model again without the wrapper."
            )


def stored_dtypes(
    folder: Path | str, names: Iterable[str], in_memory: Mapping[str, str] | None = None
) -> dict[str, torch.dtype]:
    """The precision in which a folder holds each floating-point tensor of `names`, read from the files' headers.

    Names are compared without the prefixes of wrappers. One that the folder does not hold gets the widest of the
    folder's precisions, and one that is fused of several tensors the widest of theirs, so that nothing is lost.

    Args:
        folder: a checkpoint or adapter folder.
        names: as the model in memory has them.
        in_memory: those names by the names in the files, where they differ.

    Raises:
        ModelError: a file is missing, pickled, or no valid safetensors file, or none holds floating-point numbers.
    """
    stored: dict[str, torch.dtype] = {}
    for name, (_, kind) in stored_tensors(folder).items():
        if kind in _FLOATS:
            place = plain_name((in_memory or {}).get(name, name))
            stored[place] = max(_FLOATS[kind], stored.get(place, _FLOATS[kind]), key=_width)
    if not stored:
        raise ModelError(f"{folder} holds no floating-point weights; name a checkpoint or adapter folder.")
    widest = max(stored.values(), key=_width)
    return {name: stored.get(plain_name(name), widest) for name in names}


def _width(dtype: torch.dtype) -> int:
    return dtype.itemsize


_FLOATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
"""The floating-point formats as headers name them."""


def stored_tensors(folder: Path | str) -> dict[str, tuple[list[int], str]]:
    """Each tensor's shape and format by its name, without its numbers.

    Raises:
        ModelError: a file is missing, pickled, or no valid safetensors file.
    """
    found = {}
    for file in weight_files(folder):
        with _open(file) as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no mapping
                header = tensors.get_slice(name)
                found[name] = (header.get_shape(), header.get_dtype())
    return found


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turns a failure of safetensors to write into the OSError that it is."""
    try:
        yield
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), strerror(int(found[1]))) from error


def copy_companions(start: Path, folder: Path, *, weights: bool = False) -> None:
    """Copies what stands beside the weights of a folder (and the weights, if wanted): no pickles, no checkpoints."""
    left_out = ["moored_*.json", *PICKLES]  # our own records tell how `start` was made, not its copy
    if not weights:
        left_out += ["*.safetensors", "*.safetensors.index.json"]
    kept = [f for f in sorted(start.iterdir()) if f.is_file() and not any(f.match(pattern) for pattern in left_out)]
    for file in {*kept, *(weight_files(start) if weights else [])}:
        shutil.copyfile(file, _same_place(file, start, folder))
