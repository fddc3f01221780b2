"""Before training: rules that choose which samples to keep. One file per rule."""

from moored.selection._interface import SelectionRule

RULES: dict[str, type[SelectionRule]] = {}
"""The rules by name; a new one is one line here."""

__all__ = ["RULES", "SelectionRule"]
