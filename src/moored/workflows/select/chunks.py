"""The folder of a selection while its rows are scored: one file for each finished chunk, and what they depend on."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from moored.errors import InputError
from moored.files import require_place, whole_file, write_json
from moored.huggingface.gradients.dataset_scores import RowScores
from moored.huggingface.models import disk_errors
from moored.report.reading.record import read_record
from moored.report.reading.selection import SelectReport

_FOLDER = "scores"
_SAME: dict[str, Callable[[SelectReport], object]] = {
    "scored the rows at other weights": lambda report: report.model.weights_sha256,
    "scored other data": lambda report: report.data.sha256,
    "rendered the rows by another chat template": lambda report: report.rendering,
}
"""What is compared by its hash, with the words for a difference; names may change."""


class ScoreFiles:
    """The scores of each chunk of rows, on the disk as soon as they are known.

    Args:
        out: the folder of the selection.
        report: what the scores depend on: hashes, settings and versions; written before the first scores are.
    """

    def __init__(self, out: Path, report: SelectReport) -> None:
        self._out, self._report = out, report

    def __contains__(self, chunk: int) -> bool:
        """Whether a chunk is finished."""
        return self._file(chunk).is_file()

    def write(self, chunk: int, scores: RowScores) -> None:
        """Keeps the scores of a chunk, whole or not at all."""
        if not (self._out / SelectReport.file).is_file():
            write_json(self._out / SelectReport.file, self._report.to_dict())
        with whole_file(self._file(chunk)) as temporary, disk_errors():
            save_file({name: tensor.contiguous() for name, tensor in vars(scores).items()}, temporary)

    def read(self, chunks: int) -> RowScores:
        """Reads the scores of all rows, in their order."""
        parts = [self._read(chunk) for chunk in range(chunks)]
        return RowScores(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})

    def _read(self, chunk: int) -> dict[str, torch.Tensor]:
        try:
            return load_file(self._file(chunk))
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"{self._file(chunk)} cannot be read ({error}); delete it and continue with --resume."
            ) from error

    def remove(self) -> None:
        """Removes the files of the chunks, once the rows are written together with their scores."""
        shutil.rmtree(self._out / _FOLDER, ignore_errors=True)

    def _file(self, chunk: int) -> Path:
        return self._out / _FOLDER / f"{chunk:07d}.safetensors"


def require_free(out: Path, *, resume: bool) -> None:
    """Raises InputError for a folder that holds anything but, where it is to be resumed, a selection."""
    if not (out / SelectReport.file).is_file():
        require_place(out)
    elif not resume:
        raise InputError(f"{out} is in use; continue a selection in it with --resume, or name another folder.")


def earlier(out: Path, report: SelectReport) -> SelectReport | None:
    """Reads the selection that a folder holds, finished or not; None where there is none.

    Raises:
        InputError: it is of another kind, or of another selection than `report` describes.
    """
    if not (out / SelectReport.file).is_file():
        return None
    before = read_record(SelectReport, out)
    changes = [words for words, value in _SAME.items() if value(before) != value(report)]
    changes += _changed("was made with another setting of", before.settings, report.settings)
    changes += _changed("was made with another version of", before.versions, report.versions)
    if changes:
        raise InputError(f"The selection in {out} {changes[0]}; resume it with the same, or name another folder.")
    return before


def _changed(words: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{words} {key} ({before.get(key)} then, {now.get(key)} now)"
        for key in {**before, **now}
        if before.get(key) != now.get(key)
    ]
