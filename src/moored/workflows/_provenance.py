"""What a report says of its own making."""

import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from moored.files import sha256_of
from moored.huggingface.models import ModelSource, weight_files

_PACKAGES = ("moored", "torch", "transformers", "trl", "peft", "accelerate", "datasets")


def versions() -> dict[str, str]:
    """The versions of Python and of every package that can change a number."""
    found = {"python": sys.version.split()[0]}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def command_line() -> str:
    """The command that runs, as a shell takes it."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def weights_hash(source: ModelSource) -> str:
    """SHA-256 over the weight files' own hashes, adapter after checkpoint; a Hub id stands for itself."""
    files = weight_files(source.path) if Path(source.path).is_dir() else []
    if source.adapter is not None:
        files = [*files, *weight_files(source.adapter)]
    return ":".join(sha256_of(file)[:16] for file in files) or source.path
