"""Rows written as a folder of `datasets`, a block at a time."""

import tempfile
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

import pyarrow as pa
from datasets import Dataset, Features, Value
from datasets.arrow_writer import ArrowWriter

from moored.errors import InputError, first_line
from moored.files import whole_folder
from moored.huggingface.data.stream import Row, RowStream

_BLOCK = 1000
"""Rows that are in memory at once."""


def features_of(rows: RowStream) -> Features:
    """The type of every column, for `save_rows`; JSON lines are gone through for it.

    Raises:
        InputError: a column mixes types, or a value has a type that no table has.
    """
    if rows.features is not None:
        return rows.features
    schema = pa.schema([])
    try:
        for block in rows.chunks(_BLOCK):
            found = pa.schema(list(pa.array(block).type))
            schema = pa.unify_schemas([schema, found], promote_options="permissive")
    except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
        raise InputError(
            f"The columns of {rows.name} do not make a table ({first_line(error)}); use --format jsonl."
        ) from error
    return Features.from_arrow_schema(schema)


def unfit_for_json(rows: RowStream) -> list[str]:
    """The columns whose values JSON has no form for: bytes, times, images."""
    schema = pa.schema([]) if rows.features is None else rows.features.arrow_schema
    return [field.name for field in schema if not _fits_json(field.type)]


def _fits_json(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _fits_json(kind.value_type)
    if kind.num_fields:
        return all(_fits_json(kind.field(n).type) for n in range(kind.num_fields))
    types = pa.types
    checks = (
        types.is_string,
        types.is_large_string,
        types.is_boolean,
        types.is_integer,
        types.is_floating,
        types.is_null,
    )
    return any(check(kind) for check in checks)


def save_rows(folder: Path, rows: Iterable[Row], features: Features, more: Mapping[str, str] | None = None) -> None:
    """Writes rows as `Dataset.save_to_disk` does, whole or not at all; what is in the folder is replaced.

    Args:
        folder: where to.
        rows: at least one; what a row lacks is None.
        features: the types of the columns.
        more: further columns with their types, as Arrow names them.
    """
    features = Features({**features, **{name: Value(kind) for name, kind in (more or {}).items()}})
    rows, schema = iter(rows), features.arrow_schema
    with whole_folder(folder, overwrite=True) as temporary, tempfile.TemporaryDirectory(dir=temporary.parent) as beside:
        table = str(Path(beside) / "rows.arrow")
        with ArrowWriter(features=features, path=table) as writer:
            while block := list(islice(rows, _BLOCK)):
                writer.write_table(pa.Table.from_pylist(block, schema=schema))
            writer.finalize()
        Dataset.from_file(table).save_to_disk(temporary)
