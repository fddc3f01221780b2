"""The rows that a selection writes: all with their scores, and those that were kept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from moored.errors import InputError
from moored.files import write_json, write_jsonl
from moored.huggingface.data import RowStream, save_rows, unfit_for_json
from moored.huggingface.gradients.dataset_scores import RowScores
from moored.report.reading.selection import FilesRecord

COLUMNS = {
    "moored_loss": "float64",
    "moored_gradient_norm": "float64",
    "moored_tokens": "int64",
    "moored_kept": "bool",
}
"""The columns that a scored row gets: loss in nats, L2 norm, supervised tokens, and whether it was kept."""


def refuse_unwritable(rows: RowStream, form: str) -> None:
    """Raises InputError before long work for what could not be written after it, as `jsonl` or `datasets`."""
    own = next((name for name in COLUMNS if name in rows.columns), None)
    if own is not None:
        raise InputError(f"{rows.name} has a column {own} already; take the data it was selected from, or rename it.")
    odd = [] if form == "datasets" else unfit_for_json(rows)
    if odd:
        raise InputError(f"The column {odd[0]} of {rows.name} cannot be written as JSON; use --format datasets.")


def write_selected(out: Path, rows: RowStream, scores: RowScores, kept: torch.Tensor, features: Any) -> FilesRecord:
    """Writes the three files of rows, each whole or not at all."""
    suffix = ".jsonl" if features is None else ""
    is_kept = torch.zeros(rows.count, dtype=torch.bool).index_fill(0, kept, True).tolist()
    scored = _with_scores(rows, scores, is_kept)
    chosen = (row for row, keep in zip(rows, is_kept, strict=True) if keep)
    if features is None:
        write_jsonl(out / "scored.jsonl", scored)
        write_jsonl(out / "kept.jsonl", chosen)
    else:
        save_rows(out / "scored", scored, features, COLUMNS)
        save_rows(out / "kept", chosen, features)
    write_json(out / "kept_indices.json", kept.tolist())
    return FilesRecord(scored=f"scored{suffix}", kept=f"kept{suffix}", kept_indices="kept_indices.json")


def _with_scores(rows: RowStream, scores: RowScores, is_kept: list[bool]) -> Iterator[dict[str, Any]]:
    columns = (scores.losses.tolist(), scores.norms.tolist(), scores.lengths.tolist(), is_kept)
    for row, loss, norm, length, keep in zip(rows, *columns, strict=True):
        own = (loss, norm, length, keep) if length else (None, None, 0, keep)
        yield {**row, **dict(zip(COLUMNS, own, strict=True))}
