"""One sentence for whatever transformers says of a checkpoint or a tokenizer that it cannot load."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import is_offline_mode
from huggingface_hub.errors import HFValidationError, StrictDataclassError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError

from moored.errors import ModelError, first_line


@contextmanager
def load_errors(path: str, *more: type[Exception]) -> Iterator[None]:
    """Turns what transformers says of a checkpoint that it cannot load into ModelError."""
    try:
        yield
    except (OSError, ValueError, SafetensorError, StrictDataclassError, *more) as error:
        refuse_own_code(error, path)
        if "Unrecognized configuration class" in str(error):
            raise ModelError(
                f"{path} has no causal language model that transformers knows; name one that continues texts."
            ) from error
        hint = "see its files" if os.path.isdir(path) else why_absent(path)
        raise ModelError(f"Cannot load {path} as a causal language model ({hint}): {first_line(error)}.") from error


def why_absent(name: str) -> str:
    """Says why a name that is no folder leads to nothing."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return "no folder here, and no name that the Hub could know"
    if is_offline_mode():
        return "no folder here, not in the Hub cache, and HF_HUB_OFFLINE=1 forbids a download"
    return "no folder here, and not to be had from the Hub"


def refuse_own_code(error: Exception, path: str) -> None:
    """Raises ModelError where transformers failed because it may not run the code that a checkpoint brings along."""
    if "custom code" in str(error):
        raise ModelError(
            f"{path} needs program code of its own (auto_map in its files), which moored never runs; name a model "
            "whose architecture and tokenizer are part of transformers."
        ) from error
