"""The tokenizer of a source, with one sentence for whatever is wrong with it or with its chat template."""

import json
import os
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from moored.errors import ModelError, first_line
from moored.files import read_text
from moored.huggingface.models.load_errors import refuse_own_code, why_absent
from moored.huggingface.models.source import ModelSource


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """The tokenizer beside the adapter if there is one (its chat template counts), else the checkpoint's."""
    place = source.path
    if source.adapter is not None and (source.adapter / "tokenizer_config.json").is_file():
        place = str(source.adapter)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except Exception as error:
        # The files are read by several libraries, each of which complains of what it meets in its own way.
        refuse_own_code(error, place)
        raise ModelError(
            f"Cannot load the tokenizer of {place or '(no name)'} ({_hint(place)}): {first_line(error)}."
        ) from error
    if source.adapter is not None and place != str(source.adapter):
        tokenizer.chat_template = _template_beside(source.adapter) or tokenizer.chat_template
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise ModelError(f"The tokenizer in {place} names neither a padding nor an end token; add one to its files.")
    return tokenizer


def _hint(place: str) -> str:
    if not os.path.isdir(place):
        return why_absent(place)
    return "look at its tokenizer files" if any(Path(place).glob("tokenizer*")) else "put its tokenizer files there"


def require_chat_template(tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    """Raises ModelError when a tokenizer cannot render a chat, or has several templates and none of them by default."""
    if not tokenizer.chat_template:
        raise ModelError(
            f"The tokenizer of {where} has no chat template; use a chat model, or put a chat_template.jinja "
            "beside the tokenizer."
        )
    if isinstance(tokenizer.chat_template, dict) and "default" not in tokenizer.chat_template:
        raise ModelError(
            f"The tokenizer of {where} has the chat templates {', '.join(sorted(tokenizer.chat_template))} and none "
            "called default; put the one to use into a chat_template.jinja beside the tokenizer."
        )


def _template_beside(adapter: Path) -> str | None:
    """The chat template in an adapter's folder, which some tools save without the tokenizer.

    Raises:
        ModelError: the file is no JSON object with a template.
    """
    file = adapter / "chat_template.jinja"
    if file.is_file():
        return read_text(file)
    file = adapter / "chat_template.json"
    if not file.is_file():
        return None
    try:
        return str(json.loads(read_text(file))["chat_template"])
    except (ValueError, RecursionError, KeyError, TypeError):
        raise ModelError(f'{file} holds no chat template; write {{"chat_template": …}}, or remove it.') from None
