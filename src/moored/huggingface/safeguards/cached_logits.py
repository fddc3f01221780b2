"""The reference logits of a whole training set, computed once and looked up by the content of each document."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from moored.errors import InactiveError, InputError
from moored.files import read_text, whole_folder, write_json
from moored.huggingface.distributed.processes import (
    any_process,
    gathered,
    in_step,
    is_main_process,
    of_main_process,
    wait_for_everyone,
)
from moored.huggingface.safeguards.document_keys import Document, documents
from moored.huggingface.safeguards.guarded_logits import guarded_positions
from moored.huggingface.safeguards.rows import Batch
from moored.huggingface.safeguards.start_logits import StartLogits

_SETTINGS, _INDEX, _LOGITS = "meta.json", "index.npz", "logits.f32"
_CLOSE, _ROUGH = 1e-4, 0.02
"""Tolerances in fp32 and in lower precisions. On the embedded model, logits computed in two batches differ by 1e-6 in
fp32 and by 1 % in bf16; one step of AdamW at a learning rate of 1e-5 moves them by 1e-3."""


class CachedLogits:
    """Reference logits from a file that is mapped into memory.

    Args:
        folder: the folder of the cache.
        first: as in `guarded_positions`.
        name: the name of the cache in errors.

    Raises:
        InputError: the folder does not hold a complete cache.
    """

    def __init__(self, folder: Path, *, first: int | None, name: str) -> None:
        self._first, self._name = first, name
        try:
            self.settings = json.loads(read_text(folder / _SETTINGS))
            with (folder / _INDEX).open("rb") as file, np.load(file) as index:
                keys, ends = index["keys"], index["counts"].cumsum()
            begins = [0, *ends[:-1].tolist()]
            self._slices = {key.tobytes(): slice(*at) for key, *at in zip(keys, begins, ends.tolist(), strict=True)}
            shape = (int(ends[-1]), self.settings["size"])
            self._logits = np.memmap(folder / _LOGITS, "<f4", "r", shape=shape)
            whole = self.settings["digest"] == _digest(self._slices)
        except (OSError, ValueError, KeyError, IndexError, TypeError, BadZipFile) as error:
            raise InputError(
                f"{name} is incomplete; delete it or name another folder, one that all machines of the run can read."
            ) from error
        if not whole:
            raise InputError(f"{name} has an index that does not belong to it; delete it or name another folder.")

    def __len__(self) -> int:
        return len(self._slices)

    def missing(self, batch: Batch) -> list[int]:
        """Returns the numbers of a batch's documents that have guarded positions and no logits here."""
        return self._missing(documents(batch, self._first))

    def _missing(self, own: Sequence[Document]) -> list[int]:
        return [n for n, document in enumerate(own) if document.positions and document.key not in self._slices]

    def of(self, batch: Batch) -> Float[Tensor, "position token"]:
        """Looks the logits up, as `ReferenceLogits` says; they come on the batch's device.

        Raises:
            InputError: a document of the batch is not in the cache.
        """
        own = documents(batch, self._first)
        missing = self._missing(own)
        if missing:
            raise InputError(
                f"{self._name} lacks document {missing[0]} of a batch, which was not among its rows or is now cut or "
                "masked differently; set reference: model, or delete the cache to make a new one."
            )
        parts = [self._logits[self._slices[document.key]] for document in own if document.positions]
        empty = np.empty((0, self._logits.shape[1]), "<f4")
        return torch.from_numpy(np.concatenate([empty, *parts])).to(batch["input_ids"].device)


def cached_logits(
    batches: Iterable[Batch],
    start: StartLogits,
    folder: Path | str | None = None,
    *,
    advance: Callable[[int], Any] = lambda done: None,
) -> CachedLogits:
    """Computes the reference logits of all documents in some batches, or opens a cache that has them already.

    Every process of a run calls it with its own batches, and can afterwards look up the documents of all.

    Args:
        batches: the batches as the trainer collates them; they are read once.
        start: computes the logits.
        folder: the folder of the cache, which all processes can read. None for a temporary file that disappears with
            the process.
        advance: called with the number of documents done since the last call.

    Raises:
        InputError: the folder holds something else, or logits of other tokens, rows or weights, or cannot be written.
        InactiveError: no document has a guarded position.
    """
    if folder is not None:
        folder = Path(folder)
        if any_process((folder / _SETTINGS).exists()):
            return _opened(folder, batches, start)
        _write(folder, batches, start, advance)
        return CachedLogits(folder, first=start.first, name=_name(folder))
    temporary = Path(of_main_process(tempfile.mkdtemp(prefix="moored-") if is_main_process() else ""))
    try:
        _write(temporary, batches, start, advance)
        cache = CachedLogits(temporary, first=start.first, name="The cache of reference logits")
        # Once every process has mapped the file, its name can go: the data stay until the last process ends.
        wait_for_everyone()
        return cache
    finally:
        if is_main_process():
            shutil.rmtree(temporary, ignore_errors=True)


