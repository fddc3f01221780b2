"""Files of salient tokens: `safety_tokens.json`, or a plain text with one token a line. The texts are what counts."""

import json
from pathlib import Path
from typing import Any

from moored.errors import InputError
from moored.files import read_text


def read_token_texts(path: Path | str) -> tuple[str, ...]:
    """The texts of the tokens that a file lists, leading spaces included, in its order.

    Args:
        path: JSON (a list of texts, or of objects with a `text`; other keys are for the reader), or any other file as
            one token a line, where empty lines are skipped.

    Raises:
        InputError: the file cannot be read, lists no token, or has an entry without a text.
    """
    text = read_text(path)
    found = _from_json(text, path) if Path(path).suffix == ".json" else _from_lines(text)
    if not found:
        raise InputError(f"{path} lists no tokens; it needs at least one.")
    return tuple(found)


def _from_lines(text: str) -> list[str]:
    return [line.removesuffix("\r") for line in text.split("\n") if line.strip()]


def _from_json(text: str, path: Path | str) -> list[str]:
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not valid JSON: {error.msg} in line {error.lineno}.") from None
    if not isinstance(entries, list):
        raise InputError(f"{path} is no JSON list; write a list of texts, or of objects with a text.")
    return [_text(entry, number, path) for number, entry in enumerate(entries, 1)]


def _text(entry: Any, number: int, path: Path | str) -> str:
    text = entry.get("text") if isinstance(entry, dict) else entry
    if not isinstance(text, str) or not text:
        raise InputError(f"{path}, entry {number} has no text; give it one, or take it out.")
    return text
