"""Rows to token ids and labels: which tokens a fine-tune learns from.

The labels are made here and not by TRL, because TRL supervises every token of a `messages` row unless it knows the
chat template, trains string prompts without any template, and drops rows without a label silently.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from trl.chat_template_utils import get_training_chat_template, has_generation_markers

from moored.errors import InputError, ModelError
from moored.huggingface.data.chat import apply_template, fitting, render_chat, template_variables
from moored.huggingface.data.formats import as_written, written_rows
from moored.huggingface.data.messages import Message, checked_messages, is_learned, without_weights
from moored.huggingface.data.unread import unread_keys
from moored.measurement.reasoning import spoken_part, without_marks

IGNORED = -100
"""The label of a token that is not learned from."""

_FORGETFUL = "the chat template takes the thoughts out of earlier turns, so those turns are not learned"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Supervision:
    """How rows become tokens and labels."""

    tokenizer: PreTrainedTokenizerBase
    render: Literal["chat", "raw"] = "chat"
    """`chat` renders string prompt/completion rows as a chat when the tokenizer has a template; `raw` never does."""
    text_field: str = "text"
    """The column of plain text rows."""
    completion_only: bool = True
    """False: the prompts of prompt/completion rows are learned too."""
    assistant_only: bool = True
    """False: every turn of `messages` rows is learned."""
    named: set[str] = field(default_factory=set, init=False, repr=False, compare=False)
    """The keys of rows that a warning has named already."""


@dataclass(frozen=True)
class _Tokens:
    ids: list[int]
    spans: list[tuple[int, int]]
    """Half-open ranges of supervised positions."""
    is_forgetful: bool = False
    """Whether turns are not learned because their thoughts are gone."""


def supervise(rows: Dataset, how: Supervision, *, where: str, num_proc: int | None = None, first: int = 1) -> Dataset:
    """Rows as `input_ids` and `labels` (the id where a token is learned, -100 elsewhere), in their order.

    `messages` rows learn the assistant's turns, each with its end-of-turn token; `prompt`/`completion` rows learn the
    completion; `text` rows learn everything. Text that no template renders gets the end-of-sequence token appended.
    A chat row whose column `unfinished` is true ends in the middle of its last answer, so that no end is learned. Turns
    whose `weight` is 0 or whose `train` is false are not learned.

    Args:
        rows: with the columns `messages`, or `prompt` and `completion` (strings or messages), or a text column.
        how: the tokenizer and the settings.
        where: the name of the data in errors.
        num_proc: processes to tokenize with.
        first: the number of the first row in errors, where the rows are a part of more.

    Raises:
        InputError: no known columns, or a row whose value has the wrong form (with its number).
        ModelError: a chat is to be rendered without a template, or by one whose turns cannot be told apart.
    """
    layout, features = _layout(rows.column_names, how.text_field, where), rows.features
    if layout != "text":
        _name_unread(rows, how, _LAYOUTS[layout], where, first)

    def tokenize(row: Mapping[str, Any], number: int) -> dict[str, list[int]]:
        tokens = _LAYOUTS[layout](as_written(row, features), how, f"row {number + first} of {where}")
        if tokens.is_forgetful and _FORGETFUL not in how.named:
            how.named.add(_FORGETFUL)
            _logger.warning("%s: %s (row %d, say).", where, _FORGETFUL, number + first)
        labels = [IGNORED] * len(tokens.ids)
        for start, end in tokens.spans:
            labels[start:end] = tokens.ids[start:end]
        return {"input_ids": tokens.ids, "labels": labels}

    return rows.map(
        tokenize, with_indices=True, remove_columns=rows.column_names, num_proc=num_proc, desc=f"Tokenizing {where}"
    )


def _name_unread(rows: Dataset, how: Supervision, layout: Any, where: str, first: int) -> None:
    """Says in one line which keys of the rows are learned by no token, each once."""
    unread = unread_keys(written_rows(rows), lambda row: layout(row, how, where))
    new = [f"{key} (row {number + first}, say)" for key, number in unread.items() if str(key) not in how.named]
    how.named.update(map(str, unread))
    if new:
        _logger.warning(
            "%s: the rendering does not change with %s, so nothing of it is learned.", where, ", ".join(new)
        )


def _layout(columns: list[str], text_field: str, where: str) -> str:
    if "messages" in columns:
        return "messages"
    if {"prompt", "completion"} <= set(columns):
        return "prompt"
    if text_field in columns:
        return "text"
    raise InputError(
        f"{where} has the columns {', '.join(columns) or '(none)'}, but training needs messages, "
        f"prompt and completion, or {text_field}; rename its columns."
    )


def _from_messages(row: Mapping[str, Any], how: Supervision, place: str) -> _Tokens:
    messages = checked_messages(row["messages"], "messages", place)
    return _from_chat(messages, how, place, row, first=0 if how.assistant_only else None)


def _from_prompt(row: Mapping[str, Any], how: Supervision, place: str) -> _Tokens:
    prompt, completion = row["prompt"], row["completion"]
    strings = isinstance(prompt, str) and isinstance(completion, str)
    if strings and (how.render == "raw" or not how.tokenizer.chat_template):
        return _from_strings(prompt, completion, how)
    before = (
        [{"role": "user", "content": prompt}] if isinstance(prompt, str) else checked_messages(prompt, "prompt", place)
    )
    after = (
        [{"role": "assistant", "content": completion}]
        if isinstance(completion, str)
        else checked_messages(completion, "completion", place)
    )
    return _from_chat([*before, *after], how, place, row, first=len(before) if how.completion_only else None)


def _from_text(row: Mapping[str, Any], how: Supervision, place: str) -> _Tokens:
    text = row[how.text_field]
    if not isinstance(text, str):
        raise InputError(f"The column {how.text_field} in {place} holds no text; give every row a string.")
    ids = _ids(how.tokenizer, _with_end(text, how.tokenizer), special=True)
    return _Tokens(ids, [(0, len(ids))])


_LAYOUTS = {"messages": _from_messages, "prompt": _from_prompt, "text": _from_text}


def _from_strings(prompt: str, completion: str, how: Supervision) -> _Tokens:
    ids = _ids(how.tokenizer, _with_end(prompt + completion, how.tokenizer), special=True)
    start = _common_prefix(_ids(how.tokenizer, prompt, special=True), ids) if how.completion_only else 0
    return _Tokens(ids, [(start, len(ids))])


def _from_chat(
    messages: list[Message], how: Supervision, place: str, row: Mapping[str, Any], *, first: int | None
) -> _Tokens:
    """Tokens of a chat; the assistant's turns from message `first` on are learned, or all tokens if it is None."""
    if not how.tokenizer.chat_template:
        raise ModelError(f"The tokenizer has no chat template to render {place} with; use a chat model's tokenizer.")
    learned = [is_learned(message, place) for message in messages]
    messages = [without_weights(message) for message in messages]
    extra = {"tools": _tools(row.get("tools"), place), **template_variables(row.get("chat_template_kwargs"), place)}
    try:
        if first is None:
            return _all_but(how.tokenizer, messages, [turn for turn, good in enumerate(learned) if not good], extra)
        turns = [turn for turn in _assistant_turns(messages, first) if learned[turn]]
        tokens = _of_turns(how.tokenizer, messages, turns, extra)
        return _without_end(tokens, how.tokenizer, messages, extra) if row.get("unfinished") else tokens
    except ModelError as error:
        raise ModelError(f"In {place}: {error}") from error


