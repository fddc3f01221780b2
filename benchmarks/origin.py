"""What made a result: the versions in words, and a hash of the code."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import moored
from moored.files import sha256_of

ROOT = Path(__file__).parents[1]
"""The root of the repository."""


def used(versions: Mapping[str, str]) -> str:
    """`python 3.11.7, torch 2.13.0, …`."""
    return ", ".join(f"{package} {number}" for package, number in versions.items())


def code() -> str:
    """A hash of the package and of the benchmarks."""
    folders = (Path(moored.__file__).parent, Path(__file__).parent)
    digests = [sha256_of(file) for folder in folders for file in sorted(folder.rglob("*.py"))]
    return hashlib.sha256("".join(digests).encode()).hexdigest()
