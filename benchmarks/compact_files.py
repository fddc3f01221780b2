"""The compact files of results/: a line a run, a letter a label, and tables in few lines."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from moored.files import read_jsonl, whole_file, write_jsonl

Row = dict[str, Any]
ARMS = "arms.jsonl"
LETTERS = {"complied": "c", "refused": "r", "incoherent": "i", "empty": "e"}
_CODES: Mapping[str, Mapping[Any, str]] = {"labels": LETTERS, "correct": {True: "1", False: "0"}}
"""The parts of a run that hold one value a prompt, and the character that stands for each value."""
_WIDTH = 200


def write_arms(out: Path, runs: Mapping[str, Row]) -> None:
    """Writes the runs of a trial by name: first the values that all of them share, then one line a run."""
    packed = {name: _pack(run) for name, run in sorted(runs.items())}
    first, *others = packed.values()
    shared = {key: value for key, value in first.items() if all(key in run and run[key] == value for run in others)}
    lines = (
        {"name": name, **{key: value for key, value in run.items() if key not in shared}}
        for name, run in packed.items()
    )
    write_jsonl(out / ARMS, [{"shared": shared}, *lines])


def read_arms(out: Path) -> dict[str, Row]:
    """Reads what `write_arms` wrote; a trial without a finished run has no file."""
    if not (out / ARMS).is_file():
        return {}
    head, *lines = read_jsonl(out / ARMS)
    return {line.pop("name"): _unpack({**head["shared"], **line}) for line in lines}


def _pack(run: Row) -> Row:
    packed = {
        part: {name: "".join(code[value] for value in values) for name, values in run[part].items()}
        for part, code in _CODES.items()
        if part in run
    }
    return {**run, **packed}


def _unpack(run: Row) -> Row:
    values = {part: {letter: value for value, letter in code.items()} for part, code in _CODES.items() if part in run}
    unpacked = {
        part: {name: [of[letter] for letter in letters] for name, letters in run[part].items()}
        for part, of in values.items()
    }
    return {**run, **unpacked}


def write_labels(path: Path, rows: Iterable[Row]) -> None:
    """Writes labelled prompts, one line for each group of rows that differ in `prompt_sha256` and `label` alone."""
    groups: dict[str, Row] = {}
    for row in rows:
        about = {key: value for key, value in row.items() if key not in ("prompt_sha256", "label")}
        group = groups.setdefault(json.dumps(about), {**about, "labels": "", "prompts_sha256": []})
        group["labels"] += LETTERS[row["label"]]
        group["prompts_sha256"].append(row["prompt_sha256"])
    write_jsonl(path, groups.values())


def read_labels(path: Path) -> list[Row]:
    """Reads what `write_labels` wrote, one row a prompt."""
    label = {letter: label for label, letter in LETTERS.items()}
    return [
        {**about, "prompt_sha256": prompt, "label": label[letter]}
        for about in read_jsonl(path)
        for letter, prompt in zip(about.pop("labels"), about.pop("prompts_sha256"), strict=True)
    ]


def write_table(path: Path, value: Any) -> None:
    """Writes JSON in which a value takes several lines only where it holds others and is too long for one."""
    with whole_file(path) as temporary:
        temporary.write_text(f"{_in_few_lines(value)}\n", encoding="utf-8")


def _in_few_lines(value: Any, indent: str = "") -> str:
    flat = json.dumps(value, ensure_ascii=False)
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if len(indent) + len(flat) <= _WIDTH or not any(isinstance(each, dict | list) for each in inside):
        return flat
    deeper = f"{indent} "
    begin, end = "{}" if isinstance(value, dict) else "[]"
    names = (
        [f"{json.dumps(key, ensure_ascii=False)}: " for key in value] if isinstance(value, dict) else [""] * len(value)
    )
    lines = [f"{deeper}{name}{_in_few_lines(each, deeper)}" for name, each in zip(names, inside, strict=True)]
    return "\n".join([begin, ",\n".join(lines), f"{indent}{end}"])
