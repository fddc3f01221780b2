"""Settings as users write them in YAML, checked against the dataclass that takes them."""

import difflib
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from enum import Enum
from pathlib import Path
from reprlib import Repr
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from moored.errors import InputError

_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 80
"""A list of many texts would hide the sentence around it."""


_NAMED = 8
"""So many of the known names are listed at most."""


def require_known(keys: Iterable[str], known: Iterable[str], *, what: str = "key") -> None:
    """Raises InputError for the first key, or whatever `what` says it is, that is not known; names the nearest."""
    known = sorted(known)
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            more = ", …" if len(known) > _NAMED else ""
            hint = f"did you mean {near[0]}?" if near else f"it may be one of {', '.join(known[:_NAMED])}{more}"
            raise InputError(f"unknown {what} {key}; {hint}")


def typed(values: Mapping[str, Any], cls: type) -> dict[str, Any]:
    """Values converted to the types that a dataclass states for them.

    YAML reads 1e-4 as a string, and a command line knows nothing else; `null` stands for None.

    Raises:
        InputError: an unknown key (names the nearest known one) or a value of another type.
    """
    known = {field.name for field in fields(cls) if field.init}
    require_known(values, known)
    hints: dict[str, Any] = get_type_hints(cls)
    return {name: converted(value, hints[name], name) for name, value in values.items()}


def converted(value: Any, hint: Any, what: str) -> Any:
    """A value as the first of the hint's types that takes it.

    Raises:
        InputError: none does; names `what`, the value, and what it must be.
    """
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    found = _fitting(value, options)
    if found is not _MISFIT:
        return found
    raise InputError(f"{what} is {_SHORT.repr(value)}, but it must be {in_words(hint)}.")


_MISFIT = object()


def _fitting(value: Any, options: Sequence[Any]) -> Any:
    """As it is where one of the types fits already, so that "1" stays text where text is allowed."""
    tried = (convert(value, option) for convert in (_as_it_is, _parsed) for option in options)
    return next((found for found in tried if found is not _MISFIT), _MISFIT)


def _as_it_is(value: Any, option: Any) -> Any:
    if option is Any or (option is type(None) and value is None):
        return value
    if get_origin(option) is Literal:
        return value if value in get_args(option) else _MISFIT
    kind = get_origin(option) or option
    if not isinstance(kind, type):
        return value
    # A text is a sequence of texts to Python, and never to a user.
    if not isinstance(value, kind) or (type(value) in (bool, str) and kind is not type(value)):
        return _MISFIT
    if isinstance(value, list) and get_args(option):
        fits = all(_as_it_is(each, get_args(option)[0]) is not _MISFIT for each in value)
        return value if fits else _MISFIT
    return value


def _parsed(value: Any, option: Any) -> Any:
    """An int where a float is due, paths, numbers and truth values that YAML left as text, names of an enumeration."""
    if option is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if option is Path and isinstance(value, str):
        return Path(value)
    if option is bool and isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower(), _MISFIT)
    if isinstance(value, str) and option in (int, float):
        try:
            return option(value)
        except ValueError:
            return _MISFIT
    if isinstance(option, type) and issubclass(option, Enum):
        return value if value in [member.value for member in option] else _MISFIT
    return _members([*value], option) if isinstance(value, list | tuple) else _MISFIT


def _members(value: list[Any], option: Any) -> Any:
    """A list where a set or a tuple is due, and lists of such."""
    kind, members = get_origin(option), get_args(option)
    if kind not in (list, set, tuple, Sequence):
        return _MISFIT
    of_each = members if kind is tuple and Ellipsis not in members else members[:1] * len(value)
    if len(of_each) != len(value):
        return _MISFIT
    found = [_fitting(each, (member,)) for each, member in zip(value, of_each, strict=True)]
    if any(each is _MISFIT for each in found):
        return _MISFIT
    return kind(found) if kind in (set, tuple) else found


_WORDS: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    Path: ("a path", "paths"),
    bool: ("true or false", "true or false"),
    type(None): ("null", "null"),
    dict: ("a mapping", "mappings"),
}


def in_words(hint: Any, *, several: bool = False) -> str:
    """What a type takes, as a user would say it: `list[str] | None` is "a list of texts or null"."""
    kind, members = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(in_words(member, several=several) for member in members))
    if kind is Literal:
        return ", ".join(map(str, members))
    if kind in (list, set, tuple, Sequence):
        many = kind is not tuple or Ellipsis in members
        whole = ("lists" if several else "a list") if many else ("pairs" if several else "a pair")
        return f"{whole} of {in_words(members[0], several=True)}" if members else whole
    if kind in _WORDS:
        return _WORDS[kind][several]
    return str(hint) if members else getattr(hint, "__name__", str(hint))
