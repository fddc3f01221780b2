"""The folder of a selection while its rows are scored: one file per finished chunk, and whose scores they are."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from moored.errors import InputError
from moored.files import read_text, require_place, whole_file, write_json
from moored.huggingface.gradients.dataset_scores import RowScores
from moored.huggingface.models import disk_errors

REPORT = "report.json"
_FOLDER = "scores"
_SAME = {
    "model": ("weights_sha256", "scored the rows at other weights"),
    "data": ("sha256", "scored other data"),
    "rendering": ("chat_template_sha256", "rendered the rows by another chat template"),
}
"""What is compared by its hash, and how it is told; names may change."""


class ScoreFiles:
    """The scores of each chunk of rows, on the disk as soon as they are known.

    Args:
        out: the folder of the selection.
        record: what the scores depend on: hashes, settings and versions; written before the first scores are.
    """

    def __init__(self, out: Path, record: Mapping[str, Any]) -> None:
        self._out, self._record = out, record

    def __contains__(self, chunk: int) -> bool:
        """Whether a chunk is finished."""
        return self._file(chunk).is_file()

    def write(self, chunk: int, scores: RowScores) -> None:
        """Keeps the scores of a chunk, whole or not at all."""
        if not (self._out / REPORT).is_file():
            write_json(self._out / REPORT, {**self._record, "finished": False})
        with whole_file(self._file(chunk)) as temporary, disk_errors():
            save_file({name: tensor.contiguous() for name, tensor in vars(scores).items()}, temporary)

    def read(self, chunks: int) -> RowScores:
        """The scores of all rows, in their order."""
        parts = [self._read(chunk) for chunk in range(chunks)]
        return RowScores(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})

    def _read(self, chunk: int) -> dict[str, torch.Tensor]:
        try:
            return load_file(self._file(chunk))
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"{self._file(chunk)} cannot be read ({error}); delete it and go on by --resume."
            ) from error

    def remove(self) -> None:
        """What nobody needs once the rows are written together with their scores."""
        shutil.rmtree(self._out / _FOLDER, ignore_errors=True)

    def _file(self, chunk: int) -> Path:
        return self._out / _FOLDER / f"{chunk:07d}.safetensors"


def require_free(out: Path, *, resume: bool) -> None:
    """Raises InputError for a folder that holds anything but, where it is to be resumed, a selection."""
    if not (out / REPORT).is_file():
        require_place(out)
    elif not resume:
        raise InputError(f"{out} is in use already; go on with a selection in it by --resume, or name another folder.")


def begun(out: Path, record: Mapping[str, Any]) -> dict[str, Any] | None:
    """The report of the selection that a folder holds, finished or not, or None where there is none.

    Raises:
        InputError: it is of another kind, or of another selection than `record` describes.
    """
    if not (out / REPORT).is_file():
        return None
    try:
        before = json.loads(read_text(out / REPORT))
        differences = _differences(before, json.loads(json.dumps(record)))
    except (json.JSONDecodeError, TypeError, KeyError, AttributeError):
        raise InputError(f"{out / REPORT} is not the report of a selection; name another folder.") from None
    if differences:
        raise InputError(f"The selection in {out} {differences[0]}; resume it with the same, or name another folder.")
    return before


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    told = [how for part, (key, how) in _SAME.items() if before[part][key] != now[part][key]]
    for part, what in (
        ("settings", "was made with another setting of"),
        ("versions", "was made with another version of"),
    ):
        for key in {**before[part], **now[part]}:
            then, today = before[part].get(key), now[part].get(key)
            if then != today:
                told.append(f"{what} {key} ({then} then, {today} now)")
    return told
