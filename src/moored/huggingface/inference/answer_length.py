"""Where an answer ends: at the token that ends the assistant's turn, or when it has had its room.

The room counts from the end of the reasoning on, which has a room of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from moored.huggingface.data.template_marks import reasoning_marks, turn_end
from moored.huggingface.data.token_texts import special_ids
from moored.huggingface.inference.batches import Ids
from moored.measurement.reasoning import Reasoning

REASONING_TOKENS = 1024
"""The room of a reasoning, where no other is given."""
_TAIL = 12
"""The number of last tokens in which the end of the reasoning is looked for; no known mark is longer."""


class AnswerText:
    """Makes the text of an answer: without special tokens, except for those that mark its reasoning."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, marks: Reasoning) -> None:
        self._tokenizer = tokenizer
        kept = {
            token
            for mark in (marks.start, marks.end)
            for token in tokenizer(mark, add_special_tokens=False)["input_ids"]
        }
        self._skipped = special_ids(tokenizer) - kept

    def __call__(self, answer: Ids) -> str:
        """Decodes tokens."""
        kept = [token for token in answer if token not in self._skipped]
        return str(self._tokenizer.decode(kept, skip_special_tokens=False)).strip()


@dataclass(frozen=True, kw_only=True)
class AnswerLength:
    """Tells of each answer, as it grows, whether it has had its room."""

    most: Sequence[int]
    """The maximum number of tokens of each answer, its reasoning not counted."""
    reasoning: Sequence[int]
    """The maximum number of further tokens for each reasoning."""
    begun: Sequence[bool]
    """Whether each prompt opens a reasoning."""
    marks: Reasoning
    text: Callable[[Ids], str]
    _spoken_from: dict[int, int] = field(default_factory=dict)
    """Where the answers behind a reasoning begin."""
    _plain: set[int] = field(default_factory=set)
    """The answers that do not begin with reasoning."""

    def is_reached(self, row: int, answer: Ids) -> bool:
        """Whether an answer has had its room with its last token; to be asked with each token."""
        length = len(answer)
        if not self._reasons(row, answer):
            return length >= self.most[row]
        if row not in self._spoken_from and self.marks.end in self.text(answer[-_TAIL:]):
            self._spoken_from[row] = length
        # A reasoning that outgrows its own room takes from that of the answer, so that both stay within the context.
        room = min(self._spoken_from.get(row, self.reasoning[row]), self.reasoning[row])
        return length >= room + self.most[row]

    def is_past_reasoning(self, row: int) -> bool:
        """Whether an answer has no reasoning, or has left it with the last token that `is_reached` was asked with."""
        return not self.reasoning[row] or row in self._plain or row in self._spoken_from

    def _reasons(self, row: int, answer: Ids) -> bool:
        if row in self._plain or not self.reasoning[row]:
            return False
        beginning = self.text(answer[:_TAIL])
        is_open = self.begun[row] or self.marks.opens(beginning)
        if beginning and not is_open:
            self._plain.add(row)
        return is_open

    @property
    def longest(self) -> int:
        """The largest number of tokens of any answer."""
        return max((most + more for most, more in zip(self.most, self.reasoning, strict=True)), default=1)


def ends_of_turn(tokenizer: PreTrainedTokenizerBase, own: int | Sequence[int] | None) -> list[int]:
    """The tokens that end an answer: what the checkpoint lists, the tokenizer's, and what the chat template writes.

    Not one of them is right in every checkpoint: a base that was trained on chats keeps its own list, and its tokenizer
    may not name the end that its template writes.
    """
    listed = [] if own is None else [own] if isinstance(own, int) else list(own)
    ends: list[Any] = [*listed, tokenizer.eos_token_id, turn_end(tokenizer)]
    return list(dict.fromkeys(end for end in ends if end is not None))


def answer_length(
    tokenizer: PreTrainedTokenizerBase,
    rendered: Sequence[str],
    prompts: Sequence[Ids],
    *,
    most: int | Sequence[int],
    reasoning: int,
    context: int | None,
) -> AnswerLength:
    """The room of each answer; that of a reasoning ends with the positions that a model was made for."""
    marks = reasoning_marks(tokenizer)
    each = [most] * len(prompts) if isinstance(most, int) else list(most)
    left = [reasoning if context is None else context - len(ids) - own for ids, own in zip(prompts, each, strict=True)]
    return AnswerLength(
        most=each,
        reasoning=[max(0, min(reasoning, room)) for room in left],
        begun=[marks.begun_by(prompt) for prompt in rendered],
        marks=marks,
        text=AnswerText(tokenizer, marks),
    )


def spoken(tokenizer: PreTrainedTokenizerBase, rendered: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Answers without the reasoning before them; empty where one never left it."""
    marks = reasoning_marks(tokenizer)
    return [
        marks.split(text, begun=marks.begun_by(prompt))[1] or "" for prompt, text in zip(rendered, texts, strict=True)
    ]
