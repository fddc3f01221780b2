"""The readers of texts and JSON lines, with one sentence for whatever is wrong with a file."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from moored.errors import InputError


def read_text(path: Path | str) -> str:
    """The text of a UTF-8 file, with one sentence where it cannot be read."""
    path = Path(path)
    with _read_errors(path):
        try:
            return path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise _not_utf8(path, error.start) from None


def _not_utf8(path: Path, byte: int) -> InputError:
    return InputError(f"{path} is not UTF-8 text (byte {byte}); convert it to UTF-8.")


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    """Turns what can be wrong with a file that is read into InputError."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"There is no file {path}; check the path.") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder where a file is expected; name a file inside it.") from None
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error


def read_jsonl(path: Path | str) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file; blank lines are skipped.

    Raises:
        InputError: the file is missing, empty, or has a line that is no JSON object (with its number).
    """
    rows = list(iterate_jsonl(path))
    if not rows:
        raise InputError(f"{path} holds no rows; it needs at least one JSON object.")
    return rows


def iterate_jsonl(path: Path | str) -> Iterator[dict[str, Any]]:
    """The rows of a JSON-lines file, one after the other, for files that are larger than the memory; maybe none.

    Raises:
        InputError: the file is missing, or has a line that is no JSON object (with its number).
    """
    for number, line in enumerate(_lines(Path(path)), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.rstrip())
        except json.JSONDecodeError as error:
            what = f"{error.msg.removesuffix(' at')} at column {error.colno}"
            raise InputError(f"{path}, line {number} is not valid JSON: {what}.") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number} is not a JSON object; write one object a line.")
        yield row


def _lines(path: Path) -> Iterator[str]:
    """Lines end at line feeds alone: a JSON string may hold other characters that count as ends of lines in Python."""
    before = 0
    with _read_errors(path), path.open("rb") as file:
        for number, raw in enumerate(file):
            try:
                yield raw.decode("utf-8" if number else "utf-8-sig")
            except UnicodeDecodeError as error:
                raise _not_utf8(path, before + error.start) from None
            before += len(raw)


def sha256_of(path: Path | str) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
