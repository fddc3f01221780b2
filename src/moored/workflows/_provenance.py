"""What a report says of its own making."""

import hashlib
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
    """SHA-256 over that of each weight file, the adapter's after the checkpoint's; a Hub id stands for itself."""
    digest = hashlib.sha256()
    is_folder = Path(source.path).is_dir()
    if not is_folder:
        digest.update(source.path.encode())
    for folder in [*([source.path] if is_folder else []), *([source.adapter] if source.adapter else [])]:
        for file in weight_files(folder):
            digest.update(sha256_of(file).encode())
    return digest.hexdigest()
