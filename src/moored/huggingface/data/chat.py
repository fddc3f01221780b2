"""One rendering of chats for everything that is compared, and its hash."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, tzinfo
from inspect import signature
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase
from transformers.utils import chat_template_utils

from moored.errors import InputError, ModelError, UserError
from moored.huggingface.data.messages import Message, with_parts, with_plain_text
from moored.measurement.reasoning import spoken_part

TEMPLATE_DATE = datetime(2026, 1, 1, 12)
"""The date that templates get when they ask for today's: renderings of two days could not be compared."""
Thinking = Literal["on", "off"]
_SWITCHES = ("enable_thinking", "thinking")
"""The names that templates have for the switch of a model's reasoning."""
_ANSWER = "Zanzibar"


def render_prompt(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str | Sequence[Message],
    system: str | None = None,
    *,
    thinking: Thinking | None = None,
) -> str:
    """A prompt as the chat template renders it, up to where the assistant begins to answer.

    Args:
        tokenizer: one with a chat template.
        prompt: what a user says, or the messages so far.
        system: a system prompt to put in front; None adds none (a template may still insert its own).
        thinking: whether the model is to reason before it answers; None leaves that to the template.

    Raises:
        ModelError: the template refuses these messages (a role that it does not know, say), leaves out their text,
            does not say that the assistant is to speak, or knows no switch for `thinking`.
    """
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    switched = {} if thinking is None else dict.fromkeys(_SWITCHES, thinking == "on")
    rendered = render_chat(tokenizer, messages, add_generation_prompt=True, **switched)
    if system is not None and not _holds(rendered, system):
        raise ModelError("the chat template leaves out the system prompt; leave it out, or change the template.")
    if thinking is not None:
        _require_switch(tokenizer, messages, rendered, thinking)
    _require_generation_prompt(tokenizer, messages, rendered)
    return rendered


def _require_switch(
    tokenizer: PreTrainedTokenizerBase, messages: list[Message], rendered: str, thinking: Thinking
) -> None:
    """Raises ModelError where a template renders the same whether the model is to think or not."""
    other = render_chat(tokenizer, messages, add_generation_prompt=True, **dict.fromkeys(_SWITCHES, thinking == "off"))
    if other == rendered:
        raise ModelError(
            f"the chat template has no switch for thinking ({' or '.join(_SWITCHES)}), so thinking {thinking} would "
            "change nothing; leave it out."
        )


def _require_generation_prompt(tokenizer: PreTrainedTokenizerBase, messages: list[Message], rendered: str) -> None:
    """Raises ModelError where a rendered prompt lacks the header of the assistant's turn.

    Where a template renders the same with and without a generation prompt, its turns have no header, or it always
    writes one, or it ignores what it is asked; then text stands between the prompt and an answer that follows.
    """
    if rendered != render_chat(tokenizer, messages):
        return
    try:
        answered = render_chat(tokenizer, [*messages, {"role": "assistant", "content": _ANSWER}])
    except ModelError:
        return
    if answered.startswith(rendered) and answered[len(rendered) :].partition(_ANSWER)[0].strip():
        raise ModelError(
            "the chat template ignores add_generation_prompt, so that the assistant's turn would not begin; add the "
            "header of that turn to the template."
        )


def render_chat(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = False,
    **extra: Any,
) -> str:
    """Messages as the tokenizer's chat template renders them; `extra` goes to the template (`tools`, say).

    A template gets the text of a message as a string, or as a list of parts where it renders no string.

    Raises:
        InputError: a message holds something that is no text.
        ModelError: the template refuses these messages, or leaves out what a user or the assistant says.
    """
    return fitting(tokenizer, messages, add_generation_prompt=add_generation_prompt, **extra)[1]


def render_chats(
    tokenizer: PreTrainedTokenizerBase, chats: Sequence[Sequence[Message]], **arguments: Any
) -> list[str | UserError]:
    """Renders chats as `render_chat` does each, in a fraction of the time; an error stands for one that it refuses."""
    try:
        with _pinned_date():
            chats = [[with_plain_text(message) for message in chat] for chat in chats]
            texts = tokenizer.apply_chat_template(chats, tokenize=False, **arguments)
    except Exception:
        # One by one it shows which is at fault.
        texts = [None] * len(chats)
    return [
        text if isinstance(text, str) and _left_out(chat, text) is None else _alone(tokenizer, chat, arguments)
        for chat, text in zip(chats, texts, strict=True)
    ]