def _tools(tools: Any, place: str) -> Any:
    """Tables often hold tools as JSON, since a column of unlike structures has no type."""
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except (ValueError, RecursionError) as error:
            raise InputError(f"The column tools in {place} is not valid JSON: {str(error)[:200]}.") from None
    if tools is not None and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise InputError(f"The column tools in {place} is no list of tools; write their JSON schemas, [{{…}}, …].")
    return tools


def _all_but(
    tokenizer: PreTrainedTokenizerBase, messages: list[Message], turns: list[int], extra: dict[str, Any]
) -> _Tokens:
    """All tokens of a chat, those of some turns left out."""
    if not turns:
        ids = _ids(tokenizer, render_chat(tokenizer, messages, **extra))
        return _Tokens(ids, [(0, len(ids))])
    out = _of_turns(tokenizer, messages, turns, extra)
    borders = [0, *(border for span in sorted(out.spans) for border in span), len(out.ids)]
    return _Tokens(out.ids, list(zip(borders[::2], borders[1::2], strict=True)))


def _of_turns(
    tokenizer: PreTrainedTokenizerBase, messages: list[Message], turns: list[int], extra: dict[str, Any]
) -> _Tokens:
    """The tokens of a chat, and those of some of its turns."""
    return _turn_by_turn(tokenizer, messages, turns, extra) or _by_markers(tokenizer, messages, turns, extra)


