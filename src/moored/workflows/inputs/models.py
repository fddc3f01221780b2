"""The models behind the names that users write."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from moored.embedded.model import ALIGNED, BASE, embedded_source
from moored.errors import InputError, ModelError
from moored.huggingface.models import (
    ModelSource,
    adapter_base,
    checkpoint_folder,
    load_tokenizer,
    refuse_gguf,
    refuse_partial,
    require_chat_template,
    require_fit,
)


def resolve_model(name: str, adapter: Path | None = None) -> ModelSource:
    """Resolves a name to its source: an embedded model, a folder, or a Hub id, with an adapter applied to it.

    An adapter folder given as `name` stands for the base that it names plus itself. An adapter for `embedded:aligned`,
    which is an adapter already, is read as `moored train` writes it: one adapter for the base that includes the safety
    adapter.

    Raises:
        InputError: there are two adapters, or there is no embedded model of this name.
        ModelError: the adapter folder does not exist, or names no base.
    """
    if name.startswith("embedded:"):
        source = embedded_source(name)
    elif (Path(name) / "adapter_config.json").is_file():
        if adapter is not None:
            raise InputError(f"{name} is an adapter itself; name its base as the model and one adapter for it.")
        refuse_partial(Path(name))
        source = replace(resolve_model(adapter_base(name)), adapter=Path(name))
    else:
        refuse_gguf(name)
        source = ModelSource(name)
    if adapter is not None and not adapter.exists():
        raise ModelError(f"There is no adapter folder {adapter}; check the path.")
    if adapter is not None:
        refuse_partial(adapter)
    return replace(source, name=name, adapter=adapter or source.adapter)


def chat_model(name: str, adapter: Path | None = None) -> tuple[ModelSource, Any]:
    """Resolves a name to its source and tokenizer, and checks them without reading the checkpoint's weights.

    Raises:
        InputError: the name is one that `resolve_model` refuses.
        ModelError: the adapter is broken or was made for another base, or the tokenizer has no chat template.
    """
    source = resolve_model(name, adapter)
    require_fit(source)
    tokenizer = load_tokenizer(source)
    require_chat_template(tokenizer, source.describe())
    return source, tokenizer


def laid_over(source: ModelSource) -> Path | None:
    """Returns the adapter that was named in addition to a model; None where the model's name implies it."""
    implied = source.adapter is not None and resolve_model(source.name or source.path).adapter == source.adapter
    return None if implied else source.adapter


def as_arguments(source: ModelSource) -> str:
    """Writes a resolved model as arguments on the command line."""
    adapter = laid_over(source)
    words = [source.name or source.path, *([] if adapter is None else ["--adapter", str(adapter)])]
    return shlex.join(words)


def reference_of(
    source: ModelSource, adapter: Path | None, against: str | None, against_adapter: Path | None = None
) -> ModelSource | None:
    """Finds the model to compare with or to return to: the one named or, for an adapter, the one it was trained on."""
    if against is not None or against_adapter is not None:
        return resolve_model(against or source.name, against_adapter)
    if adapter is not None:
        return resolve_model(source.name)
    is_adapter_folder = source.adapter is not None and Path(source.name) == source.adapter
    return resolve_model(adapter_base(source.name)) if is_adapter_folder else None


def base_name(source: ModelSource, base: str | None) -> str | None:
    """Returns the base that was named, or the known base of the embedded aligned model."""
    return BASE if base is None and source.name == ALIGNED else base


def base_folder(name: str) -> Path:
    """Returns the checkpoint folder of a base.

    Raises:
        InputError: the base is a checkpoint with an adapter.
        ModelError: the base does not exist.
    """
    source = resolve_model(name)
    if source.adapter is not None:
        raise InputError(f"--base {name} is a model with an adapter; name the checkpoint before alignment.")
    return checkpoint_folder(source.path)
