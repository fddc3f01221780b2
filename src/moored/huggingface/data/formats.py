"""Rows from a file or from the Hub."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from datasets import Dataset, load_dataset
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

from moored.errors import InputError
from moored.files import read_jsonl, read_text


def read_rows(path_or_hub_id: str | Path, *, split: str = "train") -> Dataset:
    """The rows of a local JSONL, JSON, Parquet or CSV file, or of a dataset on the Hub.

    Args:
        path_or_hub_id: a file (told by its suffix), or `organization/name` of a dataset.
        split: which split of a Hub dataset; a local file has only one.

    Raises:
        InputError: the file is missing, empty or broken (with the line), its type is unknown, or the Hub id
            cannot be loaded.
    """
    path = Path(path_or_hub_id)
    if path.exists() or path.suffix.lower() in _READERS:
        rows = _read_file(path)
    else:
        rows = _read_hub(str(path_or_hub_id), split)
    if not len(rows):
        raise InputError(f"{path_or_hub_id} holds no rows; it needs at least one.")
    return rows


def _read_file(path: Path) -> Dataset:
    if path.is_dir():
        raise InputError(f"{path} is a folder where a data file is expected; name a file inside it.")
    if not path.exists():
        raise InputError(f"There is no file {path}; check the path.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; it needs at least one row.")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path} has an unknown type; use one of {', '.join(_READERS)}.")
    return reader(path)


def _read_jsonl(path: Path) -> Dataset:
    return _from_list(path, read_jsonl(path))


def _read_json(path: Path) -> Dataset:
    """A JSON array of objects; a `.json` file with one object a line is common too and read as such."""
    text = read_text(path)
    if not text.lstrip().startswith("["):
        return _read_jsonl(path)
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno} is not valid JSON: {error.msg}.") from None
    wrong = next((number for number, row in enumerate(rows, 1) if not isinstance(row, dict)), None)
    if wrong is not None:
        raise InputError(f"Row {wrong} of {path} is not a JSON object; write an array of objects.")
    return _from_list(path, rows)


def _from_list(path: Path, rows: list[dict[str, Any]]) -> Dataset:
    try:
        return Dataset.from_list(rows)
    except pa.ArrowException as error:
        raise InputError(f"A column of {path} mixes types ({_first_line(error)}); give it one type.") from error
    except (UnicodeEncodeError, OverflowError) as error:
        where = f"Row {_row_without_a_place(rows)} of {path}"
        raise InputError(f"{where} holds a value that no table can hold ({_first_line(error)}); mend it.") from error


def _row_without_a_place(rows: list[dict[str, Any]]) -> int:
    """The number of the first row with half a character (a lone surrogate) or a number of more than 64 bits."""
    for number, row in enumerate(rows, 1):
        try:
            pa.array([row])
        except (UnicodeEncodeError, OverflowError, pa.ArrowException):
            return number
    raise AssertionError("every row has a place")


def _from_table(path: Path, table: pa.Table) -> Dataset:
    names = table.column_names
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path} has the column {twice} twice; rename one of them.")
    return Dataset(table)


def _read_parquet(path: Path) -> Dataset:
    try:
        return _from_table(path, pyarrow.parquet.read_table(path))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a valid Parquet file ({_first_line(error)}); write it again.") from error


def _read_csv(path: Path) -> Dataset:
    """All columns as text: a column of numbers is still a prompt or a completion."""
    names = next(csv.reader(io.StringIO(read_text(path))), [])
    options = {
        "parse_options": pyarrow.csv.ParseOptions(newlines_in_values=True),
        "convert_options": pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        # One thread, because only then does an error name its row.
        "read_options": pyarrow.csv.ReadOptions(use_threads=False),
    }
    try:
        return _from_table(path, pyarrow.csv.read_csv(path, **options))
    except pa.ArrowException as error:
        raise InputError(f"{path} is not a valid CSV file ({_first_line(error)}); write it again.") from error


_READERS: dict[str, Callable[[Path], Dataset]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".parquet": _read_parquet,
    ".csv": _read_csv,
}


def _read_hub(name: str, split: str) -> Dataset:
    try:
        rows = load_dataset(name, split=split)
    except (DatasetNotFoundError, DatasetGenerationError, HFValidationError, OfflineModeIsEnabled) as error:
        raise InputError(_no_dataset(name, error)) from error
    except (ConnectionError, FileNotFoundError, ValueError) as error:
        raise InputError(_no_dataset(name, error)) from error
    assert isinstance(rows, Dataset)
    return rows


def _no_dataset(name: str, error: Exception) -> str:
    return f"{name} is neither a file here nor a dataset that can be loaded ({_first_line(error)}); check the name."


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0].rstrip(".")
