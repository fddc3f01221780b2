"""The messages of a row as a chat template takes them: text in one piece."""

from typing import Any

from moored.errors import InputError

Message = dict[str, Any]
WEIGHTS = ("weight", "train", "training", "trainable", "loss", "loss_mask")
"""The keys under which tools keep whether a turn is learned; no template reads them."""
_TEXT_PARTS = ("text", "input_text", "output_text")


def checked_messages(messages: Any, column: str, place: str) -> list[Message]:
    """Returns the messages of a column with their text in one piece.

    Raises:
        InputError: the value is no list of messages, or a message holds something that is no text.
    """
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        what = "no list of messages" if column == "messages" else "neither text nor a list of messages"
        raise InputError(f"The column {column} in {place} is {what}; write [{{role, content}}, …].")
    given = [{key: value for key, value in message.items() if value is not None} for message in messages]
    if not all("role" in message and ("content" in message or "tool_calls" in message) for message in given):
        raise InputError(f"A message in {place} lacks its role or content; give every message both.")
    return [with_plain_text(message, place) for message in given]


def with_plain_text(message: Message, place: str = "the chat") -> Message:
    """Returns a message whose content is one text; most templates render a list of parts as nothing, or as Python.

    Raises:
        InputError: the content is neither a text nor a list of text parts.
    """
    if not isinstance(message.get("content", ""), str):
        return {**message, "content": "".join(_text_of(part, place) for part in _parts_of(message, place))}
    return message


def with_parts(message: Message) -> Message:
    """Returns a message whose content is a list of parts, as templates of models that see images read it."""
    return {**message, "content": [{"type": "text", "text": message["content"]}]} if "content" in message else message


def _parts_of(message: Message, place: str) -> list[Any]:
    content = message["content"]
    if isinstance(content, list):
        return content
    raise InputError(f"The content of a message in {place} is {content!r:.40}; write a text, or a list of text parts.")


def _text_of(part: Any, place: str) -> str:
    if isinstance(part, str):
        return part
    text = part.get("text") if isinstance(part, dict) else None
    kind = part.get("type", "text") if isinstance(part, dict) else type(part).__name__
    if kind not in _TEXT_PARTS or not isinstance(text, str):
        raise InputError(f"A message in {place} has a part of the type {kind}; moored learns and asks text alone.")
    return text


def is_learned(message: Message, place: str = "the chat") -> bool:
    """Whether a turn may be learned: none of the keys for it is 0 or false.

    Raises:
        InputError: a weight between 0 and 1, which a row of labels cannot hold, or something else.
    """
    given = {key: message[key] for key in WEIGHTS if message.get(key) is not None}
    for key, value in given.items():
        if value not in (0, 1):
            raise InputError(
                f"The {key} of a message in {place} is {value!r:.40}; a turn is either learned (1, true) or not "
                "(0, false)."
            )
    return all(given.values())


def without_weights(message: Message) -> Message:
    """Returns a message as the template gets it."""
    return {key: value for key, value in message.items() if key not in WEIGHTS}
