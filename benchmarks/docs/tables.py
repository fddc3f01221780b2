"""What the tables of README.md and docs/ are made with: numbers of results/, and their cells."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.origin import ROOT
from benchmarks.trials.table_parts import cell, markdown_table

Row = dict[str, Any]
COMPLIED = "JailbreakBench"
"""The requests whose compliance is told."""


def results(folder: str, file: str = "table.json") -> Any:
    """What a folder of results/ holds."""
    return json.loads((ROOT / "results" / folder / file).read_text(encoding="utf-8"))


def text_of(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown."""
    return "\n".join(markdown_table(head, ["---"] * len(head), rows))


def arms_of(corner: str, arms: Mapping[str, str], columns: Sequence[tuple[str, Mapping[str, Row], str]]) -> str:
    """Arms by their labels, in columns of heading, arms and what is told of them.

    Raises:
        ValueError: an arm that no column knows.
    """
    unknown = {arm for arm in arms.values() if not any(arm in found for _, found, _ in columns)}
    if unknown:
        raise ValueError(f"results/ has no arm {', '.join(sorted(unknown))}.")
    headings = [corner, *(f"{heading} (n = {found['aligned'][name]['n']})" for heading, found, name in columns)]
    rows = [[label, *(_cell(found.get(arm), name) for _, found, name in columns)] for label, arm in arms.items()]
    return text_of(headings, rows)


def change(before: Row, after: Row, name: str) -> str:
    """Without intervals; a dash where an arm was not asked that."""
    if name not in before or name not in after:
        return "–"
    return " → ".join(f"{each[name].get('rate', each[name].get('mean')):.2f}" for each in (before, after))


def _cell(arm: Row | None, name: str) -> str:
    """A dash where an arm was not tried, or not asked that."""
    return "–" if arm is None or name not in arm else cell(arm[name])
