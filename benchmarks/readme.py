"""Writes the tables of README.md from the numbers in results/, so that none is typed by hand.

    python benchmarks/readme.py

A table stands between `<!-- NAME -->` and `<!-- end -->`.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from moored.files import whole_file

Row = dict[str, Any]
ROOT = Path(__file__).parents[1]
COMPLIED = "JailbreakBench"
ALIGNED, PLAIN = {"before fine-tuning": "aligned"}, {"plain fine-tuning": "plain"}
SELECTED = {
    "`moderate`": "moderate-0.2",
    "– control: `length_matched_random`": "length_matched_random-0.2",
    "– control: `random`": "random-0.2",
    "`high`": "high-0.2",
}
HELD = {
    "`harmful_direction`": "harmful_direction-1",
    "– control: random directions": "random_harmful-1",
    "– control: ordinary requests": "harmless_direction-1",
    "`alignment_direction`": "alignment_direction-1",
    "– control: random direction": "random_direction-1",
    "– control: `update_norm`": "update_norm-1",
    "`safety_tokens`": "safety_tokens-1",
    "– control: random tokens": "random_tokens-1",
    "– control: all tokens": "full_kl-49152",
    "`alignment_direction` and `safety_tokens`": "both-1-1",
}


def selection() -> str:
    """The rules that choose rows, on ordinary data."""
    arms = _results("selection_trial")["arms"]
    columns = {"complied": COMPLIED, "over-refusal": "over-refusal", "SST-2 accuracy": "SST-2"}
    cells = {heading: _of(arms, name) for heading, name in columns.items()}
    return _table("of each step's rows, a fifth by", {**ALIGNED, **PLAIN, **SELECTED}, cells)


def penalties() -> str:
    """The penalties, on three data sets."""
    found = _results("regularizers_trial")
    arms = {name: {**found["references"], **each["arms"]} for name, each in found["data"].items()}
    cells = {
        "complied, no poison": _of(arms["ordinary"], COMPLIED),
        "5 % poison": _of(arms["poisoned-5"], COMPLIED),
        "20 % poison": _of(arms["poisoned-20"], COMPLIED),
        "over-refusal, 20 %": _of(arms["poisoned-20"], "over-refusal"),
        "task accuracy, 20 %": _of(arms["poisoned-20"], "task accuracy"),
    }
    return _table("held by", {**ALIGNED, **PLAIN, **HELD}, cells)


TABLES: Mapping[str, Callable[[], str]] = {"selection": selection, "penalties": penalties}


def _results(folder: str) -> Row:
    return json.loads((ROOT / "results" / folder / "table.json").read_text(encoding="utf-8"))


def _of(arms: Mapping[str, Row], name: str) -> Callable[[str], str]:
    """A cell of an arm: its rate and interval, a dash while it is not made."""

    def cell(arm: str) -> str:
        if arm not in arms:
            return "–"
        rate = arms[arm][name]
        return f"{rate['rate']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}]"

    return cell


def _table(corner: str, arms: Mapping[str, str], cells: Mapping[str, Callable[[str], str]]) -> str:
    lines = ["| " + " | ".join([corner, *cells]) + " |", "|---" * (len(cells) + 1) + "|"]
    lines += ["| " + " | ".join([label, *(cell(arm) for cell in cells.values())]) + " |" for label, arm in arms.items()]
    return "\n".join(lines)


def filled(text: str) -> str:
    """The text with its tables made anew.

    Raises:
        ValueError: a table that has no place in the text.
    """
    for name, table in TABLES.items():
        begin, end = f"<!-- {name} -->", "<!-- end -->"
        made = f"{begin}\n{table()}\n{end}"
        text, places = re.subn(f"{begin}\n.*?{end}", lambda _, made=made: made, text, flags=re.DOTALL)
        if places != 1:
            raise ValueError(f"README.md has {places} places for the table {name}; it needs one.")
    return text


def main() -> None:
    """Fills README.md."""
    readme = ROOT / "README.md"
    text = filled(readme.read_text(encoding="utf-8"))
    with whole_file(readme) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
