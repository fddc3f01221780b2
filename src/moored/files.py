"""Files that appear whole or not at all, and the small readers and writers that every room shares."""

import errno
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
from moored.leftovers import REPLACED
from moored.outputs import OwnOutput

_THE_PLACE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EBUSY),
    errno.ENOTEMPTY,
}
"""What can be wrong with the place where something is written; other failures are none of the user's."""

_SEPARATORS = str.maketrans({mark: f"\\u{ord(mark):04x}" for mark in "\u0085\u2028\u2029"})
"""Many readers take these for ends of lines, which JSON does not."""


@contextmanager
def whole_file(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path beside `path` and renames it over `path` only when the block succeeds.

    Raises:
        InputError: the folder cannot be written or the disk is full.
    """
    path = Path(path).absolute()
    with _as_user_error(path), _parents(path):
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
def whole_folder(path: Path | str, *, overwrite: bool = False, own: OwnOutput | None = None) -> Iterator[Path]:
    """Yields a temporary folder beside `path` and renames it to `path` only when the block succeeds.

    Args:
        path: the folder.
        overwrite: whether what is there may be replaced.
        own: the only kind of output that is replaced; None takes any.

    Raises:
        InputError: `path` is there already and not empty (unless `overwrite`), cannot be written, or the disk
            is full.
    """
    path = _led(Path(path).absolute())
    require_place(path, overwrite=overwrite, own=own)
    with _as_user_error(path), _parents(path):
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            yield temporary
            _share(temporary)
            # What has come meanwhile is nobody's to delete, either.
            require_place(path, overwrite=overwrite, own=own)
            _install(temporary, path, replace=overwrite)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _led(path: Path) -> Path:
    """Where a link leads, often to another disk; a folder must not take the place of the link."""
    return path.resolve() if path.is_symlink() else path


def _share(folder: Path) -> None:
    """Ordinary permissions: temporary folders, and safetensors files, are their owner's alone."""
    folder.chmod(0o755)
    for inside in folder.rglob("*"):
        if not inside.is_symlink():
            inside.chmod(0o755 if inside.is_dir() else 0o644)


def _install(temporary: Path, path: Path, *, replace: bool) -> None:
    """Renames a finished folder into place; a mount or the working folder has to stay, so it is filled instead."""
    if path.is_dir() and (path.is_mount() or path.samefile(Path.cwd())):
        _empty(path)
        for inside in temporary.iterdir():
            shutil.move(inside, path / inside.name)
        return
    old = temporary.with_name(f"{temporary.name}{REPLACED}")
    if replace and path.is_dir():
        path.replace(old)
    # The system itself refuses to rename a folder over one that is not empty.
    temporary.replace(path)
    shutil.rmtree(old, ignore_errors=True)


def _empty(folder: Path) -> None:
    for inside in folder.iterdir():
        if inside.is_dir() and not inside.is_symlink():
            shutil.rmtree(inside)
        else:
            inside.unlink()


@contextmanager
def _parents(path: Path) -> Iterator[None]:
    """Makes the folders above `path`; those that are still empty after a failure go again."""
    made = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for parent in filter(Path.is_dir, made):
            if any(parent.iterdir()):
                break
            parent.rmdir()
        raise


def require_place(folder: Path | str, *, overwrite: bool = False, own: OwnOutput | None = None) -> None:
    """Finds out before long work whether a folder can be written at its end.

    Args:
        folder: where something is to be written.
        overwrite: whether what is there may be replaced.
        own: the only kind of output that is replaced; None takes any.

    Raises:
        InputError: `folder` is there already and not empty (unless `overwrite`), is a file, or cannot be made.
    """
    folder = Path(folder).absolute()
    if not overwrite or not folder.is_dir():
        refuse_non_empty(folder)
    elif own is not None and any(folder.iterdir()):
        own.require(folder)
    above = next((parent for parent in folder.parents if parent.exists()), folder)
    if not above.is_dir():
        raise InputError(f"Cannot write {folder}: {above} is a file; name another folder.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"Cannot write {folder}: {above} may not be written to; name another folder.")


def refuse_non_empty(folder: Path | str) -> None:
    """Raises InputError when `folder` is a file or holds anything."""
    folder = Path(folder)
    if folder.is_file():
        raise InputError(f"{folder} is a file, but a folder is to be written there; name another folder.")
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"The output folder {folder} is not empty; name another one or empty it first.")


@contextmanager
def _as_user_error(path: Path) -> Iterator[None]:
    """Failures to write beside `path`; those of another file that is only read in the block pass through."""
    try:
        yield
    except (OSError, InputError) as caught:
        # A file inside a temporary folder has failed under a name that nobody knows.
        error = caught.__cause__ if isinstance(caught, InputError) else caught
        is_ours = isinstance(error, OSError) and error.errno in _THE_PLACE and _concerns(error.filename, path)
        if not isinstance(error, OSError) or not is_ours:
            raise
        raise InputError(f"Cannot write {path}: {error.strerror}; free space or name another place.") from error


def _concerns(filename: str | bytes | int | None, path: Path) -> bool:
    """Whether an error's file is `path`, its temporary, something inside them, or a folder above; or has no name."""
    if not isinstance(filename, str | bytes):
        return True
    place = Path(os.fsdecode(filename)).absolute()
    return place in path.parents or str(place).startswith((str(path), str(path.with_name(f".{path.name}."))))


def read_text(path: Path | str) -> str:
    """The text of a UTF-8 file, with one sentence where it cannot be read."""
    path = Path(path)
    with _one_sentence(path):
        try:
            return path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise _not_utf8(path, error.start) from None


def _not_utf8(path: Path, byte: int) -> InputError:
    return InputError(f"{path} is not UTF-8 text (byte {byte}); convert it to UTF-8.")


@contextmanager
def _one_sentence(path: Path) -> Iterator[None]:
    """What can be wrong with a file that is read."""
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
    with _one_sentence(path), path.open("rb") as file:
        for number, raw in enumerate(file):
            try:
                yield raw.decode("utf-8" if number else "utf-8-sig")
            except UnicodeDecodeError as error:
                raise _not_utf8(path, before + error.start) from None
            before += len(raw)


def write_json(path: Path | str, value: Any) -> None:
    """Writes one JSON value, indented, whole or not at all.

    Raises:
        InputError: the value holds NaN or infinity, which JSON has no words for.
    """
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise InputError(
            f"{path} is not written, since one of its numbers is NaN or infinite; check the settings and the weights "
            "of the models."
        ) from error
    with whole_file(path) as temporary:
        _write(temporary, [text])


def write_jsonl(path: Path | str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line, whole or not at all."""
    with whole_file(path) as temporary:
        _write(temporary, (json.dumps(row, ensure_ascii=False).translate(_SEPARATORS) for row in rows))


def append_json(path: Path | str, value: Any) -> None:
    """Appends one JSON value as a line; a line that an interruption tears is the reader's to leave out.

    Raises:
        InputError: the file cannot be written or the disk is full.
    """
    path = Path(path).absolute()
    with _as_user_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.write(json.dumps(value, ensure_ascii=False) + "\n")


def _write(path: Path, lines: Iterable[str]) -> None:
    # A lone surrogate has no UTF-8; Python's replacement for it is also JSON's escape.
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)


def sha256_of(path: Path | str) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
