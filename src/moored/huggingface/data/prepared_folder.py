"""Where the tokens of a dataset are kept: a name that tells everything that they depend on."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from datasets import config, is_caching_enabled
from datasets.fingerprint import get_temporary_cache_files_directory
from transformers import PreTrainedTokenizerBase

from moored.files import require_place
from moored.huggingface.data.row_tokens import Supervision
from moored.huggingface.data.stream import RowStream
from moored.measurement import reasoning

_LIBRARIES = ("jinja2", "tokenizers", "transformers", "trl")


def prepared_folder(rows: RowStream, how: Supervision) -> Path:
    """The folder for the tokens of these rows; what is above it exists.

    Raises:
        InputError: the cache cannot be written.
    """
    tokenizer = _identity(how.tokenizer)
    is_kept = is_caching_enabled() and tokenizer is not None
    cache = Path(config.HF_DATASETS_CACHE if is_kept else get_temporary_cache_files_directory())
    settings = (how.render, how.text_field, how.completion_only, how.assistant_only)
    read_as = Path(rows.name).suffix.lower()
    libraries = [version(library) for library in _LIBRARIES]
    key = json.dumps([rows.sha256, read_as, settings, tokenizer, _own_code(), libraries], default=str)
    folder = cache / "moored" / hashlib.sha256(key.encode()).hexdigest()
    require_place(folder, overwrite=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder


def _identity(tokenizer: PreTrainedTokenizerBase) -> list[Any] | None:
    """What the tokens of a text and the rendering of a chat depend on; None where a tokenizer does not say it all."""
    if not tokenizer.is_fast:
        return None
    fast: Any = tokenizer.backend_tokenizer
    backend = hashlib.sha256(fast.to_str().encode()).hexdigest()
    own = f"{type(tokenizer).__module__}.{type(tokenizer).__qualname__}"
    return [own, backend, tokenizer.chat_template, tokenizer.special_tokens_map, tokenizer.split_special_tokens]


def _own_code() -> str:
    """The hash of the code that makes tokens of rows."""
    files = [*sorted(Path(__file__).parent.glob("*.py")), Path(reasoning.__file__)]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
