"""Rows one chunk after the other, from data that may be larger than the memory."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.csv
import pyarrow.parquet
from datasets import Dataset, Features

from moored.files import iterate_jsonl, sha256_of
from moored.huggingface.data.formats import (
    csv_options,
    file_type,
    is_file,
    no_rows,
    read_rows,
    refuse_twins,
    valid_file,
    written_rows,
)
from moored.huggingface.data.stored_dataset import read_dataset

Row = dict[str, Any]
_BLOCK = 256
"""Rows that are taken out of a table at once."""


@dataclass(frozen=True, kw_only=True)
class RowStream:
    """The rows of a dataset, read anew as often as they are asked for."""

    name: str
    count: int
    columns: list[str]
    """The columns of all rows together; a row of JSON lines may lack some."""
    sha256: str
    """The SHA-256 of the file, or over those of the files that hold the data set; in hex."""
    features: Features | None
    """The types of the columns, where the data brings them along."""
    read: Callable[[], Iterator[Row]]

    def __iter__(self) -> Iterator[Row]:
        """The rows in their order."""
        return self.read()

    def chunks(self, size: int) -> Iterator[list[Row]]:
        """Lists of `size` ≥ 1 rows, the last one maybe shorter."""
        rows = self.read()
        while chunk := list(islice(rows, size)):
            yield chunk


def open_rows(path_or_hub_id: str | Path, *, split: str = "train") -> RowStream:
    """A dataset as `read_rows` takes it, of which only a part is in memory at any time.

    JSON lines are read line by line, Parquet and CSV in batches; what lies in a folder of `datasets` or in the Hub's
    cache is memory mapped. Only a JSON array is read whole. The file is gone through once at the start, to count the
    rows and to find a broken one before long work.

    Raises:
        InputError: as `read_rows`.
    """
    if not is_file(path_or_hub_id):
        return _mapped(str(path_or_hub_id), read_dataset(path_or_hub_id, split=split, in_memory=False))
    path = Path(path_or_hub_id)
    kind = file_type(path)
    if kind == ".parquet":
        with valid_file(path, "Parquet"):
            schema = pyarrow.parquet.read_schema(path)
        refuse_twins(path, schema.names)
        return _surveyed(path, partial(_parquet, path), Features.from_arrow_schema(schema))
    if kind == ".csv":
        return _surveyed(path, partial(_csv, path))
    if kind == ".json" and _is_array(path):
        return _array(path)
    return _surveyed(path, partial(iterate_jsonl, path))


def _surveyed(path: Path, read: Callable[[], Iterator[Row]], features: Features | None = None) -> RowStream:
    count, columns = 0, dict[str, None]()
    for row in read():
        count += 1
        columns |= dict.fromkeys(row)
    if not count:
        raise no_rows(path)
    return RowStream(
        name=str(path), count=count, columns=list(columns), sha256=sha256_of(path), features=features, read=read
    )


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


def _array(path: Path) -> RowStream:
    rows = read_rows(path)
    return RowStream(
        name=str(path),
        count=len(rows),
        columns=rows.column_names,
        features=None,
        sha256=sha256_of(path),
        read=partial(written_rows, rows),
    )


def _mapped(name: str, rows: Dataset) -> RowStream:
    if not len(rows):
        raise no_rows(name)
    digest = hashlib.sha256("".join(sha256_of(file["filename"]) for file in rows.cache_files).encode()).hexdigest()
    return RowStream(
        name=name,
        count=len(rows),
        columns=rows.column_names,
        features=rows.features,
        sha256=digest,
        read=partial(_from_dataset, rows),
    )


def _from_dataset(rows: Dataset) -> Iterator[Row]:
    # As Arrow, so that no column (an image, say) is decoded.
    for table in rows.with_format("arrow").iter(batch_size=_BLOCK):
        yield from table.to_pylist()  # pyright: ignore[reportAttributeAccessIssue]
