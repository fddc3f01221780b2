"""The vocabulary ids of the tokens that a token penalty guards."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from moored.errors import InputError
from moored.huggingface.data import random_token_ids, read_token_texts, token_ids


def guarded_tokens(safeguard: Any, tokenizer: PreTrainedTokenizerBase) -> list[int] | None:
    """Returns the ids of a penalty's tokens, or of random ones for its control; None stands for the whole vocabulary.

    Raises:
        InputError: no tokens are given, or one is not a single token of this tokenizer.
    """
    if safeguard.all_tokens:
        return None
    if safeguard.tokens is None:
        raise InputError(
            f"{safeguard.name} has no tokens; give it tokens=[each.text for each in moored.find_safety_tokens(model, "
            "tokenizer)], texts of your own, or the path of a file."
        )
    ids = token_ids(_texts(safeguard), tokenizer)
    return random_token_ids(ids, tokenizer, safeguard.seed) if safeguard.control == "random_tokens" else ids


def _texts(safeguard: Any) -> Sequence[str]:
    tokens = safeguard.tokens
    if not isinstance(tokens, str):
        return tokens
    if not Path(tokens).is_file():
        raise InputError(
            f"{safeguard.name} has tokens {tokens!r}, and there is no such file; give texts as a list, like "
            f"[{tokens!r}]."
        )
    return read_token_texts(tokens)
