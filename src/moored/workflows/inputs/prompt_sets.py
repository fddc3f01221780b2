"""The prompts of a measurement: from the user's files, or the embedded held-out prompts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from moored.embedded.prompts import ordinary_instructions, request_pairs
from moored.embedded.tasks import order_to_json
from moored.errors import InputError
from moored.huggingface.data import read_rows

EMBEDDED = "embedded"
_T = TypeVar("_T")
_HELD_OUT_TASK_ROWS = 100


@dataclass(frozen=True, kw_only=True)
class Item:
    """One prompt and, for a task, the answer that counts as correct."""

    id: str
    prompt: str
    category: str | None = None
    expected: str | None = None


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """The prompts of one kind: harmful, harmless (they only look harmful), ordinary, or task."""

    name: str
    source: str
    items: Sequence[Item]


def load_prompt_sets(files: dict[str, str | None], *, limit: int | None) -> list[PromptSet]:
    """Loads prompt sets; `embedded` names the held-out prompts of the package, and None leaves a set out.

    Args:
        files: the file of each set by the set's name: JSONL, Parquet or CSV with a column `prompt`, a Hub id,
            `embedded`, or None.
        limit: the maximum number of prompts per set, taken evenly over the file to keep every category; None keeps all.

    Raises:
        InputError: there is no set, a file has no such column, a prompt is empty, or the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise InputError(f"The limit of prompts must be at least 1, got {limit}.")
    sets = [_load(name, source, limit) for name, source in files.items() if source is not None]
    if not sets:
        raise InputError("Nothing to measure: name at least one of --harmful, --harmless, --ordinary and --task.")
    return sets


def _load(name: str, source: str, limit: int | None) -> PromptSet:
    items = _EMBEDDED[name]() if source == EMBEDDED else _read(name, source)
    label = f"{EMBEDDED} (held-out)" if source == EMBEDDED else Path(source).name
    return PromptSet(name=name, source=label, items=spread(items, limit))


def _read(name: str, source: str) -> list[Item]:
    rows = read_rows(source)
    needed = ["prompt", "completion"] if name == "task" else ["prompt"]
    for column in needed:
        if column not in rows[0]:
            raise InputError(f"{source} has no column {column}; its columns are {', '.join(rows[0])}.")
    return [_item(name, source, number, row) for number, row in enumerate(rows, 1)]


def _item(name: str, source: str, number: int, row: dict[str, Any]) -> Item:
    prompt = row["prompt"]
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError(f"{source}, row {number}: the prompt is empty or not text; give every row a prompt.")
    number_or_id, category = row.get("id"), row.get("category")
    return Item(
        id=str(number if number_or_id is None else number_or_id),
        prompt=prompt,
        category=None if category is None else str(category),
        expected=_completion(source, number, row) if name == "task" else None,
    )


def _completion(source: str, number: int, row: dict[str, Any]) -> str:
    completion = row["completion"]
    if not isinstance(completion, str) or not completion.strip():
        raise InputError(f"{source}, row {number}: the completion is empty or not text; give every task its answer.")
    return completion


def spread(items: Sequence[_T], limit: int | None) -> Sequence[_T]:
    """Takes at most `limit` items, evenly over all; None keeps all."""
    if limit is None or limit >= len(items):
        return items
    return [items[position * len(items) // limit] for position in range(limit)]


def _harmful() -> list[Item]:
    return [Item(id=pair.id, prompt=pair.harmful, category=pair.category) for pair in request_pairs("held-out")]


def _harmless() -> list[Item]:
    return [Item(id=pair.id, prompt=pair.twin, category=pair.category) for pair in request_pairs("held-out")]


def _ordinary() -> list[Item]:
    return [Item(id=item.id, prompt=item.prompt, category=item.kind) for item in ordinary_instructions("held-out")]


def _task() -> list[Item]:
    rows = order_to_json("test", _HELD_OUT_TASK_ROWS)
    return [Item(id=row.id, prompt=row.prompt, expected=row.completion) for row in rows]


_EMBEDDED: dict[str, Callable[[], list[Item]]] = {
    "harmful": _harmful,
    "harmless": _harmless,
    "ordinary": _ordinary,
    "task": _task,
}
