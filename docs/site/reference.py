"""The pages of the reference, made from the code: commands, training file, safeguards, and the public Python names."""

import inspect
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer.main
from docstring_parser import parse

import moored
from moored import workflows
from moored.cli import app
from moored.settings import in_words
from moored.verbs import Settings, meanings
from moored.workflows.safeguards.catalogue import describe_safeguards
from moored.workflows.train.config import DriftConfig, TrainConfig

Page = tuple[str, str]
"""A title and its text in Markdown."""
FOLDER = "reference"


@cache
def pages() -> Mapping[str, Page]:
    """Returns all pages of the reference by their paths on the site."""
    commands = {f"{FOLDER}/{name.replace(' ', '-')}.md": (f"moored {name}", each) for name, each in commands_of(app)}
    return {
        f"{FOLDER}/index.md": ("Overview", _overview(commands)),
        **{path: (title, _command(title, each)) for path, (title, each) in commands.items()},
        f"{FOLDER}/training-file.md": ("Training file", _training_file()),
        f"{FOLDER}/safeguard-keys.md": ("Safeguards and their keys", _safeguards()),
        f"{FOLDER}/python.md": ("Python", _python()),
    }


def commands_of(app: typer.Typer) -> list[tuple[str, Any]]:
    """Returns every command of the command line by its full name."""
    return list(_leaves(typer.main.get_command(app), ()))


def _leaves(command: Any, names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield " ".join(names), command
        return
    for name, each in command.commands.items():
        yield from _leaves(each, (*names, name))


def settings_of(command: Any) -> type | None:
    """Returns the dataclass that a command was made from, if it was made from one."""
    return getattr(command.callback, "settings", None)


def all_settings() -> set[type[Settings]]:
    """Returns the settings of every command, found in the modules `moored.workflows.*.settings`."""
    found = [name for _, name, _ in pkgutil.walk_packages(workflows.__path__, f"{workflows.__name__}.")]
    modules = [import_module(name) for name in found if name.endswith(".settings")]
    return {kind for module in modules for kind in _own_settings(module) if not kind.__subclasses__()}


def _own_settings(module: ModuleType) -> Iterator[type[Settings]]:
    for each in vars(module).values():
        if isinstance(each, type) and issubclass(each, Settings) and each.__module__ == module.__name__:
            yield each


def _overview(commands: Mapping[str, tuple[str, Any]]) -> str:
    rows = [
        (f"[`{title}`]({path.removeprefix(f'{FOLDER}/')})", _first_sentence(each.help))
        for path, (title, each) in commands.items()
    ]
    more = (
        "Also: the keys of a [training file](training-file.md), the [safeguards](safeguard-keys.md) with theirs, and "
        "the [Python](python.md) names. Every page here is made from the code.\n\n"
        "Exit codes: 0 done, 1 a defect of moored, 2 something you can fix, 3 a gate failed."
    )
    return f"# Reference\n\n{_table(('command', 'what it does'), rows)}\n\n{more}\n"


def _first_sentence(text: str) -> str:
    return text.partition("\n")[0].partition(". ")[0].removesuffix(".")


def _command(title: str, command: Any) -> str:
    arguments = " ".join(each.name.upper() for each in command.params if each.param_type_name == "argument")
    usage = " ".join(part for part in (title, arguments, "[OPTIONS]") if part)
    parameters = inspect.signature(command.callback).parameters
    rows = [
        (f"`{_flag(each)}`", in_words(_bare(parameters[each.name].annotation)), _stated(each), each.help or "")
        for each in command.params
        if each.name in parameters
    ]
    head = ("option", "takes", "default", "meaning")
    return f"# {title}\n\n{command.help}\n\n```sh\n{usage}\n```\n\n{_table(head, rows)}\n"


def _flag(parameter: Any) -> str:
    return parameter.name.upper() if parameter.param_type_name == "argument" else max(parameter.opts, key=len)


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _stated(parameter: Any) -> str:
    if parameter.required:
        return "must be given"
    return _literal(parameter.default)


def _training_file() -> str:
    drift = f"## Keys of `drift`\n\n{_fields(DriftConfig)}"
    about = (
        "`moored train FILE.yaml` reads one flat mapping. These keys are moored's; every other key is a field of TRL's "
        "`SFTConfig` and goes to TRL as it is. The [safeguards](safeguard-keys.md) have keys of their own."
    )
    return f"# Training file\n\n{about}\n\n{_fields(TrainConfig, leave_out=('trl',))}\n\n{drift}\n"


def _safeguards() -> str:
    head = ("key", "takes", "default", "meaning")
    about = "As `moored safeguards` prints them. In a training file: `safeguards: [{name: NAME, KEY: VALUE}]`."
    parts = ["# Safeguards and their keys", about]
    for each in describe_safeguards():
        rows = [
            (f"`{key.name}`", key.values, "must be given" if key.default is None else f"`{key.default}`", key.meaning)
            for key in each.keys
        ]
        parts += [f"## {each.name}", each.about, _table(head, rows)]
    return "\n\n".join(parts) + "\n"


def _python() -> str:
    names = [name for name in moored.__all__ if not name.startswith("__")]
    parts = ["# Python", "`import moored` is cheap: every name is looked up when it is first used."]
    return "\n\n".join([*parts, *(_public(name, getattr(moored, name)) for name in names)]) + "\n"


def _public(name: str, thing: Any) -> str:
    written = parse(inspect.getdoc(thing) or "")
    about = "\n\n".join(part for part in (written.short_description, written.long_description) if part)
    parts = [f"## {name}", f"```python\n{_call(name, thing)}\n```", about]
    if is_dataclass(thing):
        parts.append(_fields(thing))
    elif written.params:
        rows = [(f"`{each.arg_name}`", each.description or "") for each in written.params]
        parts.append(_table(("argument", "meaning"), rows))
    if written.returns:
        parts.append(f"**Returns** {written.returns.description}")
    parts += [f"**Raises** `{each.type_name}`: {each.description}" for each in written.raises]
    return "\n\n".join(part for part in parts if part)


def _call(name: str, thing: Any) -> str:
    """The call with the names of its arguments; their types and defaults are in the table."""
    parameters = inspect.signature(thing).parameters.values()
    shown = [each.name if each.default is each.empty else f"{each.name}=…" for each in parameters]
    return f"moored.{name}({', '.join(shown)})"


def _fields(kind: Any, leave_out: Sequence[str] = ()) -> str:
    hints: dict[str, Any] = get_type_hints(kind)
    texts = meanings(kind)
    rows = [
        (f"`{each.name}`", in_words(hints[each.name]), _default(each), texts.get(each.name, ""))
        for each in fields(kind)
        if each.init and each.name not in leave_out
    ]
    return _table(("key", "takes", "default", "meaning"), rows)


def _default(setting: Field) -> str:
    if setting.default is MISSING and setting.default_factory is MISSING:
        return "must be given"
    return _literal(setting.default_factory() if setting.default is MISSING else setting.default)  # pyright: ignore


def _literal(value: Any) -> str:
    """Writes a value as the command line and YAML do."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return "" if value is None else f"`{text}`"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_cell(each) for each in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
