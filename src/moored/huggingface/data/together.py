"""Rows that become tokens side by side, so that their chats are rendered and their texts tokenized in batches.

A call of the tokenizer for one text takes five times as long as its share of a call for a thousand. What happens to a
row is still written for one row: a generator that yields what it needs to know and is sent the answer.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from moored.errors import ModelError, MooredError
from moored.huggingface.data.chat import render_chats
from moored.huggingface.data.encoding import Encoder, is_whole
from moored.huggingface.data.messages import Message

T = TypeVar("T")
_HALF = ModelError("the tokenizer cannot read half a character (a lone surrogate); correct the text.")


@dataclass(frozen=True)
class Rendering:
    """A request for the text of a chat."""

    messages: list[Message]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `render_chat`."""


@dataclass(frozen=True)
class Ids:
    """A request for the token ids of a text."""

    text: str
    special: bool = False
    """Whether the tokenizer adds its special tokens."""


Steps = Generator[Rendering | Ids, Any, T]
"""How a row becomes a T."""


def run_together(encoder: Encoder, rows: Sequence[Steps[T]]) -> list[T]:
    """Runs the steps of all rows, which a tokenizer answers, and returns their results.

    Raises:
        MooredError: the one of the first row that failed.
    """
    results: dict[int, T] = {}
    errors: dict[int, MooredError] = {}
    known: dict[str, list[int]] = {}
    answers: dict[int, Any] = dict.fromkeys(range(len(rows)))
    while answers:
        requests: dict[int, Rendering | Ids] = {}
        for number, answer in answers.items():
            steps = rows[number]
            try:
                requests[number] = steps.throw(answer) if isinstance(answer, MooredError) else steps.send(answer)
            except StopIteration as end:
                results[number] = end.value
            except MooredError as error:
                errors[number] = error
        answers = _answered(encoder, requests, known)
    if errors:
        raise errors[min(errors)]
    return [results[number] for number in range(len(rows))]


def _answered(encoder: Encoder, requests: Mapping[int, Rendering | Ids], known: dict[str, list[int]]) -> dict[int, Any]:
    """The answer to each request; an error stands where a chat cannot be rendered, or a text not be read."""
    answers: dict[int, Any] = {}
    for special in (False, True):
        texts = {n: each.text for n, each in requests.items() if isinstance(each, Ids) and each.special is special}
        answers |= zip(texts, _ids(encoder, list(texts.values()), special, known), strict=True)
    chats = {number: each for number, each in requests.items() if isinstance(each, Rendering)}
    while chats:
        # Tools, say, differ from row to row; most rows have none.
        settings = next(iter(chats.values())).settings
        alike = {number: each.messages for number, each in chats.items() if each.settings == settings}
        answers |= zip(alike, render_chats(encoder.tokenizer, list(alike.values()), **settings), strict=True)
        chats = {number: each for number, each in chats.items() if number not in alike}
    return answers


def _ids(
    encoder: Encoder, texts: list[str], special: bool, known: dict[str, list[int]]
) -> Sequence[list[int] | ModelError]:
    try:
        return encoder.ids(texts, special=special, known=known)
    except (TypeError, UnicodeEncodeError):
        if all(map(is_whole, texts)):
            raise
        # One by one it shows which is at fault.
        return [encoder.ids([text], special=special, known=known)[0] if is_whole(text) else _HALF for text in texts]
