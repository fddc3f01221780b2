"""The provenance of a report: what made it, when, from which weights and data."""

import hashlib
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypedDict

from moored.files import sha256_of
from moored.huggingface.models import ModelSource, weight_files
from moored.report.reading.record import ModelRecord
from moored.workflows.inputs.models import laid_over

_PACKAGES = ("moored", "torch", "transformers", "trl", "peft", "accelerate", "datasets")


class Origin(TypedDict):
    """What made a report."""

    created: str
    command: str
    versions: dict[str, str]


def origin() -> Origin:
    """Returns the time, the command and the versions of this run, as every report holds them."""
    return Origin(created=now(), command=command_line(), versions=versions())


def versions(*more: str) -> dict[str, str]:
    """Returns the versions of Python, of every package that can change a number, and of `more`."""
    by_name = {"python": sys.version.split()[0]}
    for package in (*_PACKAGES, *more):
        try:
            by_name[package] = version(package)
        except PackageNotFoundError:
            by_name[package] = "not installed"
    return by_name


def now() -> str:
    """Returns the time in UTC, in ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def command_line() -> str:
    """Returns the running command as a shell takes it."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    program = [Path(sys.argv[0]).name] if module is None else ["python", "-m", module.name.removesuffix(".__main__")]
    return shlex.join([*program, *sys.argv[1:]])


def weights_hash(source: ModelSource) -> str:
    """Hashes the hashes of all weight files, the adapter's after the checkpoint's; a Hub id stands for itself."""
    digest = hashlib.sha256()
    is_folder = Path(source.path).is_dir()
    if not is_folder:
        digest.update(source.path.encode())
    for folder in [*([source.path] if is_folder else []), *([source.adapter] if source.adapter else [])]:
        for file in weight_files(folder):
            digest.update(sha256_of(file).encode())
    return digest.hexdigest()


def model_record(source: ModelSource) -> ModelRecord:
    """Describes a model as reports hold it."""
    adapter = laid_over(source)
    return ModelRecord(
        name=source.name or source.path,
        path=source.path,
        adapter=None if adapter is None else str(adapter),
        weights_sha256=weights_hash(source),
    )
