"""The repair that the settings state: a method of `moored.recovery`, and the pool that its example is chosen from."""

from collections.abc import Mapping
from dataclasses import fields

from moored.errors import InputError
from moored.recovery import REPAIRS, OneShot, Repair
from moored.workflows.inputs.example_pool import Pool
from moored.workflows.recover.settings import RecoverSettings

_STATED = {setting.name for setting in fields(RecoverSettings)}
OWNERS: Mapping[str, str] = {"preset": OneShot.name} | {
    setting.name: name for name, kind in REPAIRS.items() for setting in fields(kind) if setting.name in _STATED
}
"""The method that each setting of a single method belongs to."""


def method_of(settings: RecoverSettings, *, knows_aligned: bool) -> Repair:
    """Makes the method of a command's settings.

    Args:
        settings: The settings; those of the method that are None have its defaults or, for `one_shot`, its preset's.
        knows_aligned: Whether the aligned model is known, which `auto` asks for its own refusal.

    Raises:
        InputError: A setting belongs to another method.
    """
    given = {name: getattr(settings, name) for name in OWNERS if getattr(settings, name) is not None}
    for name in given:
        if OWNERS[name] != settings.method:
            raise InputError(f"{_flag(name)} is a setting of {OWNERS[name]}, not of {settings.method}; leave it out.")
    if settings.method != OneShot.name:
        return REPAIRS[settings.method](**given)
    return OneShot.preset(given.pop("preset", "auto" if knows_aligned else "published"), **given)


def pool_of(settings: RecoverSettings) -> Pool | None:
    """Returns the examples to choose from; None if none are named.

    Raises:
        InputError: A setting of the choice is given without the examples.
    """
    by, task = settings.choose_by, settings.task
    if settings.choose_from is not None:
        return Pool(examples=settings.choose_from, by=by or Pool.by, task=task or Pool.task)
    if by is not None or task is not None:
        raise InputError("--choose-by and --task need --choose-from; name examples to choose from, or leave them out.")
    return None


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
