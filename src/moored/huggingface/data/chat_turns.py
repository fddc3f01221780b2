"""The tokens of single turns of a chat, as a template renders it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase
from trl.chat_template_utils import get_training_chat_template, has_generation_markers

from moored.errors import ModelError
from moored.huggingface.data.chat import apply_template, fitting
from moored.huggingface.data.messages import Message
from moored.huggingface.data.together import Ids, Rendering, Steps
from moored.measurement.reasoning import spoken_part, without_marks

IGNORED = -100
"""The label of a token that is not learned from."""


@dataclass(frozen=True)
class Tokens:
    """The tokens of a row, and which of them are learned."""

    ids: list[int]
    spans: list[tuple[int, int]]
    """Half-open ranges of supervised positions."""
    is_forgetful: bool = False
    """Whether turns are not learned because their thoughts are gone."""

    def labels(self) -> list[int]:
        """Returns the id where a token is learned, -100 elsewhere."""
        labels = [IGNORED] * len(self.ids)
        for start, end in self.spans:
            labels[start:end] = self.ids[start:end]
        return labels


def all_but(
    tokenizer: PreTrainedTokenizerBase, messages: list[Message], turns: list[int], extra: dict[str, Any]
) -> Steps[Tokens]:
    """Finds all tokens of a chat but those of some turns."""
    if not turns:
        ids = yield Ids((yield Rendering(messages, extra)))
        return Tokens(ids, [(0, len(ids))])
    out = yield from of_turns(tokenizer, messages, turns, extra, all_of_them=True)
    borders = [0, *(border for span in sorted(out.spans) for border in span), len(out.ids)]
    return Tokens(out.ids, list(zip(borders[::2], borders[1::2], strict=True)))


def of_turns(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[Message],
    turns: list[int],
    extra: dict[str, Any],
    *,
    all_of_them: bool = False,
) -> Steps[Tokens]:
    """Finds the tokens of a chat, and those of some of its turns.

    Args:
        tokenizer: one with a chat template.
        messages: the chat.
        turns: the positions of the messages.
        extra: what else the template gets.
        all_of_them: whether turns count, too, that are not to be learned since their thoughts are gone.

    Raises:
        ModelError: the template changes earlier turns afterwards, and marks none.
    """
    tokens = yield from _turn_by_turn(messages, turns, extra, all_of_them)
    if tokens is not None:
        return tokens
    unmarked = [messages[turn]["role"] for turn in turns if messages[turn]["role"] != "assistant"]
    if unmarked:
        raise ModelError(
            f"the chat template changes earlier turns when later ones follow, so a turn of the role {unmarked[0]} "
            "cannot be left out; take its weight away, or learn the assistant's turns alone."
        )
    return (yield from _by_markers(tokenizer, messages, turns, extra))


def _turn_by_turn(
    messages: list[Message], turns: list[int], extra: dict[str, Any], all_of_them: bool
) -> Steps[Tokens | None]:
    """Finds turns by rendering the chat up to them; None where the template changes earlier turns afterwards.

    A template that takes the reasoning out of earlier turns is no such one. The tokens are those that it renders, as
    the model will see them; an earlier turn is learned without its empty think block, and not at all if its thoughts
    are gone: the model would learn to answer without thinking.
    """
    full = yield Rendering(messages, extra)
    ids = yield Ids(full)
    spans, is_forgetful = [], False
    for turn in turns:
        is_answer = messages[turn]["role"] == "assistant"
        if turn == 0 and is_answer:
            return None
        asking = {**extra, "add_generation_prompt": is_answer}
        before = (yield Rendering(messages[:turn], asking)) if turn else ""
        upto = full if turn == len(messages) - 1 else (yield Rendering(messages[: turn + 1], extra))
        if not (full.startswith(before) and upto.startswith(before)):
            return None
        thoughts, kept = _in_history(upto[len(before) :], full[len(before) :])
        if kept is None:
            return None
        is_forgetful = is_forgetful or bool(thoughts)
        if all_of_them or not thoughts:
            # A token that spans the border belongs to the turn: without it its first characters were not learned.
            start = common_prefix((yield Ids(before)), ids)
            until = before + kept
            spans.append((start, len(ids) if until == full else common_prefix((yield Ids(until)), ids)))
    return Tokens(ids, spans, is_forgetful)


def _in_history(turn: str, rest: str) -> tuple[str, str | None]:
    """What the template takes out of a turn, last in a chat, when others follow, and what it keeps: reasoning goes.

    Args:
        turn: the turn as it is rendered where it is the last.
        rest: what stands in the whole chat from the turn on.

    Returns:
        The thoughts that are gone, without their marks, and the text that is kept; None where more is different.
    """
    if rest.startswith(turn):
        return "", turn
    length = len(turn) - len(spoken_part(turn).lstrip())
    gone, kept = turn[:length], turn[length:]
    if not gone or not rest.startswith(kept):
        return "", None
    return without_marks(gone), kept


def _by_markers(
    tokenizer: PreTrainedTokenizerBase, messages: list[Message], turns: list[int], extra: dict[str, Any]
) -> Steps[Tokens]:
    """Finds the assistant's turns by `{% generation %}` markers: the template's own, or those of TRL's version of it.

    What a generation prompt would hold is not learned, though markers may stand around it.
    """
    extra = {**extra, "chat_template": _marked_template(tokenizer, extra.get("tools"))}
    form, _ = fitting(tokenizer, messages, **extra)
    found = apply_template(tokenizer, form, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, **extra)
    ids = list(found["input_ids"])

    def length_before(turn: int, *, asking: bool) -> Steps[int]:
        """How many tokens stand before a turn, the generation prompt included if the assistant is asked."""
        if turn == 0:
            return 0
        text = yield Rendering(messages[:turn], {**extra, "add_generation_prompt": asking})
        return common_prefix((yield Ids(text)), ids)

    answers, begins, spans = list(assistant_turns(messages)), [], []
    for turn in answers:
        begins.append((yield from length_before(turn, asking=False)))
    ends = dict(zip(answers, [*begins[1:], len(ids)], strict=True))
    marked = [at for at, bit in enumerate(found["assistant_masks"]) if bit]
    for turn in (turn for turn in turns if turn in ends):
        spans.append(((yield from length_before(turn, asking=True)), ends[turn]))
    return Tokens(ids, [(at, at + 1) for start, end in spans for at in marked if start <= at < end])


def _marked_template(tokenizer: PreTrainedTokenizerBase, tools: Any) -> str:
    """The chat template with markers around what the assistant says."""
    template = tokenizer.get_chat_template(tools=tools)
    if has_generation_markers(template):
        return template
    try:
        known = get_training_chat_template(tokenizer)
    except ValueError:
        known = None
    if known is None:
        raise ModelError(
            "the chat template changes earlier turns when later ones follow and marks none with "
            "{% generation %}, so the assistant's tokens cannot be told apart; add the markers to it."
        )
    return known


def without_end(tokens: Tokens, messages: list[Message], extra: dict[str, Any]) -> Steps[Tokens]:
    """Finds the tokens up to where the last answer breaks off."""
    unfinished = yield Rendering(messages, {**extra, "continue_final_message": True})
    end = common_prefix((yield Ids(unfinished)), tokens.ids)
    spans = [(start, min(stop, end)) for start, stop in tokens.spans if start < end]
    return Tokens(tokens.ids[:end], spans, tokens.is_forgetful)


def assistant_turns(messages: list[Message], first: int = 0) -> Iterator[int]:
    """Yields the positions of the assistant's messages from message `first` on."""
    return (turn for turn in range(first, len(messages)) if messages[turn]["role"] == "assistant")


def common_prefix(ids: list[int], others: list[int]) -> int:
    """Counts the tokens that two sequences begin with alike."""
    if ids == others[: len(ids)]:
        return len(ids)
    pairs = zip(ids, others, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(ids), len(others)))