def _alone(
    tokenizer: PreTrainedTokenizerBase, chat: Sequence[Message], arguments: Mapping[str, Any]
) -> str | UserError:
    try:
        return render_chat(tokenizer, chat, **arguments)
    except UserError as error:
        return error


def fitting(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], **arguments: Any
) -> tuple[list[Message], str]:
    """The messages in the form that the chat template reads, texts or lists of parts, and what it makes of them.

    Raises:
        InputError: a message holds something that is no text.
        ModelError: as `render_chat`.
    """
    plain = [with_plain_text(message) for message in messages]
    failures = []
    for form in (plain, [with_parts(message) for message in plain]):
        try:
            text = str(apply_template(tokenizer, form, tokenize=False, **arguments))
        except ModelError as error:
            failures.append(error)
            continue
        role = _left_out(plain, text)
        if role is None:
            return form, text
        failures.append(
            ModelError(
                f"the chat template leaves out the text of the role {role}; change the messages or the template."
            )
        )
    raise failures[0]


def _left_out(messages: Sequence[Message], rendered: str) -> str | None:
    """The role of the first turn of a user or the assistant whose text a rendering does not hold.

    What stands in the assistant's content before the end of its reasoning, many templates take out.
    """
    for message in messages:
        if message["role"] in ("user", "assistant"):
            content = message.get("content", "")
            # Most contents are there whole, which is told faster than where their reasoning ends.
            if content not in rendered and not _holds(rendered, spoken_part(content)):
                return message["role"]
    return None


def _holds(rendered: str, text: str) -> bool:
    """Whether a text stands in a rendering; templates take white space away, and some add some."""
    return text.strip() in rendered or "".join(text.split()) in "".join(rendered.split())


def apply_template(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], **arguments: Any) -> Any:
    """What `apply_chat_template` makes of messages at the pinned date.

    Raises:
        ModelError: the template refuses the messages or the arguments. It is a program of the checkpoint's, and may
            raise anything.
    """
    try:
        with _pinned_date():
            return tokenizer.apply_chat_template(list(messages), **arguments)
    except Exception as error:
        raise ModelError(
            f"the chat template cannot render the roles {_roles(messages)} ({_reason(error)}); change the messages or "
            "the template."
        ) from error


@contextmanager
def _pinned_date() -> Iterator[None]:
    """Gives templates `TEMPLATE_DATE` for today: `strftime_now` asks the module's datetime, and takes no argument."""
    theirs: Any = chat_template_utils
    clock = theirs.datetime
    theirs.datetime = _PinnedClock
    try:
        yield
    finally:
        theirs.datetime = clock


class _PinnedClock(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        """Returns the pinned date."""
        return TEMPLATE_DATE.replace(tzinfo=tz)


def template_date(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The date that the chat template was given, in ISO 8601; None where it does not ask for one."""
    template = tokenizer.chat_template
    texts = template.values() if isinstance(template, dict) else [template or ""]
    return TEMPLATE_DATE.date().isoformat() if any("strftime_now" in text for text in texts) else None


def template_variables(values: Any, place: str) -> dict[str, Any]:
    """The variables for a template that a row brings along.

    Raises:
        InputError: they are no mapping, or one has the name of something that is not the row's to say.
    """
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise InputError(f"The column chat_template_kwargs in {place} is no mapping; write {{name: value, …}}.")
    taken = {"messages", *signature(PreTrainedTokenizerBase.apply_chat_template).parameters}
    wrong = sorted((taken - {"tools", "documents"}).intersection(values))
    if wrong:
        raise InputError(f"The column chat_template_kwargs in {place} holds {wrong[0]}, which no row can set.")
    return dict(values)


def _roles(messages: Sequence[Message]) -> str:
    return ", ".join(str(message.get("role")) for message in messages) or "(none)"


def _reason(error: Exception) -> str:
    """The first line of what a template raised, and its type where it says nothing by itself."""
    first = str(error).strip().partition("\n")[0].rstrip(". ")
    return first if first and type(error).__module__.startswith("jinja2") else f"{type(error).__name__}: {first}"[:200]


def rendering_hash(rendered: Sequence[str]) -> str:
    """SHA-256 of rendered prompts in their order, in hex; two reports with equal hashes asked the same."""
    digest = hashlib.sha256()
    for text in rendered:
        raw = text.encode("utf-8")
        # The length in front keeps ["ab", "c"] and ["a", "bc"] apart.
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    return digest.hexdigest()
