"""The rows of a whole dataset as tokens and labels: in several processes, with flat memory, and once for all runs."""

import json
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa
from datasets import Dataset
from datasets.utils import tqdm

from moored.errors import InputError
from moored.files import clear, read_text, whole_folder, write_json
from moored.huggingface.data.formats import Row
from moored.huggingface.data.notices import say
from moored.huggingface.data.prepared_folder import prepared_folder
from moored.huggingface.data.row_tokens import Supervision
from moored.huggingface.data.stream import RowStream
from moored.huggingface.data.supervision import SCHEMA, TOGETHER, Block, supervise, take_note, tokenized
from moored.huggingface.data.workers import in_order, worker_count
from moored.locks import locked_cache

_FEW = 8
"""So many blocks are tokenized here and kept in memory, which takes less time than starting processes."""
_TOKENS, _NOTICES = "tokens.arrow", "notices.json"


def prepare_rows(rows: RowStream, how: Supervision, *, num_proc: int | None = None) -> Dataset:
    """All rows of a dataset as `supervise` makes them of some.

    Thousands of rows are written to the cache of `datasets` while they are read, by several processes. The next call
    for the same rows, tokenizer and settings finds them there.

    Args:
        rows: the dataset.
        how: the tokenizer and the settings.
        num_proc: processes to tokenize with; None takes one a core where there are many rows.

    Raises:
        InputError: a row cannot be read or has the wrong form (with its number), or the cache cannot be written.
        ModelError: a chat cannot be rendered, or not be read by its turns (with the number of its row).
    """
    chunks = rows.chunks(TOGETHER)
    begin = list(islice(chunks, _FEW))
    if len(begin) < _FEW:
        return supervise(list(chain(*begin)), how, where=rows.name)
    folder = prepared_folder(rows, how)
    with locked_cache(folder.with_suffix(".lock"), "HF_DATASETS_CACHE"):
        if not folder.exists():
            _write(folder, rows, chain(begin, chunks), how, num_proc or worker_count())
    say(json.loads(read_text(folder / _NOTICES)), rows.name)
    return Dataset.from_file(str(folder / _TOKENS))


def _write(folder: Path, rows: RowStream, chunks: Iterator[list[Row]], how: Supervision, workers: int) -> None:
    """Writes the tokens of all chunks and the notices, whole or not at all."""
    name, asked_for = rows.name, rows.sha256
    clear(folder)
    with (
        closing(in_order(partial(_numbered, how=how, where=name), enumerate(chunks), workers)) as blocks,
        whole_folder(folder) as temporary,
        (temporary / _TOKENS).open("wb") as file,
        pa.ipc.new_stream(file, SCHEMA) as writer,
        tqdm(desc=f"Tokenizing {name}", unit=" rows") as progress,
    ):
        for block in blocks:
            take_note(block, how, name)
            writer.write_batch(block.tokens)
            progress.update(len(block.tokens))
        write_json(temporary / _NOTICES, how.notices.sentences())
        if rows.digest() != asked_for:
            raise InputError(f"{name} has changed while it was read; run the command again.")


def _numbered(chunk: tuple[int, list[Row]], how: Supervision, where: str) -> Block:
    number, rows = chunk
    return tokenized(rows, how, where, first=number * TOGETHER + 1)
