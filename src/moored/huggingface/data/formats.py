"""Rows from a file or from the Hub."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from datasets import Dataset, DatasetInfo, Features, Json

from moored.errors import InputError, first_line
from moored.files import read_jsonl, read_text
from moored.huggingface.data.messages import without_nulls
from moored.huggingface.data.stored_dataset import read_dataset

_CSV_BLOCK = 8 << 20
"""Bytes that are read at once."""


def read_rows(path_or_hub_id: str | Path, *, split: str = "train") -> Dataset:
    """The rows of a local JSONL, JSON, Parquet or CSV file, of a folder that `datasets` saved, or of the Hub.

    Args:
        path_or_hub_id: a file (told by its suffix), a folder (read into memory), or `organization/name` of a dataset.
        split: which split of a Hub dataset or of a folder with several; a local file has only one.

    Raises:
        InputError: the file is missing, empty or broken (with the line), its type is unknown, or the Hub id
            cannot be loaded.
    """
    if is_file(path_or_hub_id):
        path = Path(path_or_hub_id)
        rows = _READERS[file_type(path)](path)
    else:
        rows = read_dataset(path_or_hub_id, split=split, in_memory=True)
    if not len(rows):
        raise no_rows(path_or_hub_id)
    return rows


def is_file(path_or_hub_id: str | Path) -> bool:
    """Whether a name means a local file, which may be missing; otherwise a folder or a dataset on the Hub."""
    path = Path(path_or_hub_id)
    return not path.is_dir() and (path.exists() or path.suffix.lower() in _READERS)


def file_type(path: Path) -> str:
    """The suffix that tells a data file's type; raises InputError where it is missing, empty or of an unknown type."""
    if not path.exists():
        raise InputError(f"There is no file {path}; check the path.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; it needs at least one row.")
    if path.suffix.lower() not in _READERS:
        raise InputError(f"{path} has an unknown type; use one of {', '.join(_READERS)}, or a folder of `datasets`.")
    return path.suffix.lower()


def no_rows(name: str | Path) -> InputError:
    """The error for data without a single row."""
    return InputError(f"{name} holds no rows; it needs at least one.")


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
    return as_table(rows, list(dict.fromkeys(name for row in rows for name in row)), where=str(path))


def as_table(rows: list[dict[str, Any]], columns: list[str], *, where: str, first: int = 1) -> Dataset:
    """Rows as a dataset in memory with these columns; a row that lacks one holds None there.

    Not `Dataset.from_list`, which leaves out the columns that the first row lacks. Read rows of it by `as_written`.

    Args:
        rows: at least one.
        columns: their names.
        where: the name of the data in errors.
        first: the number of the first row in errors.

    Raises:
        InputError: a column mixes types, or a row holds a value that no table can hold.
    """
    nested = [name for name in columns if any(isinstance(row.get(name), dict | list) for row in rows)]
    data = {name: [row.get(name) for row in rows] for name in columns}
    try:
        # A column of structures would give every row the keys of all rows. It is kept as JSON, which is the rows' own.
        table = Dataset.from_dict(data | {name: [_as_json(value) for value in data[name]] for name in nested})
    except pa.ArrowException as error:
        raise InputError(f"A column of {where} mixes types ({first_line(error)}); give it one type.") from error
    except (UnicodeEncodeError, OverflowError) as error:
        row = f"Row {_row_without_a_place(rows) + first} of {where}"
        raise InputError(f"{row} holds a value that no table can hold ({first_line(error)}); correct it.") from error
    return _marked_as_json(table, nested)


def _as_json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _marked_as_json(table: Dataset, columns: list[str]) -> Dataset:
    """Gives columns of text the type of JSON. `cast` would parse and write them again, and round numbers."""
    arrow, features = table.data.table, dict[str, Any](table.features)
    for name in columns:
        text = arrow[name].combine_chunks().cast(pa.string())
        arrow = arrow.set_column(arrow.column_names.index(name), name, pa.ExtensionArray.from_storage(pa.json_(), text))
        features[name] = Json(decode=False)
    return (
        Dataset(arrow.replace_schema_metadata(None), info=DatasetInfo(features=Features(features)))
        if columns
        else table
    )


def written_rows(rows: Dataset) -> Iterator[dict[str, Any]]:
    """The rows of a dataset as `as_written` gives them."""
    features = rows.features
    for row in rows:
        yield as_written(row, features)  # pyright: ignore[reportArgumentType]


def as_written(row: Mapping[str, Any], features: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a dataset as its file has it: what is kept as JSON is read, and what a table filled in is left out."""
    return {name: _as_its_file_has_it(value, features.get(name)) for name, value in row.items()}


def _as_its_file_has_it(value: Any, feature: Any) -> Any:
    if not isinstance(feature, Json):
        return without_nulls(value)
    return json.loads(value) if isinstance(value, str) and not feature.decode else value


def _row_without_a_place(rows: list[dict[str, Any]]) -> int:
    """The index of the first row with half a character (a lone surrogate) or a number of more than 64 bits."""
    for number, row in enumerate(rows):
        try:
            pa.array([row])
        except (UnicodeEncodeError, OverflowError, pa.ArrowException):
            return number
    raise AssertionError("every row has a place")


def _from_table(path: Path, table: pa.Table) -> Dataset:
    refuse_twins(path, table.column_names)
    return Dataset(table)


def refuse_twins(path: Path, columns: list[str]) -> None:
    """Raises InputError for a column name that a file has twice."""
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path} has the column {twice} twice; rename one of them.")


def _read_parquet(path: Path) -> Dataset:
    with valid_file(path, "Parquet"):
        return _from_table(path, pyarrow.parquet.read_table(path))


def _read_csv(path: Path) -> Dataset:
    with valid_file(path, "CSV"):
        return _from_table(path, pyarrow.csv.read_csv(path, **csv_options(path)))


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


_READERS: dict[str, Callable[[Path], Dataset]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".parquet": _read_parquet,
    ".csv": _read_csv,
}
