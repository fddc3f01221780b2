"""Rows one chunk after the other, from data that may be larger than the memory."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.csv
import pyarrow.parquet
from datasets import Dataset, Features

from moored.errors import InputError
from moored.files import iterate_jsonl, read_text, sha256_of
from moored.huggingface.data.encoding import is_whole
from moored.huggingface.data.formats import (
    Row,
    as_written,
    csv_options,
    file_type,
    is_file,
    no_rows,
    refuse_twins,
    valid_file,
)
from moored.huggingface.data.stored_dataset import read_dataset

_BLOCK = 256
"""Rows that are taken out of a table at once."""


@dataclass(frozen=True, kw_only=True)
class RowStream:
    """The rows of a dataset, read anew as often as they are asked for."""

    name: str
    features: Features | None
    """The types of the columns, where the data brings them along."""
    read: Callable[[], Iterator[Row]]
    digest: Callable[[], str]

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the file, or over those of the files that hold the data set; in hex."""
        return self.digest()

    @property
    def count(self) -> int:
        """The number of rows."""
        return self._survey[0]

    @property
    def columns(self) -> list[str]:
        """The columns of all rows together; a row of JSON lines may lack some."""
        return self._survey[1]

    @cached_property
    def _survey(self) -> tuple[int, list[str]]:
        """All rows are gone through once, which also finds a broken one before long work."""
        count, columns = 0, dict[str, None]()
        for row in self:
            count += 1
            columns |= dict.fromkeys(row)
        return count, list(columns)

    def __iter__(self) -> Iterator[Row]:
        """The rows in their order, as a table has them.

        Raises:
            InputError: there is none, or one that cannot be read (with its number).
        """
        row = None
        for row in self.read():
            yield row
        if row is None:
            raise no_rows(self.name)

    def chunks(self, size: int) -> Iterator[list[Row]]:
        """Lists of `size` ≥ 1 rows, the last one maybe shorter, each row as its file has it.

        What a table keeps as JSON is read, and the nulls inside structures, which give each the keys of all, are gone.
        """
        rows = iter(self)
        features = self.features
        while chunk := list(islice(rows, size)):
            yield chunk if features is None else [_written(row, features) for row in chunk]

    def take(self, positions: Sequence[int]) -> list[Row]:
        """The rows at ascending positions (from 0), each as its file has it."""
        wanted = set(positions)
        rows = (row for chunk in self.chunks(_BLOCK) for row in chunk)
        return [row for position, row in enumerate(rows) if position in wanted]


def _written(row: Row, features: Mapping[str, Any]) -> Row:
    return {name: as_written(value, features[name]) for name, value in row.items()}


def read_rows(path_or_hub_id: str | Path, *, split: str = "train") -> list[Row]:
    """All rows of a small dataset that `open_rows` takes, each with every column; None where it lacks one.

    Raises:
        InputError: as `open_rows`, or a text holds half a character.
    """
    rows = [row for chunk in open_rows(path_or_hub_id, split=split).chunks(_BLOCK) for row in chunk]
    texts = (json.dumps(row, ensure_ascii=False, default=str) for row in rows)
    half = next((number for number, text in enumerate(texts, 1) if not is_whole(text)), None)
    if half is not None:
        raise InputError(f"Row {half} of {path_or_hub_id} holds half a character (a lone surrogate); correct it.")
    columns = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in columns} for row in rows]


def open_rows(path_or_hub_id: str | Path, *, split: str = "train") -> RowStream:
    """The rows of a local JSONL, JSON, Parquet or CSV file, of a folder that `datasets` saved, or of the Hub.

    Only a part of them is in memory at any time: JSON lines are read line by line, Parquet and CSV in batches; what
    lies in a folder of `datasets` or in the Hub's cache is memory mapped. Only a JSON array is read whole.

    Args:
        path_or_hub_id: a file (told by its suffix), a folder, or `organization/name` of a dataset.
        split: which split of a Hub dataset or of a folder with several; a local file has only one.

    Raises:
        InputError: the file is missing or empty, its type is unknown, or the folder or Hub id cannot be loaded. That
            a row is broken shows where it is read.
    """
    if not is_file(path_or_hub_id):
        return _mapped(str(path_or_hub_id), read_dataset(path_or_hub_id, split=split))
    path = Path(path_or_hub_id)
    kind, features = file_type(path), None
    if kind == ".parquet":
        with valid_file(path, "Parquet"):
            schema = pyarrow.parquet.read_schema(path)
        refuse_twins(path, schema.names)
        read, features = _parquet, Features.from_arrow_schema(schema)
    elif kind == ".csv":
        read = _csv
    else:
        read = _array if kind == ".json" and _is_array(path) else iterate_jsonl
    return RowStream(name=str(path), features=features, read=partial(read, path), digest=partial(sha256_of, path))


def _parquet(path: Path) -> Iterator[Row]:
    with valid_file(path, "Parquet"), pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_BLOCK):
            yield from batch.to_pylist()


def _csv(path: Path) -> Iterator[Row]:
    with valid_file(path, "CSV"), pyarrow.csv.open_csv(path, **csv_options(path)) as file:
        refuse_twins(path, file.schema.names)
        for batch in file:
            for start in range(0, len(batch), _BLOCK):
                yield from batch.slice(start, _BLOCK).to_pylist()


def _is_array(path: Path) -> bool:
    """Whether a `.json` file is one array; one object a line is common too."""
    with path.open("rb") as file:
        return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def _array(path: Path) -> Iterator[Row]:
    try:
        rows = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno} is not valid JSON: {error.msg}.") from None
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise InputError(f"Row {number} of {path} is not a JSON object; write an array of objects.")
        yield row


def _mapped(name: str, rows: Dataset) -> RowStream:
    return RowStream(name=name, features=rows.features, read=partial(_from_dataset, rows), digest=partial(_files, rows))


def _files(rows: Dataset) -> str:
    """A hash over the files of a dataset, the part of them that it is, and what is in memory alone."""
    files = [sha256_of(file["filename"]) for file in rows.cache_files]
    return hashlib.sha256("\n".join([*files, str(rows.split), "" if files else rows._fingerprint]).encode()).hexdigest()


def _from_dataset(rows: Dataset) -> Iterator[Row]:
    # As Arrow, so that no column (an image, say) is decoded.
    for table in rows.with_format("arrow").iter(batch_size=_BLOCK):
        yield from table.to_pylist()  # pyright: ignore[reportAttributeAccessIssue]
