"""Files and folders that appear whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moored.files.place import require_place, write_errors
from moored.outputs import OwnOutput


@contextmanager
def whole_file(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path beside `path` and renames it over `path` only when the block succeeds.

    Raises:
        InputError: the folder cannot be written or the disk is full.
    """
    path = Path(path).absolute()
    with write_errors(path), _parents(path):
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
    path = _target(Path(path).absolute())
    require_place(path, overwrite=overwrite, own=own)
    with write_errors(path), _parents(path):
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            yield temporary
            _open_to_all(temporary)
            # What has come meanwhile is nobody's to delete, either.
            require_place(path, overwrite=overwrite, own=own)
            _install(temporary, path, replace=overwrite)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _target(path: Path) -> Path:
    """Follows a link, often to another disk; a folder must not take the place of the link."""
    return path.resolve() if path.is_symlink() else path


def _open_to_all(folder: Path) -> None:
    """Gives ordinary permissions: temporary folders, and safetensors files, are their owner's alone."""
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
    old = temporary.with_name(f"{temporary.name}.old")
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
