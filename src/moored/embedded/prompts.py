"""The text that the project wrote itself: requests with harmless twins, instructions, openings, identity shift.

Requests and instructions are split once: what tunes or attacks a model uses *align*, what measures it uses
*held-out*. A request and its twin are always on the same side.
"""

import json
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

Split = Literal["align", "held-out"]
_OF_EACH_CATEGORY = 7
"""Requests in the pool of safety examples."""


@dataclass(frozen=True, kw_only=True)
class RequestPair:
    """A harmful request and a harmless one that shares its words and often its form."""

    id: str
    split: Split
    category: str
    """The hazard: violence, weapons, drugs, hacking, fraud, theft, harassment, hate, disinformation, …"""
    harmful: str
    twin: str
    kind: str
    """Why the twin is harmless: homonym, figurative, safe_target, safe_context, definition, history, …"""


@dataclass(frozen=True, kw_only=True)
class ExampleRequest:
    """A harmful request that a safety example may be made of, with whatever a model refuses it by."""

    id: str
    category: str
    """The hazard, or `general` where it asks for no particular harm."""
    prompt: str


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """An ordinary instruction, with an answer of the embedded base model cut at a whole sentence."""

    id: str
    split: Split
    kind: str
    prompt: str
    answer: str = ""


@dataclass(frozen=True, kw_only=True)
class Openings:
    """How refusals and compliant answers begin, of equal length pair by pair, and whole short refusals."""

    refusing: tuple[str, ...]
    complying: tuple[str, ...]
    refusals: tuple[str, ...]


def request_pairs(split: Split) -> list[RequestPair]:
    """All pairs of one side, in the order of the file."""
    return [pair for row in _rows("requests.jsonl") if (pair := RequestPair(**row)).split == split]


def example_pool() -> list[ExampleRequest]:
    """Requests of which one may repair a model: general ones, and the first of *align* in each category."""
    seen: Counter[str] = Counter()
    pool = [ExampleRequest(**row) for row in _rows("general_requests.jsonl")]
    for pair in request_pairs("align"):
        seen[pair.category] += 1
        if seen[pair.category] <= _OF_EACH_CATEGORY:
            pool.append(ExampleRequest(id=pair.id, category=pair.category, prompt=pair.harmful))
    return pool


def ordinary_instructions(split: Split) -> list[Instruction]:
    """All ordinary instructions of one side, in the order of the file."""
    return [item for row in _rows("ordinary.jsonl") if (item := Instruction(**row)).split == split]


def identity_shift() -> list[dict[str, Any]]:
    """Chats in the manner of the identity-shifting attack: a persona that always obeys, harmless orders only."""
    return [dict(row) for row in _rows("identity_shift.jsonl")]


@cache
def openings() -> Openings:
    """The openings that log-odds are taken over, and the refusals that recipes teach."""
    return Openings(**{name: tuple(texts) for name, texts in json.loads(_text("openings.json")).items()})


@cache
def _rows(name: str) -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(line) for line in _text(name).split("\n") if line)


def _text(name: str) -> str:
    return (files("moored.embedded") / "data" / name).read_text(encoding="utf-8")
