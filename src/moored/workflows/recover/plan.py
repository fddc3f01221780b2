"""A repair before it begins: every setting checked, every name resolved."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from rich.console import Console

from moored.embedded.model import BASE
from moored.errors import InputError
from moored.files import require_place
from moored.huggingface.models import ModelSource
from moored.outputs import keep_inputs
from moored.recovery import Repair
from moored.report.reading.recover import BilevelRecord, HalvingRecord, RecoverReport, StepsRecord, UpdatesRecord
from moored.workflows.inputs.example_pool import Pool
from moored.workflows.inputs.models import base_folder, base_name, reference_of, resolve_model
from moored.workflows.recover.method import method_of, pool_of
from moored.workflows.recover.settings import RecoverSettings

Method = TypeVar("Method", bound=Repair)


@dataclass(frozen=True, kw_only=True)
class Plan(Generic[Method]):
    """A repair that can begin."""

    method: Method
    tuned: ModelSource
    """The model to repair."""
    aligned: ModelSource | None
    """The aligned model; None if the repair does not use it."""
    base: ModelSource | None
    """The checkpoint before alignment; None if the repair does not use it."""
    pool: Pool | None
    console: Console | None
    """Where progress is shown."""

    @property
    def start(self) -> Path:
        """The folder that is repaired: the adapter's or, without one, the checkpoint's."""
        return Path(self.tuned.path) if self.tuned.adapter is None else self.tuned.adapter


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a repair did, beside writing its result."""

    method: Repair
    """The method, with the example that it was given in the end."""
    steps: StepsRecord | None = None
    updates: UpdatesRecord | None = None
    ranking: Sequence[HalvingRecord | BilevelRecord] = ()
    """The candidates of a choice, the best first."""


def prepare(settings: RecoverSettings, method: Repair | None, console: Console | None) -> Plan[Any]:
    """Checks everything that can be checked without loading a model.

    Args:
        settings: The settings of the command.
        method: A method to use instead of the one that the settings state.
        console: Where progress is shown; None is silent.

    Raises:
        UserError: Something the user can put right.
    """
    require_place(settings.out, overwrite=settings.overwrite, own=RecoverReport.own_output())
    tuned, pool = resolve_model(settings.model, settings.adapter), pool_of(settings)
    files = () if pool is None else (pool.examples, pool.task)
    keep_inputs(settings.out, tuned.path, tuned.adapter, settings.against, settings.base, *files)
    if tuned.adapter is None and not Path(tuned.path).is_dir():
        raise InputError(
            f"{settings.model} is not a local folder; download the checkpoint first, or repair an adapter for it."
        )
    reference = reference_of(tuned, settings.adapter, settings.against)
    if method is None:
        method = method_of(settings, knows_aligned=reference is not None)
    _refuse_unused(method, settings)
    uses_aligned = not method.off and (method.needs_aligned or pool is not None)
    aligned = _require_aligned(tuned, reference, settings) if uses_aligned else None
    base = None
    if aligned is not None:
        keep_inputs(settings.out, aligned.path, aligned.adapter)  # Also the base of an adapter that was named.
        base = _base(aligned, method, settings.base) if method.needs_base else None
    return Plan(method=method, tuned=tuned, aligned=aligned, base=base, pool=pool, console=console)


def _refuse_unused(method: Repair, settings: RecoverSettings) -> None:
    """Refuses what is named and would have no effect."""
    if settings.choose_from is not None and method.kind != "example":
        raise InputError(f"{method.name} does not train on an example; leave --choose-from out.")
    if settings.against is not None and not method.needs_aligned and settings.choose_from is None:
        raise InputError(
            f"{method.name} uses the aligned model only to choose an example or to ask for that model's own refusal; "
            "leave --against out."
        )
    if settings.base is not None and not method.needs_base:
        raise InputError(f"{method.name} does not use the checkpoint before alignment; leave --base out.")


def _require_aligned(tuned: ModelSource, reference: ModelSource | None, settings: RecoverSettings) -> ModelSource:
    if reference is None:
        raise InputError(f"Name the aligned model that {tuned.describe()} was tuned from with --against.")
    if settings.against is None and reference.name == BASE:
        raise InputError(
            f"{tuned.describe()} is an adapter for {BASE}, which is not aligned; name the aligned model with --against."
        )
    return reference


def _base(aligned: ModelSource, method: Repair, named: str | None) -> ModelSource:
    name = base_name(aligned, named)
    if name is None:
        raise InputError(f"{method.name} needs the checkpoint before alignment; name it with --base.")
    return ModelSource(str(base_folder(name)), name=name)
