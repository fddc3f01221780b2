"""The place where something is written: whether it can be, and one sentence where it could not."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moored.errors import InputError
from moored.outputs import OwnOutput

_PLACE_ERRORS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EBUSY),
    errno.ENOTEMPTY,
}
"""The errors of the system that a place can cause where something is written; others are none of the user's."""


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
def write_errors(path: Path) -> Iterator[None]:
    """Turns a failure to write beside `path` into InputError; one to read another file in the block passes through."""
    try:
        yield
    except (OSError, InputError) as caught:
        # A file inside a temporary folder has failed under a name that nobody knows.
        error = caught.__cause__ if isinstance(caught, InputError) else caught
        is_ours = isinstance(error, OSError) and error.errno in _PLACE_ERRORS and _concerns(error.filename, path)
        if not isinstance(error, OSError) or not is_ours:
            raise
        raise InputError(f"Cannot write {path}: {error.strerror}; free space or name another place.") from error


def _concerns(filename: str | bytes | int | None, path: Path) -> bool:
    """Tells whether an error's file is nameless, `path`, its temporary, something inside them, or a folder above."""
    if not isinstance(filename, str | bytes):
        return True
    place = Path(os.fsdecode(filename)).absolute()
    return place in path.parents or str(place).startswith((str(path), str(path.with_name(f".{path.name}."))))
