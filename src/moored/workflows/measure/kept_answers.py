"""Answers that are kept as they come, so that an interrupted measurement can be resumed."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from moored.files import append_json, write_jsonl


def partial_folder(out: Path) -> Path:
    """The folder beside a report folder that holds its answers until the report is written."""
    return out.absolute().with_name(f"{out.absolute().name}.partial")


class KeptAnswers:
    """The answers of one model in a file: first what they depend on, then a line for each portion that came.

    A portion is kept whole or not at all, since the answers within it may depend on each other.
    """

    def __init__(self, file: Path | None, made_with: Mapping[str, Any], console: Console | None = None) -> None:
        """Reads what an interrupted run left, and drops it if it was made with something else.

        Args:
            file: where the answers are kept; None keeps nothing.
            made_with: everything that an answer depends on, by its name, as JSON holds it.
            console: where it is said that answers are reused or dropped.
        """
        self._file, self._made_with = file, dict(made_with)
        self.known: dict[int, str] = {}
        """The answers that are there, by the position of their prompts."""
        if file is not None and file.is_file():
            self._read(file, console)

    def _read(self, file: Path, console: Console | None) -> None:
        before, *portions = _whole_lines(file) or [{}]
        other = [name for name, value in self._made_with.items() if before.get(name) != value]
        if other:
            _say(console, f"{file} holds answers that were made with other {other[0]}; starting over.")
            file.unlink()
            return
        self.known = {int(row): text for portion in portions for row, text in portion.items()}
        _say(console, f"{file} holds {len(self.known)} answers of an interrupted run; resuming.")
        write_jsonl(file, [self._made_with, *portions])

    def add(self, portion: Mapping[int, str]) -> None:
        """Keeps a portion of answers."""
        self.known.update(portion)
        if self._file is None:
            return
        if not self._file.is_file():
            append_json(self._file, self._made_with)
        append_json(self._file, portion)


def _whole_lines(file: Path) -> list[dict[str, Any]]:
    """Reads the lines before the first that was torn."""
    return list(_parsed(file.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]))


def _parsed(lines: list[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            return


def _say(console: Console | None, sentence: str) -> None:
    if console is not None:
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
