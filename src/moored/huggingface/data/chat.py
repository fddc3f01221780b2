"""One rendering of prompts for everything that is compared, and its hash."""

import hashlib
from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from moored.errors import ModelError

Message = dict[str, Any]


def render_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str | list[Message], system: str | None = None) -> str:
    """A prompt as the chat template renders it, up to where the assistant begins to answer.

    Args:
        tokenizer: one with a chat template.
        prompt: what a user says, or the messages so far.
        system: a system prompt to put in front; None adds none (a template may still insert its own).

    Raises:
        ModelError: the template refuses these messages (a role that it does not know, say).
    """
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    return render_chat(tokenizer, messages, add_generation_prompt=True)


def render_chat(
    tokenizer: PreTrainedTokenizerBase, messages: list[Message], *, add_generation_prompt: bool = False, **extra: Any
) -> str:
    """Messages as the tokenizer's chat template renders them; `extra` goes to the template (`tools`, say).

    Raises:
        ModelError: the template refuses these messages.
    """
    try:
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt, **extra
        )
    except TemplateError as error:
        raise ModelError(
            f"the chat template cannot render the roles {_roles(messages)} ({error}); change the messages or the "
            "template."
        ) from error
    return str(text)


def _roles(messages: list[Message]) -> str:
    return ", ".join(str(message.get("role")) for message in messages) or "(none)"


def rendering_hash(rendered: Sequence[str]) -> str:
    """SHA-256 of rendered prompts in their order, in hex; two reports with equal hashes asked the same."""
    digest = hashlib.sha256()
    for text in rendered:
        raw = text.encode("utf-8")
        # The length in front keeps ["ab", "c"] and ["a", "bc"] apart.
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    return digest.hexdigest()
