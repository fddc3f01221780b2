"""Locks of what several processes keep in common."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from moored.errors import InputError


@contextmanager
def locked_cache(file: Path, variable: str) -> Iterator[None]:
    """Holds a lock file in a cache, for which other processes wait; the cache is made where it is missing.

    Args:
        file: the lock file.
        variable: the environment variable that names another cache.

    Raises:
        InputError: the cache cannot be written.
    """
    lock = FileLock(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise InputError(
            f"Cannot write the cache {file.parent} ({error.strerror}); set {variable} to another."
        ) from error
    try:
        yield
    finally:
        lock.release()
