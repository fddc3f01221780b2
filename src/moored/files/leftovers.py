"""What a writing that was killed has left; the names of temporary files and folders tell it."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

MARK = "moored-"
"""Stands in the name of everything temporary, behind the name of what it is to become."""
REPLACED = ".old"
"""Follows the temporary name of an output while another takes its place."""
_TEMPORARY = re.compile(rf"\.(?P<name>.+)\.{MARK}[a-z0-9_]{{8}}(?P<replaced>{re.escape(REPLACED)})?")


def clear(path: Path) -> None:
    """Removes what earlier writings of a file or folder have left beside and in it, and puts back what they replaced.

    Only for one who knows that nobody writes it now.
    """
    for left, match in _temporary(path.parent):
        if match["name"] == path.name:
            if match["replaced"] and not path.exists():
                left.replace(path)
            else:
                _remove(left)
    for left, _ in _temporary(path):
        _remove(left)


def _temporary(folder: Path) -> Iterator[tuple[Path, re.Match[str]]]:
    for each in folder.iterdir() if folder.is_dir() else ():
        match = _TEMPORARY.fullmatch(each.name)
        if match is not None:
            yield each, match


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
