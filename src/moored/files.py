"""Files that appear whole or not at all, and the small readers and writers that every room shares."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from moored.errors import InputError


@contextmanager
def whole_file(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path beside `path` and renames it over `path` only when the block succeeds.

    Raises:
        InputError: the folder cannot be written or the disk is full.
    """
    path = Path(path)
    with _as_user_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path | str, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a temporary folder beside `path` and renames it to `path` only when the block succeeds.

    Raises:
        InputError: `path` is there already and not empty (unless `overwrite`), cannot be written, or the disk
            is full.
    """
    path = Path(path)
    if not overwrite:
        refuse_non_empty(path)
    with _as_user_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            yield temporary
            temporary.chmod(0o755)
            if path.exists():
                shutil.rmtree(path)
            temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def refuse_non_empty(folder: Path | str) -> None:
    """Raises InputError when `folder` is a file or holds anything."""
    folder = Path(folder)
    if folder.is_file():
        raise InputError(f"{folder} is a file, but a folder is to be written there; name another folder.")
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"The output folder {folder} is not empty; name another one or empty it first.")


@contextmanager
def _as_user_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        reason = error.strerror or str(error)
        raise InputError(f"Cannot write {path}: {reason}; free space or name another place.") from error


def read_text(path: Path | str) -> str:
    """The text of a UTF-8 file, with one sentence where it cannot be read."""
    path = Path(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"There is no file {path}; check the path.") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder where a file is expected; name a file inside it.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); convert it to UTF-8.") from None
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error


def read_jsonl(path: Path | str) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file; blank lines are skipped.

    Raises:
        InputError: the file is missing, empty, or has a line that is no JSON object (with its number).
    """
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {number} is not valid JSON: {error.msg}.") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number} is not a JSON object; write one object a line.")
        rows.append(row)
    if not rows:
        raise InputError(f"{path} holds no rows; it needs at least one JSON object.")
    return rows


def write_json(path: Path | str, value: Any) -> None:
    """Writes one JSON value, indented, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_jsonl(path: Path | str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line, whole or not at all."""
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def sha256_of(path: Path | str) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
