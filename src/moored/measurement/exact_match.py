"""`ExactMatch`: utility without a judge, by comparing an answer with the expected one."""

import json
import re
from dataclasses import dataclass
from itertools import islice
from typing import Any

from moored.errors import InputError

MAX_STARTS = 100
"""How many opening brackets of an answer are tried; a broken model may write thousands."""
_OPENING_BRACKET = re.compile(r"[{\[]")


@dataclass(frozen=True, kw_only=True)
class ExactMatch:
    """Whether an answer is the expected one, character by character but for white space."""

    json: bool = False
    """Compare the first JSON object or array in the answer instead: layout, key order and the text around are free."""

    def __call__(self, answer: str, expected: str) -> bool:
        """Compares `answer` with `expected`.

        Raises:
            InputError: In JSON mode, if `expected` is not a JSON object or array.
        """
        if not self.json:
            return answer.split() == expected.split()
        wanted = _first_json(expected)
        if wanted is None:
            raise InputError(
                f"the expected answer {expected[:60]!r} holds no JSON object or array: correct it, or compare as text"
            )
        return _same(_first_json(answer), wanted)


def _first_json(text: str) -> dict[str, Any] | list[Any] | None:
    """The first JSON object or array in `text`, None if there is none."""
    decoder = json.JSONDecoder()
    for bracket in islice(_OPENING_BRACKET.finditer(text), MAX_STARTS):
        try:
            return decoder.raw_decode(text, bracket.start())[0]
        except (ValueError, RecursionError):
            continue
    return None


def _same(found: Any, wanted: Any) -> bool:
    """Equality as JSON means it: `true` is not 1, which Python's `==` would allow."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(_same(found[key], wanted[key]) for key in wanted)
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(_same, found, wanted))
    return isinstance(found, bool) == isinstance(wanted, bool) and found == wanted
