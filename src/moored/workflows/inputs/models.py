"""Names of models as users write them."""

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
    refuse_partial,
    require_chat_template,
    require_fit,
)


def resolve_model(name: str, adapter: Path | None = None) -> ModelSource:
    """The source behind a name: an embedded model, a folder, or a Hub id, with an adapter laid over it.

    An adapter folder given as `name` stands for the base that it names plus itself. An adapter laid over
    `embedded:aligned`, which is an adapter already, is read as `moored train` writes it: one adapter for the base,
    with the safety adapter inside it.

    Raises:
        InputError: two adapters, or an embedded model that is none.
        ModelError: an adapter folder that is not there, or that names no base.
    """
    if name.startswith("embedded:"):
        source = embedded_source(name)
    elif (Path(name) / "adapter_config.json").is_file():
        if adapter is not None:
            raise InputError(f"{name} is an adapter itself; give its base as the model and one adapter over it.")
        refuse_partial(Path(name))
        source = replace(resolve_model(adapter_base(name)), adapter=Path(name))
    else:
        source = ModelSource(name)
    if adapter is not None and not adapter.is_dir():
        raise ModelError(f"There is no adapter folder {adapter}; check the path.")
    if adapter is not None and (adapter / "adapter_config.json").is_file():
        refuse_partial(adapter)
    return replace(source, name=name, adapter=adapter or source.adapter)


def chat_model(name: str, adapter: Path | None = None) -> tuple[ModelSource, Any]:
    """The source behind a name and its tokenizer, checked without reading the weights of the checkpoint.

    Raises:
        InputError: as `resolve_model`.
        ModelError: the adapter is broken or was made for another base, or the tokenizer has no chat template.
    """
    source = resolve_model(name, adapter)
    require_fit(source)
    tokenizer = load_tokenizer(source)
    require_chat_template(tokenizer, source.describe())
    return source, tokenizer


def laid_over(source: ModelSource) -> Path | None:
    """The adapter that was named beside a model; None where the model's name brings it along."""
    brought = source.adapter is not None and resolve_model(source.name or source.path).adapter == source.adapter
    return None if brought else source.adapter


def as_arguments(source: ModelSource) -> str:
    """The words that name a resolved model on the command line."""
    adapter = laid_over(source)
    words = [source.name or source.path, *([] if adapter is None else ["--adapter", str(adapter)])]
    return shlex.join(words)


def reference_of(
    source: ModelSource, adapter: Path | None, against: str | None, against_adapter: Path | None = None
) -> ModelSource | None:
    """The model to compare one with, or to go back to: what is named or, for an adapter, what it is laid over."""
    if against is not None or against_adapter is not None:
        return resolve_model(against or source.name, against_adapter)
    if adapter is not None:
        return resolve_model(source.name)
    is_adapter_folder = source.adapter is not None and Path(source.name) == source.adapter
    return resolve_model(adapter_base(source.name)) if is_adapter_folder else None


def base_name(source: ModelSource, base: str | None) -> str | None:
    """The base that was named, or the one that the embedded aligned model is known to come from."""
    return BASE if base is None and source.name == ALIGNED else base


def base_folder(name: str) -> Path:
    """The checkpoint folder of a base.

    Raises:
        InputError: it is a checkpoint with an adapter.
        ModelError: it is not there.
    """
    source = resolve_model(name)
    if source.adapter is not None:
        raise InputError(f"--base {name} is a model with an adapter; name the checkpoint before alignment.")
    return checkpoint_folder(source.path)
