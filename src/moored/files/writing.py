"""The writers of JSON: a file whole or not at all, or a line at the end of one."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from moored.errors import InputError
from moored.files.atomic import whole_file
from moored.files.place import write_errors

_SEPARATORS = str.maketrans({mark: f"\\u{ord(mark):04x}" for mark in "\u0085\u2028\u2029"})
"""Many readers take these for ends of lines, which JSON does not."""


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
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.write(json.dumps(value, ensure_ascii=False) + "\n")


def _write(path: Path, lines: Iterable[str]) -> None:
    # A lone surrogate has no UTF-8; Python's replacement for it is also JSON's escape.
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)
