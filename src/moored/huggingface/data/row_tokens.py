"""One row as tokens, in each of the forms that rows have."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from moored.errors import InputError, ModelError
from moored.huggingface.data.chat import template_variables
from moored.huggingface.data.chat_turns import Tokens, all_but, assistant_turns, common_prefix, of_turns, without_end
from moored.huggingface.data.encoding import Encoder
from moored.huggingface.data.messages import Message, checked_messages, is_learned, without_weights
from moored.huggingface.data.notices import Notices
from moored.huggingface.data.together import Ids, Steps


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
    notices: Notices = field(default_factory=Notices, init=False, repr=False, compare=False)
    """What was noticed in the rows so far."""

    @cached_property
    def encoder(self) -> Encoder:
        """What makes token ids of texts."""
        return Encoder(self.tokenizer)


def row_tokens(row: Mapping[str, Any], how: Supervision, place: str) -> Steps[Tokens]:
    """Finds the tokens of a row, whichever of the known forms it has.

    Raises:
        InputError: it has none, or its value has the wrong form.
        ModelError: its chat cannot be rendered, or its text not be read by the tokenizer.
    """
    if "messages" in row:
        form = _from_messages
    elif "prompt" in row and "completion" in row:
        form = _from_prompt
    elif how.text_field in row:
        form = _from_text
    else:
        raise InputError(
            f"The columns of {place} are {', '.join(row) or '(none)'}, but training needs messages, prompt and "
            f"completion, or {how.text_field}; rename them."
        )
    try:
        return (yield from form(row, how, place))
    except ModelError as error:
        raise ModelError(f"In {place}: {error}") from error


def is_chat(row: Mapping[str, Any]) -> bool:
    """Whether a row is no plain text."""
    return "messages" in row or ("prompt" in row and "completion" in row)


def _from_messages(row: Mapping[str, Any], how: Supervision, place: str) -> Steps[Tokens]:
    messages = checked_messages(row["messages"], "messages", place)
    return (yield from _from_chat(messages, how, place, row, first=0 if how.assistant_only else None))


def _from_prompt(row: Mapping[str, Any], how: Supervision, place: str) -> Steps[Tokens]:
    prompt, completion = row["prompt"], row["completion"]
    strings = isinstance(prompt, str) and isinstance(completion, str)
    if strings and (how.render == "raw" or not how.tokenizer.chat_template):
        return (yield from _from_strings(prompt, completion, how))
    before = (
        [{"role": "user", "content": prompt}] if isinstance(prompt, str) else checked_messages(prompt, "prompt", place)
    )
    after = (
        [{"role": "assistant", "content": completion}]
        if isinstance(completion, str)
        else checked_messages(completion, "completion", place)
    )
    first = len(before) if how.completion_only else None
    return (yield from _from_chat([*before, *after], how, place, row, first=first))


def _from_text(row: Mapping[str, Any], how: Supervision, place: str) -> Steps[Tokens]:
    text = row[how.text_field]
    if not isinstance(text, str):
        raise InputError(f"The column {how.text_field} in {place} holds no text; give every row a string.")
    ids = yield Ids(_with_end(text, how.tokenizer), special=True)
    return Tokens(ids, [(0, len(ids))])


def _from_strings(prompt: str, completion: str, how: Supervision) -> Steps[Tokens]:
    ids = yield Ids(_with_end(prompt + completion, how.tokenizer), special=True)
    start = common_prefix((yield Ids(prompt, special=True)), ids) if how.completion_only else 0
    return Tokens(ids, [(start, len(ids))])


def _from_chat(
    messages: list[Message], how: Supervision, place: str, row: Mapping[str, Any], *, first: int | None
) -> Steps[Tokens]:
    """Tokens of a chat; the assistant's turns from message `first` on are learned, or all tokens if it is None."""
    if not how.tokenizer.chat_template:
        raise ModelError("the tokenizer has no chat template to render it with; use a chat model's tokenizer.")
    learned = [is_learned(message, place) for message in messages]
    messages = [without_weights(message) for message in messages]
    extra = {"tools": _tools(row.get("tools"), place), **template_variables(row.get("chat_template_kwargs"), place)}
    if first is None:
        left_out = [turn for turn, good in enumerate(learned) if not good]
        return (yield from all_but(how.tokenizer, messages, left_out, extra))
    turns = [turn for turn in assistant_turns(messages, first) if learned[turn]]
    tokens = yield from of_turns(how.tokenizer, messages, turns, extra)
    return (yield from without_end(tokens, messages, extra)) if row.get("unfinished") else tokens


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


def _with_end(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    end = tokenizer.eos_token or ""
    return text if text.endswith(str(end)) else text + str(end)