def _name(folder: Path) -> str:
    return f"The cache of reference logits in {folder}"


def _digest(keys: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(sorted(keys))).hexdigest()


def _write(folder: Path, batches: Iterable[Batch], start: StartLogits, advance: Callable[[int], Any]) -> None:
    """Writes, in the main process, the logits that all processes compute."""
    counts: dict[bytes, int] = {}
    with whole_folder(folder) if is_main_process() else nullcontext() as place:
        with (place / _LOGITS).open("wb") if place else nullcontext() as file:
            for batch in in_step(batches):
                new = [] if batch is None else _computed(batch, start, counts)
                for key, logits in gathered(new):
                    if key not in counts:
                        counts[key] = len(logits)
                        if file:
                            file.write(logits.tobytes())
                advance(len(new))
        if not counts:
            raise InactiveError("No row of the training set has a token to learn, so there is nothing to guard.")
        if place:
            keys = np.frombuffer(b"".join(counts), np.uint8).reshape(len(counts), -1)
            np.savez(place / _INDEX, keys=keys, counts=np.array([*counts.values()], np.int64))
            write_json(place / _SETTINGS, {**_settings(start), "digest": _digest(counts)})
    wait_for_everyone()


def _computed(batch: Batch, start: StartLogits, done: Mapping[bytes, int]) -> list[tuple[bytes, np.ndarray]]:
    """The key and logits of each document that is not done yet."""
    own = [document for document in documents(batch, start.first) if document.positions]
    if all(document.key in done for document in own):
        return []
    logits = start.of(batch).cpu().split([document.positions for document in own])
    pairs = zip(own, logits, strict=True)
    return [(document.key, part.numpy().astype("<f4")) for document, part in pairs if document.key not in done]


def _settings(start: StartLogits) -> dict[str, Any]:
    head = start.head
    return {
        "tokens": None if head.tokens is None else list(head.tokens),
        "size": head.size,
        "first": start.first,
        "centred": head.centred,
        "dtype": str(head.dtype).removeprefix("torch."),
    }


def _opened(folder: Path, batches: Iterable[Batch], start: StartLogits) -> CachedLogits:
    """Opens an existing cache if it is the one that this run would write; all processes come to the same decision."""
    cached = CachedLogits(folder, first=start.first, name=_name(folder))
    misfits = [misfit for misfit in gathered([_misfit(cached, batches, start)]) if misfit]
    if misfits:
        raise InputError(f"{_name(folder)} {misfits[0]}; name another folder, or delete that one.")
    return cached


def _misfit(cached: CachedLogits, batches: Iterable[Batch], start: StartLogits) -> str | None:
    ours = _settings(start)
    other = next((key for key in ours if cached.settings.get(key) != ours[key]), None)
    if other == "tokens":
        return "is for other tokens"
    if other is not None:
        return f"was made with {other} {cached.settings.get(other)}, and this run has {ours[other]}"
    compared = False
    for batch in batches:
        if cached.missing(batch):
            return "lacks rows of this training set"
        # The cache does not hold the weights, but the logits of one batch show whether they are the same.
        if not compared and guarded_positions(batch, start.first).any():
            compared = True
            stored, expected = cached.of(batch).cpu(), start.of(batch).cpu()
            if (stored - expected).norm() > relative_rounding(start.head.dtype) * expected.norm():
                return "was made with other weights"
    return None


def relative_rounding(dtype: torch.dtype) -> float:
    """The relative difference that rounding may make between the same logits, computed in two different batches."""
    exact = dtype in (torch.float32, torch.float64) and torch.get_float32_matmul_precision() == "highest"
    return _CLOSE if exact else _ROUGH
