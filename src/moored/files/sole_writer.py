"""One process at a time writes an output folder: two would leave a mixture of both."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from moored.errors import InputError
from moored.files.leftovers import clear


@contextmanager
def sole_writer(folder: Path | str) -> Iterator[None]:
    """Keeps other moored processes of this machine and user from writing to a folder meanwhile.

    What one that was killed has left beside it is cleared away. The lock lies outside, so that the folder stays empty
    until something is written, and ends with the process, however that ends.

    Raises:
        InputError: another process is writing to it.
    """
    folder = Path(folder)
    lock = FileLock(_lock_file(folder))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise InputError(
            f"Another moored process is writing to {folder}; wait until it ends, or name another folder."
        ) from None
    try:
        clear(folder.absolute())
        yield
    finally:
        lock.release()


def _lock_file(folder: Path) -> Path:
    user = getattr(os, "getuid", int)()
    place = hashlib.sha256(f"{user} {folder.resolve()}".encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"moored-{place}.lock"
