"""Strategies for what users bring: the right shape mostly, with a few values, keys or bytes that are not."""

import json
import string
from typing import Any

import hypothesis.strategies as st
import yaml

TEXTS = st.text(max_size=12) | st.sampled_from(["", " ", "\x00", "\u2028", "\x1b[2J", "[red]", "é", "{{ x }}", "</s>"])
NAMES = st.text(string.ascii_lowercase + "_.", min_size=1, max_size=8)
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, -1, 1e308, float("nan"), float("inf"), 2**70])
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3))
"""Whatever JSON can hold, and what Python writes beyond."""


def mostly(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Something usual eleven times in twelve, else anything."""
    return st.integers(0, 11).flatmap(lambda draw: VALUES if draw == 0 else usual)


def mappings(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Mappings of known keys to mostly usual values, sometimes with an unknown one."""
    known = st.fixed_dictionaries(
        {key: mostly(value) for key, value in required.items()},
        optional={key: mostly(value) for key, value in optional.items()},
    )
    more = st.integers(0, 15).flatmap(lambda draw: st.dictionaries(NAMES, VALUES, max_size=2 if draw == 0 else 0))
    return st.builds(lambda one, other: {**one, **other}, known, more)


def _damaged(text: bytes) -> st.SearchStrategy[bytes]:
    """A file as it is, cut off, or with a few bytes put in."""
    cut = st.integers(0, len(text)).map(lambda end: text[:end])
    put = st.builds(lambda at, more: text[:at] + more + text[at:], st.integers(0, len(text)), st.binary(max_size=4))
    return st.integers(0, 9).flatmap(lambda draw: {0: cut, 1: put}.get(draw, st.just(text)))


def files(values: st.SearchStrategy[Any], write: Any = json.dumps) -> st.SearchStrategy[bytes]:
    """The bytes of files that hold a value, some of them damaged."""
    return values.map(lambda value: write(value).encode("utf-8", "surrogatepass")).flatmap(_damaged)


def json_lines(rows: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """The bytes of JSONL files of a few rows."""
    return files(st.lists(rows, max_size=4), lambda values: "".join(json.dumps(value) + "\n" for value in values))


def yaml_files(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """The bytes of YAML files."""
    return files(values, lambda value: yaml.safe_dump(value, allow_unicode=True))


PARTS = st.lists(mappings({"type": st.just("text"), "text": TEXTS}, {}), max_size=2)
CALLS = st.lists(mappings({"function": mappings({"name": NAMES, "arguments": VALUES}, {})}, {"id": TEXTS}), max_size=2)
TURNS = mappings(
    {"role": st.sampled_from(["user", "assistant", "system", "tool"]), "content": TEXTS | PARTS},
    {"weight": st.sampled_from([0, 1]), "train": st.booleans(), "tool_calls": CALLS, "name": TEXTS},
)
CHATS = st.lists(TURNS, max_size=4)
ROWS = (
    mappings({"messages": CHATS}, {"tools": VALUES, "chat_template_kwargs": VALUES, "system": TEXTS})
    | mappings({"prompt": TEXTS | CHATS, "completion": TEXTS | CHATS}, {"weight": NUMBERS})
    | mappings({"text": TEXTS}, {})
)
PROMPTS = mappings({"prompt": TEXTS}, {"id": TEXTS | st.integers(), "category": TEXTS, "completion": TEXTS})
