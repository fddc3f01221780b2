"""The safeguards that a training file can name, with their keys and defaults, as the code states them."""

from collections import ChainMap
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, get_type_hints

import yaml
from docstring_parser import parse_from_object

from moored.regularizers import REGULARIZERS
from moored.selection import GradientSelection
from moored.settings import in_words, require_known
from moored.verbs import meanings

SAFEGUARDS = ChainMap[str, type](REGULARIZERS, {"gradient_selection": GradientSelection})
"""The safeguards that a training file can name, including penalties that are registered later."""
AUTO = "auto"
"""The value of `strength` for which short runs find one."""
_AUTO_MEANING = f"{AUTO} is experimental: short runs find a strength, which nobody has compared with a fixed one."


@dataclass(frozen=True)
class Key:
    """One setting of a safeguard."""

    name: str
    values: str
    """The values it takes, in words."""
    default: str | None
    """The default as a training file writes it; None where the key is required."""
    meaning: str


@dataclass(frozen=True)
class Description:
    """One safeguard."""

    name: str
    about: str
    keys: tuple[Key, ...]


def describe_safeguards(name: str | None = None) -> list[Description]:
    """Describes all safeguards, or the one of that name.

    Raises:
        InputError: there is no safeguard of that name.
    """
    if name is not None:
        require_known([name], SAFEGUARDS, what="safeguard")
    return [_described(each, SAFEGUARDS[each]) for each in SAFEGUARDS if name in (None, each)]


def _described(name: str, kind: type) -> Description:
    docstring = parse_from_object(kind)
    about = " ".join(part for part in (docstring.short_description, docstring.long_description) if part)
    return Description(name, _plain(about), tuple(_keys(kind)))


def _keys(kind: Any) -> Iterator[Key]:
    hints: dict[str, Any] = get_type_hints(kind)
    texts = meanings(kind)
    for field in fields(kind):
        if field.init:
            values, meaning = in_words(hints[field.name]), _plain(texts[field.name])
            if field.name == "strength":
                values, meaning = f"{values} or {AUTO}", f"{meaning} {_AUTO_MEANING}"
            yield Key(field.name, values, _default(field), meaning)


def _default(field: Field) -> str | None:
    if field.default is MISSING:
        return None
    return yaml.safe_dump(field.default).partition("\n")[0]


def _plain(text: str) -> str:
    """Puts a docstring in one line, without the marks for code and emphasis."""
    return " ".join(text.split()).translate({ord(mark): None for mark in "`*"})
