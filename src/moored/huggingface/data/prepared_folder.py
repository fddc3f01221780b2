"""Where the tokens of a dataset are kept: a name that tells everything that they depend on."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

from datasets import config, is_caching_enabled
from datasets.fingerprint import get_temporary_cache_files_directory
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from moored.huggingface.data.row_tokens import Supervision
from moored.huggingface.data.stream import RowStream
from moored.measurement import reasoning

_LIBRARIES = ("jinja2", "tokenizers", "transformers", "trl")


def prepared_folder(rows: RowStream, how: Supervision) -> Path:
    """The folder for the tokens of these rows, whether they are there or not."""
    tokenizer = _identity(how.tokenizer)
    if tokenizer is None or not is_caching_enabled():
        # The folder is deleted when this process ends.
        return Path(get_temporary_cache_files_directory()) / "moored" / uuid4().hex
    read_as = Path(rows.name).suffix.lower()
    settings = (how.render, how.text_field, how.completion_only, how.assistant_only)
    libraries = [version(library) for library in _LIBRARIES]
    key = json.dumps([rows.sha256, read_as, settings, tokenizer, _own_code(), libraries], default=str)
    return Path(config.HF_DATASETS_CACHE) / "moored" / hashlib.sha256(key.encode()).hexdigest()


def _identity(tokenizer: PreTrainedTokenizerBase) -> list[Any] | None:
    """What the tokens of a text and the rendering of a chat depend on; None where a tokenizer does not say it all."""
    own, backend = type(tokenizer), getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer) or not own.__module__.startswith("transformers."):
        return None
    try:
        vocabulary = hashlib.sha256(backend.to_str().encode()).hexdigest()
    except Exception:
        # tokenizers raises just this where a part is written in Python.
        return None
    settings = (tokenizer.chat_template, tokenizer.special_tokens_map, tokenizer.split_special_tokens)
    return [own.__module__, own.__qualname__, vocabulary, *settings]


def _own_code() -> str:
    """The hash of the code that makes tokens of rows."""
    files = [*sorted(Path(__file__).parent.glob("*.py")), Path(reasoning.__file__)]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
