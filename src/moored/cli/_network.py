"""Whether a command may use the network: only where something on the Hub was named."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from moored.verbs import Settings

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_NAMES = {"model", "adapter", "reference", "dataset", "eval_dataset", "base", "prompts", "ordinary"}
"""The keys of a training file whose values can be Hub ids."""


_SETTINGS = ("model", "against", "base", "data", "harmful", "harmless", "ordinary", "task", "choose_from", "file")
"""The settings of commands whose values can be Hub ids."""


def stay_offline_unless_set(settings: Settings) -> None:
    """Keeps the libraries off the network unless a command's settings name something that can only be on the Hub."""
    stay_offline_unless_named(*(getattr(settings, name, None) for name in _SETTINGS))


def stay_offline_unless_named(*names: object) -> None:
    """Keeps the libraries off the network unless a name can only be one of the Hub; what the user has set stays.

    The libraries read the variable when they are imported, so this has to come first.
    """
    if not any(_is_on_hub(str(name)) for name in names if name is not None):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")


def stay_offline_unless_configured(config: Path, overrides: Sequence[str]) -> None:
    """Does the same for what a training file and the settings laid over it name."""
    try:
        stated = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        stated = None  # The command will say what is wrong with it.
    pairs = [*_pairs(stated), *_overriding(overrides)]
    if not any(key == "push_to_hub" and value not in (False, None, "false") for key, value in pairs):
        stay_offline_unless_named(*(value for key, value in pairs if key in _NAMES and isinstance(value, str)))


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """The keys and values of a mapping and of everything inside it."""
    if isinstance(value, dict):
        yield from value.items()
    for inside in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _pairs(inside)


def _overriding(overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    for path, _, value in (each.partition("=") for each in overrides):
        yield path.rpartition(".")[2], value.strip("\"' ")


def _is_on_hub(name: str) -> bool:
    """Whether a name, or the base of the adapter folder that it names, is no path here but may be a Hub id."""
    if name.lower() in ("none", "embedded") or name.startswith("embedded:"):
        return False
    if not os.path.exists(name):
        return _HUB_ID.fullmatch(name) is not None
    base = _base(Path(name) / "adapter_config.json")
    return base is not None and not os.path.exists(base) and _HUB_ID.fullmatch(base) is not None


def _base(config: Path) -> str | None:
    try:
        base = json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return base if isinstance(base, str) else None
