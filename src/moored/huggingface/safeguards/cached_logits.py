"""The reference logits of a whole training set, computed once and looked up by what each document says."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import chain, repeat
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from jaxtyping import Float
from torch import Tensor

from moored.errors import InactiveError, InputError
from moored.files import read_text, whole_folder, write_json
from moored.huggingface.safeguards.document_keys import Document, documents
from moored.huggingface.safeguards.guarded_logits import guarded_positions
from moored.huggingface.safeguards.rows import Batch
from moored.huggingface.safeguards.start_logits import AnchorLogits

_SETTINGS, _INDEX, _LOGITS = "meta.json", "index.npz", "logits.f32"
_CLOSE, _ROUGH = 1e-4, 0.02
"""In fp32 and below. On the embedded model they are off by 1e-6, and by 1 % in bf16; one step of AdamW at a rate of
1e-5 moves them by 1e-3."""


class CachedLogits:
    """Reference logits from a file that is mapped into memory.

    Args:
        folder: where they were written.
        first: as in `guarded_positions`.
        name: what to call the cache in errors.

    Raises:
        InputError: the folder is no whole cache.
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
                f"{name} is not there as a whole; delete it or name another folder, which all machines of the run see."
            ) from error
        if not whole:
            raise InputError(f"{name} has an index that is not its own; delete it or name another folder.")

    def __len__(self) -> int:
        return len(self._slices)

    def missing(self, batch: Batch) -> list[int]:
        """Which documents of a batch, by number, have guarded positions and no logits here."""
        return self._missing(documents(batch, self._first))

    def _missing(self, own: Sequence[Document]) -> list[int]:
        return [n for n, each in enumerate(own) if each.positions and each.key not in self._slices]

    def of(self, batch: Batch) -> Float[Tensor, "position token"]:
        """See `ReferenceLogits`; on the batch's device.

        Raises:
            InputError: a document of the batch is not there.
        """
        own = documents(batch, self._first)
        missing = self._missing(own)
        if missing:
            raise InputError(
                f"{self._name} lacks document {missing[0]} of a batch, which was not among the rows that it was made "
                "of or is cut or masked another way; take the reference from the model, or make the cache anew."
            )
        found = [self._logits[self._slices[each.key]] for each in own if each.positions]
        empty = np.empty((0, self._logits.shape[1]), "<f4")
        return torch.from_numpy(np.concatenate([empty, *found])).to(batch["input_ids"].device)


def cached_logits(
    batches: Iterable[Batch],
    anchor: AnchorLogits,
    folder: Path | str | None = None,
    *,
    advance: Callable[[int], Any] = lambda done: None,
) -> CachedLogits:
    """The reference logits of all documents in some batches, with the weights that the anchor has now.

    Every process of a run calls it with batches of its own, and can afterwards look up those of all.

    Args:
        batches: as the trainer collates them; gone through once.
        anchor: computes what is not there yet.
        folder: where the cache is written, or is opened when it is there already; all processes see it. None for a
            temporary file that goes with the process.
        advance: called with the number of documents that are done since the last call.

    Raises:
        InputError: the folder holds something else, or logits of other tokens, rows or weights, or cannot be written.
        InactiveError: no document has a guarded position.
    """
    if folder is not None:
        folder = Path(folder)
        if any(gather_object([(folder / _SETTINGS).exists()])):
            return _opened(folder, batches, anchor)
        _write(folder, batches, anchor, advance)
        return CachedLogits(folder, first=anchor.first, name=_name(folder))
    temporary = Path(gather_object([tempfile.mkdtemp(prefix="moored-") if PartialState().is_main_process else None])[0])
    try:
        _write(temporary, batches, anchor, advance)
        made = CachedLogits(temporary, first=anchor.first, name="The cache of reference logits")
        # What is mapped stays until the process ends, however it does.
        PartialState().wait_for_everyone()
        return made
    finally:
        if PartialState().is_main_process:
            shutil.rmtree(temporary, ignore_errors=True)


def _name(folder: Path) -> str:
    return f"The cache of reference logits in {folder}"


def _digest(keys: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(sorted(keys))).hexdigest()


def _write(folder: Path, batches: Iterable[Batch], anchor: AnchorLogits, advance: Callable[[int], Any]) -> None:
    """The main process writes what all of them compute."""
    counts: dict[bytes, int] = {}
    main = PartialState().is_main_process
    with whole_folder(folder) if main else nullcontext() as place:
        with (place / _LOGITS).open("wb") if place else nullcontext() as file:
            for batch in _rounds(batches):
                new = [] if batch is None else _computed(batch, anchor, counts)
                for key, logits in gather_object(new):
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
            write_json(place / _SETTINGS, {**_settings(anchor), "digest": _digest(counts)})
    PartialState().wait_for_everyone()


def _rounds(batches: Iterable[Batch]) -> Iterator[Batch | None]:
    """As many in each process: one that has run out of batches goes on with None."""
    for batch in chain(batches, repeat(None)):
        if not any(gather_object([batch is not None])):
            return
        yield batch


def _computed(batch: Batch, anchor: AnchorLogits, done: Mapping[bytes, int]) -> list[tuple[bytes, np.ndarray]]:
    """The logits of each document that is not done yet."""
    own = [each for each in documents(batch, anchor.first) if each.positions]
    if all(each.key in done for each in own):
        return []
    logits = anchor.of(batch).cpu().split([each.positions for each in own])
    pairs = zip(own, logits, strict=True)
    return [(each.key, part.numpy().astype("<f4")) for each, part in pairs if each.key not in done]


def _settings(anchor: AnchorLogits) -> dict[str, Any]:
    head = anchor.head
    return {
        "tokens": None if head.tokens is None else list(head.tokens),
        "size": head.size,
        "first": anchor.first,
        "centred": head.centred,
        "dtype": str(head.dtype).removeprefix("torch."),
    }


def _opened(folder: Path, batches: Iterable[Batch], anchor: AnchorLogits) -> CachedLogits:
    """A cache that was there, if it is the one that this run would write; all processes find the same."""
    cached = CachedLogits(folder, first=anchor.first, name=_name(folder))
    wrong = [each for each in gather_object([_misfit(cached, batches, anchor)]) if each]
    if wrong:
        raise InputError(f"{_name(folder)} {wrong[0]}; name another folder, or delete that one.")
    return cached


def _misfit(cached: CachedLogits, batches: Iterable[Batch], anchor: AnchorLogits) -> str | None:
    ours = _settings(anchor)
    other = next((key for key in ours if cached.settings.get(key) != ours[key]), None)
    if other == "tokens":
        return "is of other tokens"
    if other is not None:
        return f"was made with {other} {cached.settings.get(other)}, and this run has {ours[other]}"
    tried = False
    for batch in batches:
        if cached.missing(batch):
            return "lacks rows of this training set"
        # Weights are not compared: a few of their logits tell whether they are the same.
        if not tried and guarded_positions(batch, anchor.first).any():
            tried = True
            found, expected = cached.of(batch).cpu(), anchor.of(batch).cpu()
            if (found - expected).norm() > rounding(anchor.head.dtype) * expected.norm():
                return "was made with other weights"
    return None


def rounding(dtype: torch.dtype) -> float:
    """How far logits of one precision may be off that were computed in other company, relative to their size."""
    exact = dtype in (torch.float32, torch.float64) and torch.get_float32_matmul_precision() == "highest"
    return _CLOSE if exact else _ROUGH
