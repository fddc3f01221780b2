"""From a dataclass of settings to a command: one argument or option for each field, its docstring the help text."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from moored.cli._network import stay_offline_unless_set
from moored.verbs import Settings, has_default, meanings, positional

Given = TypeVar("Given", bound=Settings)


def command(
    kind: type[Given], run: Callable[[Given], None], *, network: Callable[[Given], None] = stay_offline_unless_set
) -> Callable[..., None]:
    """Makes what typer takes for a command.

    Args:
        kind: the settings; a field without a default, and `out`, must be given on the command line.
        run: what the command does with them; its docstring is the command's help.
        network: decides, before any library is imported, whether the command may use the network.
    """

    def call(**given: Any) -> None:
        settings = kind(**given)
        network(settings)
        run(settings)

    parameters = _parameters(kind)
    call.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    call.__annotations__ = {each.name: each.annotation for each in parameters}
    call.__doc__, call.__name__ = run.__doc__, run.__name__
    call.settings = kind  # pyright: ignore[reportFunctionMemberAccess]
    return call


def _parameters(kind: type[Settings]) -> list[inspect.Parameter]:
    hints: dict[str, Any] = get_type_hints(kind)
    help_texts, first = meanings(kind), positional(kind)
    return [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=_default(each),
            annotation=Annotated[_type(each, hints[each.name]), _info(each, help_texts[each.name], each.name in first)],
        )
        for each in sorted(fields(kind), key=lambda each: each.name not in first)
    ]


def _default(setting: Field) -> Any:
    is_optional = setting.metadata.get("optional", False)
    if (setting.name == "out" and not is_optional) or not has_default(setting):
        return inspect.Parameter.empty
    return setting.default_factory() if setting.default is MISSING else setting.default  # pyright: ignore[reportCallIssue]


def _type(setting: Field, hint: Any) -> Any:
    """Only in Python may a report stay unwritten."""
    return Path if setting.name == "out" else hint


def _info(setting: Field, help_text: str, is_argument: bool) -> Any:
    if is_argument:
        return typer.Argument(help=help_text)
    flag = setting.metadata.get("flag") or f"--{setting.name.replace('_', '-')}"
    if setting.default is True:
        flag = f"{flag}/--no-{flag[2:]}"
    # A default that is None is told in words by the help text itself.
    return typer.Option(flag, help=help_text, show_default=setting.default is not None)
