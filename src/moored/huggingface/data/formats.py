"""Files of rows: their types, what pyarrow needs to read them, and a row as its file has it."""

import csv
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
from datasets import Json

from moored.errors import InputError, first_line

Row = dict[str, Any]
_SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet", ".csv")
_CSV_BLOCK = 8 << 20
"""Bytes that are read at once."""


def is_file(path_or_hub_id: str | Path) -> bool:
    """Whether a name means a local file, which may be missing; otherwise a folder or a dataset on the Hub."""
    path = Path(path_or_hub_id)
    return not path.is_dir() and (path.exists() or path.suffix.lower() in _SUFFIXES)


def file_type(path: Path) -> str:
    """The suffix that tells a data file's type; raises InputError where it is missing, empty or of an unknown type."""
    if not path.exists():
        raise InputError(f"There is no file {path}; check the path.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; it needs at least one row.")
    if path.suffix.lower() not in _SUFFIXES:
        raise InputError(f"{path} has an unknown type; use one of {', '.join(_SUFFIXES)}, or a folder of `datasets`.")
    return path.suffix.lower()


def no_rows(name: str | Path) -> InputError:
    """The error for data without a single row."""
    return InputError(f"{name} holds no rows; it needs at least one.")


def as_written(value: Any, feature: Any) -> Any:
    """A value of a table as its file has it: what is kept as JSON is read, and what the table filled in is left out.

    Args:
        value: as `pyarrow` gives it: a row, a column's value, or a part of one.
        feature: its type as `datasets` names it; the features of a whole table for a row.
    """
    if isinstance(feature, Json):
        return json.loads(value) if isinstance(value, str) else value
    if isinstance(value, Mapping):
        of = feature if isinstance(feature, Mapping) else {}
        return {name: as_written(each, of.get(name)) for name, each in value.items() if each is not None}
    if isinstance(value, list):
        return [as_written(each, getattr(feature, "feature", None)) for each in value]
    return value


def refuse_twins(path: Path, columns: list[str]) -> None:
    """Raises InputError for a column name that a file has twice."""
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path} has the column {twice} twice; rename one of them.")


def csv_options(path: Path) -> dict[str, Any]:
    """How pyarrow reads a CSV file: all columns as text, for one of numbers is still a prompt or a completion."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        names = next(csv.reader(file), [])
    return {
        "parse_options": pyarrow.csv.ParseOptions(newlines_in_values=True),
        "convert_options": pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        # One thread, because only then does an error name its row; a row must fit into a block.
        "read_options": pyarrow.csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK),
    }


@contextmanager
def valid_file(path: Path, kind: str) -> Iterator[None]:
    """Turns what pyarrow says of a file that it cannot read into InputError."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a valid {kind} file ({first_line(error)}); write it again.") from error
