"""Settings of a command, stated once: a dataclass that a Python function, the command line and YAML all take."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from docstring_parser import parse_from_object

from moored.errors import InputError, blaming
from moored.files import sole_writer
from moored.settings import converted, typed

Given = TypeVar("Given", bound="Settings")
Result = TypeVar("Result")
Bound = int | float | None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The base of every command's settings: each field's type and bounds are checked, whoever states it.

    A field without a default is a positional argument, except `out` and one whose metadata names a `flag` for the
    command line. The docstring under a field is its help text.

    Raises:
        InputError: a value of another type, or out of its bounds.
    """

    def __post_init__(self) -> None:
        hints: dict[str, Any] = get_type_hints(type(self))
        for each in fields(self):
            value = converted(getattr(self, each.name), hints[each.name], each.name)
            object.__setattr__(self, each.name, value)
            _require_within(each, value)

    def stated(self) -> dict[str, Any]:
        """All settings as JSON takes them, for the record of a run."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def bounded(default: Any, *, least: Bound = None, above: Bound = None, most: Bound = None, below: Bound = None) -> Any:
    """A field whose value, unless it is None, must lie within these bounds; `least` and `most` are included."""
    return field(default=default, metadata={"at least": least, "above": above, "at most": most, "below": below})


_WITHIN: Mapping[str, Callable[[float, float], bool]] = {
    "at least": lambda value, bound: value >= bound,
    "above": lambda value, bound: value > bound,
    "at most": lambda value, bound: value <= bound,
    "below": lambda value, bound: value < bound,
}


def _require_within(setting: Field, value: Any) -> None:
    bounds = {words: setting.metadata.get(words) for words in _WITHIN}
    stated = {words: bound for words, bound in bounds.items() if bound is not None}
    if value is not None and not all(_WITHIN[words](value, bound) for words, bound in stated.items()):
        must = " and ".join(f"{words} {bound:g}" for words, bound in stated.items())
        raise InputError(f"{setting.name} must be {must}, got {value}.")


def positional(kind: type[Settings]) -> list[str]:
    """The names of the settings that are positional arguments, in order."""
    return [
        each.name
        for each in fields(kind)
        if not has_default(each) and each.name != "out" and "flag" not in each.metadata
    ]


def has_default(setting: Field) -> bool:
    """Whether a setting may be left out."""
    return setting.default is not MISSING or setting.default_factory is not MISSING


def meanings(kind: type) -> dict[str, str]:
    """Reads the docstring under each field of a dataclass and of its bases, in one line, by the field's name."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__[:-1]):
        if each.__module__ != "builtins":
            found |= {known.arg_name: " ".join((known.description or "").split()) for known in _documented(each)}
    return found


def _documented(kind: type) -> list[Any]:
    return list(parse_from_object(kind).params)


def verb(kind: type[Given]) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Lets a function of a settings object be called with the settings themselves, too.

    `measure(MeasureSettings(model="m", out="r"))` and `measure("m", out="r")` are the same call. Its signature and its
    docstring list every setting. While it runs, no other process may write to its `out`.
    """

    def decorate(function: Callable[..., Result]) -> Callable[..., Result]:
        @wraps(function)
        def call(*given: Any, console: Any = None, **stated: Any) -> Result:
            settings = _settings(kind, function.__name__, given, stated)
            out = getattr(settings, "out", None)
            with nullcontext() if out is None else sole_writer(out):
                return function(settings, console=console)

        call.__signature__ = _signature(kind)  # pyright: ignore[reportAttributeAccessIssue]
        call.__doc__ = _docstring(function, kind)
        return call

    return decorate


def _settings(kind: type[Given], name: str, given: tuple[Any, ...], stated: dict[str, Any]) -> Given:
    if len(given) == 1 and isinstance(given[0], kind):
        if stated:
            raise InputError(f"{name} takes a {kind.__name__} or single settings, not both; use dataclasses.replace.")
        return given[0]
    names = positional(kind)
    if len(given) > len(names):
        raise InputError(f"{name} takes {len(names)} positional arguments ({', '.join(names)}), got {len(given)}.")
    with blaming(name):
        values = typed({**dict(zip(names, given, strict=False)), **stated}, kind)
    missing = [each.name for each in fields(kind) if not has_default(each) and each.name not in values]
    if missing:
        raise InputError(f"{name} needs {missing[0]}: {meanings(kind)[missing[0]]}")
    return kind(**values)


def _signature(kind: type[Settings]) -> inspect.Signature:
    hints: dict[str, Any] = get_type_hints(kind)
    first = positional(kind)
    parameters = [
        inspect.Parameter(
            each.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD if each.name in first else inspect.Parameter.KEYWORD_ONLY,
            default=each.default if each.default is not MISSING else inspect.Parameter.empty,
            annotation=hints[each.name],
        )
        for each in sorted(fields(kind), key=lambda each: each.name not in first)
    ]
    console = inspect.Parameter("console", inspect.Parameter.KEYWORD_ONLY, default=None)
    return inspect.Signature([*parameters, console])


def _docstring(function: Callable[..., Any], kind: type) -> str:
    """The function's own docstring with an entry for each setting under `Args:`."""
    settings = "\n".join(f"    {name}: {meaning}" for name, meaning in meanings(kind).items())
    console = "    console: A rich console on which progress is shown; None is silent."
    head, separator, rest = inspect.cleandoc(function.__doc__ or "").partition("\n\n")
    return f"{head}\n\nArgs:\n{settings}\n{console}{separator}{rest}"
