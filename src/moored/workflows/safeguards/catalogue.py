"""What a training file can hold a model with: each safeguard, its keys and their defaults, from the code itself."""

from collections import ChainMap
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, get_type_hints

import yaml
from docstring_parser import Docstring, parse_from_object

from moored.regularizers import REGULARIZERS
from moored.selection import GradientSelection
from moored.settings import in_words, require_known

SAFEGUARDS = ChainMap[str, type](REGULARIZERS, {"gradient_selection": GradientSelection})
"""Those that a training file can name; a penalty that is registered later is among them."""
AUTO = "auto"
"""The value of `strength` that has short runs find one."""


@dataclass(frozen=True)
class Key:
    """One setting of a safeguard."""

    name: str
    values: str
    """What it takes, in words."""
    default: str | None
    """As a training file writes it; None where it has to be stated."""
    meaning: str


@dataclass(frozen=True)
class Description:
    """One safeguard."""

    name: str
    about: str
    keys: tuple[Key, ...]


def describe_safeguards(name: str | None = None) -> list[Description]:
    """All safeguards, or the one of that name.

    Raises:
        InputError: there is none of that name.
    """
    if name is not None:
        require_known([name], SAFEGUARDS, what="safeguard")
    return [_described(each, SAFEGUARDS[each]) for each in SAFEGUARDS if name in (None, each)]


def _described(name: str, kind: type) -> Description:
    written = parse_from_object(kind)
    about = " ".join(part for part in (written.short_description, written.long_description) if part)
    return Description(name, _flowing(about), tuple(_keys(kind, written)))


def _keys(kind: Any, written: Docstring) -> Iterator[Key]:
    meanings = {each.arg_name: _flowing(each.description or "") for each in written.params}
    hints: dict[str, Any] = get_type_hints(kind)
    for field in fields(kind):
        if field.init:
            values = in_words(hints[field.name]) + (f" or {AUTO}" if field.name == "strength" else "")
            yield Key(field.name, values, _default(field), meanings[field.name])


def _default(field: Field) -> str | None:
    if field.default is MISSING:
        return None
    return yaml.safe_dump(field.default).partition("\n")[0]


def _flowing(text: str) -> str:
    """In one line, without the marks that a docstring has for code and stress."""
    return " ".join(text.split()).translate({ord(mark): None for mark in "`*"})
