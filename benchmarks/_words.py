"""Words that several tables share."""

from collections.abc import Mapping


def used(versions: Mapping[str, str]) -> str:
    """`python 3.11.7, torch 2.13.0, …`."""
    return ", ".join(f"{package} {number}" for package, number in versions.items())
