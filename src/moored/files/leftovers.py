"""What a writing that was killed has left, which the names tell that `whole_file` and `whole_folder` give it."""

import re
import shutil
from pathlib import Path

_TEMPORARY = re.compile(r"[a-z0-9_]{8}")
"""The end of the names that `tempfile` makes."""
REPLACED = ".old"
"""Follows the temporary name of an output while another takes its place."""


def clear(path: Path) -> None:
    """Removes what an earlier writing of a file or folder has left beside it, and puts back what it half replaced.

    Only for one who knows that nobody writes it now.
    """
    beside = [each for each in path.parent.glob(".*") if each.name.startswith(f".{path.name}.")]
    for each in beside:
        end = each.name.removeprefix(f".{path.name}.")
        if end.endswith(REPLACED) and not path.exists() and _TEMPORARY.fullmatch(end.removesuffix(REPLACED)):
            each.replace(path)
        elif _TEMPORARY.fullmatch(end.removesuffix(REPLACED)):
            _remove(each)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