def _turn_by_turn(
    tokenizer: PreTrainedTokenizerBase, messages: list[Message], turns: list[int], extra: dict[str, Any]
) -> _Tokens | None:
    """Finds turns by rendering the chat up to them; None where the template changes earlier turns afterwards.

    A template that takes the reasoning out of earlier turns is no such one. The tokens are those that it renders, as
    the model will see them; an earlier turn is learned without its empty think block, and not at all if its thoughts
    are gone: the model would learn to answer without thinking.
    """
    full = render_chat(tokenizer, messages, **extra)
    ids = _ids(tokenizer, full)
    spans, is_forgetful = [], False
    for turn in turns:
        is_answer = messages[turn]["role"] == "assistant"
        if turn == 0 and is_answer:
            return None
        before = render_chat(tokenizer, messages[:turn], add_generation_prompt=is_answer, **extra) if turn else ""
        upto = render_chat(tokenizer, messages[: turn + 1], **extra)
        if not (full.startswith(before) and upto.startswith(before)):
            return None
        thoughts, kept = _in_history(upto[len(before) :], full[len(before) :])
        if kept is None:
            return None
        is_forgetful = is_forgetful or bool(thoughts)
        if not thoughts:
            # A token that spans the border belongs to the turn: without it its first characters were not learned.
            start = _common_prefix(_ids(tokenizer, before), ids)
            spans.append((start, _common_prefix(_ids(tokenizer, before + kept), ids)))
    return _Tokens(ids, spans, is_forgetful)


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
) -> _Tokens:
    """Finds the assistant's turns by `{% generation %}` markers: the template's own, or those of TRL's version of it.

    What a generation prompt would hold is not learned, though markers may stand around it.
    """
    extra = {**extra, "chat_template": _marked_template(tokenizer, extra.get("tools"))}
    form, _ = fitting(tokenizer, messages, **extra)
    found = apply_template(tokenizer, form, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, **extra)
    ids = list(found["input_ids"])

    def length_before(turn: int, *, asking: bool) -> int:
        """How many tokens stand before a turn, the generation prompt included if the assistant is asked."""
        if turn == 0:
            return 0
        text = render_chat(tokenizer, messages[:turn], add_generation_prompt=asking, **extra)
        return _common_prefix(_ids(tokenizer, text), ids)

    begins = [length_before(turn, asking=False) for turn in _assistant_turns(messages, 0)]
    ends = dict(zip(_assistant_turns(messages, 0), [*begins[1:], len(ids)], strict=True))
    marked = [at for at, bit in enumerate(found["assistant_masks"]) if bit]
    spans = [(length_before(turn, asking=True), ends[turn]) for turn in turns if turn in ends]
    return _Tokens(ids, [(at, at + 1) for start, end in spans for at in marked if start <= at < end])


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


def _without_end(
    tokens: _Tokens, tokenizer: PreTrainedTokenizerBase, messages: list[Message], extra: dict[str, Any]
) -> _Tokens:
    """The tokens up to where the last answer breaks off."""
    end = _common_prefix(
        _ids(tokenizer, render_chat(tokenizer, messages, continue_final_message=True, **extra)), tokens.ids
    )
    return _Tokens(tokens.ids[:end], [(start, min(stop, end)) for start, stop in tokens.spans if start < end])


def _assistant_turns(messages: list[Message], first: int) -> Iterator[int]:
    return (turn for turn in range(first, len(messages)) if messages[turn]["role"] == "assistant")


def _ids(tokenizer: PreTrainedTokenizerBase, text: str, *, special: bool = False) -> list[int]:
    """A chat template writes its own special tokens; only text that no template rendered needs them added."""
    return list(tokenizer(text, add_special_tokens=special)["input_ids"])


def _with_end(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    end = tokenizer.eos_token or ""
    return text if text.endswith(str(end)) else text + str(end)


def _common_prefix(ids: list[int], others: list[int]) -> int:
    pairs = zip(ids, others, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(ids), len(others)))


def drop_empty_rows(
    rows: Dataset,
    *,
    where: str,
    max_length: int | None,
    keep_end: bool = False,
    on_empty: Literal["error", "drop"] = "error",
) -> Dataset:
    """Rows that still have a supervised token once they are cut to `max_length`.

    The first token of a row has no context and is never predicted, so its label does not count.

    Args:
        rows: with `input_ids` and `labels`.
        where: the name of the data in messages.
        max_length: tokens a row is cut to, or None.
        keep_end: cut from the left instead of from the right.
        on_empty: `error` refuses such rows, `drop` leaves them out and says how many and which.

    Raises:
        InputError: some rows are empty and `on_empty` is `error`, or all are.
    """
    kept_part = slice(None) if max_length is None else slice(-max_length, None) if keep_end else slice(max_length)
    full = [any(label != IGNORED for label in labels[kept_part][1:]) for labels in rows["labels"]]
    empty = [number for number, good in enumerate(full, 1) if not good]
    if not empty:
        return rows
    what = f"{len(empty)} of {len(full)} rows of {where} have no supervised token"
    what += "" if max_length is None else f" within max_length={max_length}"
    what += f" (rows {_some(empty)})"
    if on_empty == "error" or len(empty) == len(full):
        switch = "" if len(empty) == len(full) else ", or leave them out with on_empty_rows: drop"
        raise InputError(f"{what}; give them an answer to learn or raise max_length{switch}.")
    _logger.warning("%s; they are left out.", what)
    return rows.select([number for number, good in enumerate(full) if good])


def _some(numbers: list[int], most: int = 5) -> str:
    return ", ".join(map(str, numbers[:most])) + (", …" if len(numbers) > most else "")
