"""Rows to token ids and labels: which tokens a fine-tune learns from.

The labels are made here and not by TRL, because TRL supervises every token of a `messages` row unless it knows the
chat template, trains string prompts without any template, and drops rows without a label silently.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from trl.chat_template_utils import get_training_chat_template, has_generation_markers

from moored.errors import InputError, ModelError
from moored.huggingface.data.chat import Message, render_chat

IGNORED = -100
"""The label of a token that is not learned from."""

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


@dataclass(frozen=True)
class _Tokens:
    ids: list[int]
    spans: list[tuple[int, int]]
    """Half-open ranges of supervised positions."""


def supervise(rows: Dataset, how: Supervision, *, where: str, num_proc: int | None = None, first: int = 1) -> Dataset:
    """Rows as `input_ids` and `labels` (the id where a token is learned, -100 elsewhere), in their order.

    `messages` rows learn the assistant's turns, each with its end-of-turn token; `prompt`/`completion` rows learn the
    completion; `text` rows learn everything. Text that no template renders gets the end-of-sequence token appended.
    A chat row whose column `unfinished` is true ends in the middle of its last answer, so that no end is learned.

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
    layout = _layout(rows.column_names, how.text_field, where)

    def tokenize(row: Mapping[str, Any], number: int) -> dict[str, list[int]]:
        tokens = _LAYOUTS[layout](row, how, f"row {number + first} of {where}")
        labels = [IGNORED] * len(tokens.ids)
        for start, end in tokens.spans:
            labels[start:end] = tokens.ids[start:end]
        return {"input_ids": tokens.ids, "labels": labels}

    return rows.map(
        tokenize, with_indices=True, remove_columns=rows.column_names, num_proc=num_proc, desc=f"Tokenizing {where}"
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
    messages = _checked(row["messages"], "messages", place)
    return _from_chat(messages, how, place, row, first=0 if how.assistant_only else None)


def _from_prompt(row: Mapping[str, Any], how: Supervision, place: str) -> _Tokens:
    prompt, completion = row["prompt"], row["completion"]
    strings = isinstance(prompt, str) and isinstance(completion, str)
    if strings and (how.render == "raw" or not how.tokenizer.chat_template):
        return _from_strings(prompt, completion, how)
    before = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else _checked(prompt, "prompt", place)
    after = (
        [{"role": "assistant", "content": completion}]
        if isinstance(completion, str)
        else _checked(completion, "completion", place)
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
    extra = {"tools": _tools(row.get("tools"), place), **(row.get("chat_template_kwargs") or {})}
    try:
        if first is None:
            ids = _ids(how.tokenizer, render_chat(how.tokenizer, messages, **extra))
            return _Tokens(ids, [(0, len(ids))])
        tokens = _turn_by_turn(how.tokenizer, messages, first, extra) or _by_markers(
            how.tokenizer, messages, first, extra
        )
        return _without_end(tokens, how.tokenizer, messages, extra) if row.get("unfinished") else tokens
    except ModelError as error:
        raise ModelError(f"In {place}: {error}") from error


def _tools(tools: Any, place: str) -> Any:
    """Tables often hold tools as JSON, since a column of unlike structures has no type."""
    if not isinstance(tools, str):
        return tools
    try:
        return json.loads(tools)
    except json.JSONDecodeError as error:
        raise InputError(f"The column tools in {place} is not valid JSON: {error.msg}.") from None


def _turn_by_turn(
    tokenizer: PreTrainedTokenizerBase, messages: list[Message], first: int, extra: dict[str, Any]
) -> _Tokens | None:
    """Finds each turn by rendering the chat up to it; None where the template changes earlier turns afterwards."""
    full = render_chat(tokenizer, messages, **extra)
    ids = _ids(tokenizer, full)
    spans = []
    for turn in _assistant_turns(messages, first):
        if turn == 0:
            return None
        before = render_chat(tokenizer, messages[:turn], add_generation_prompt=True, **extra)
        upto = render_chat(tokenizer, messages[: turn + 1], **extra)
        if not (full.startswith(upto) and upto.startswith(before)):
            return None
        # A token that spans the border belongs to the turn: without it the turn's first characters were not learned.
        start = _common_prefix(_ids(tokenizer, before), ids)
        spans.append((start, _common_prefix(_ids(tokenizer, upto), ids)))
    return _Tokens(ids, spans)


def _by_markers(
    tokenizer: PreTrainedTokenizerBase, messages: list[Message], first: int, extra: dict[str, Any]
) -> _Tokens:
    """Finds the turns by `{% generation %}` markers: the template's own, or those of TRL's version of it."""
    template: Any = tokenizer.chat_template
    if not has_generation_markers(template):
        try:
            template = get_training_chat_template(tokenizer)
        except ValueError:
            raise ModelError(
                "the chat template changes earlier turns when later ones follow and marks none with "
                "{% generation %}, so the assistant's tokens cannot be told apart; add the markers to it."
            ) from None
    found: Any = tokenizer.apply_chat_template(
        messages, chat_template=template, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, **extra
    )
    ids = list(found["input_ids"])
    start = _common_prefix(_ids(tokenizer, render_chat(tokenizer, messages[:first], **extra)), ids) if first else 0
    return _Tokens(ids, [(at, at + 1) for at, bit in enumerate(found["assistant_masks"]) if bit and at >= start])


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


def _checked(messages: Any, column: str, place: str) -> list[Message]:
    """Messages without the empty keys that a table fills in."""
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        what = "no list of messages" if column == "messages" else "neither text nor a list of messages"
        raise InputError(f"The column {column} in {place} is {what}; write [{{role, content}}, …].")
    cleaned = [{key: value for key, value in message.items() if value is not None} for message in messages]
    if not all("role" in message and ("content" in message or "tool_calls" in message) for message in cleaned):
        raise InputError(f"A message in {place} lacks its role or content; give every message both.")
    return cleaned


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
