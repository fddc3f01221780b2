"""The safeguards of a configuration file, with the names of models in them resolved."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from moored.embedded.model import ALIGNED, BASE
from moored.errors import InputError
from moored.huggingface.data import read_token_texts
from moored.huggingface.models import ModelSource, checkpoint_folder, load_model
from moored.huggingface.training.arguments import typed
from moored.huggingface.training.safeguards import is_on
from moored.regularizers import REGULARIZERS, AlignmentDirection, SafetyTokens
from moored.selection import GradientSelection
from moored.workflows._models import resolve_model
from moored.workflows._progress import progress_bar
from moored.workflows._train_config import TrainConfig
from moored.workflows.safety_tokens import PROMPTS, SafetyToken, find_safety_tokens, write_safety_tokens

TOKENS = "safety_tokens.json"
_SELECTION = "gradient_selection"


def read_safeguards(settings: TrainConfig, source: ModelSource, where: str) -> list[Any]:
    """The safeguards by name from the registries.

    Args:
        settings: the configuration.
        source: the model that the run starts from.
        where: the configuration's name in errors.

    Raises:
        InputError: an unknown name, or settings that the method refuses.
        ModelError: a model that a safeguard names is not there.
    """
    made = [_made(dict(entry), source, where) for entry in settings.safeguards]
    if settings.reference is not None and any(is_on(each) for each in made if not isinstance(each, GradientSelection)):
        raise InputError(f"{where}: penalties hold to the weights that the run starts from; leave reference out.")
    return [_resolved(each, source) if isinstance(each, AlignmentDirection) else each for each in made]


def with_tokens(
    safeguards: Sequence[Any], source: ModelSource, tokenizer: Any, out: Path, *, console: Console | None
) -> list[Any]:
    """The safeguards, those `SafetyTokens` that name no tokens with the ones that the model itself refuses by.

    What is found stands in `out/safety_tokens.json`, from where a resumed run reads it again.

    Args:
        safeguards: as `read_safeguards` gave them.
        source: the model that the run starts from; where it is a base with an adapter, the two are compared.
        tokenizer: of the run.
        out: the run's folder, which is there already.
        console: where progress is shown; None is silent.

    Raises:
        InactiveError: the model refuses nothing.
    """
    lacking = [each for each in safeguards if isinstance(each, SafetyTokens) and each.strength and each.tokens is None]
    if not lacking:
        return [*safeguards]
    file = out / TOKENS
    if not file.is_file():
        write_safety_tokens(_found(source, tokenizer, console), file)
    texts = read_token_texts(file)
    return [replace(each, tokens=texts) if each in lacking else each for each in safeguards]


def _found(source: ModelSource, tokenizer: Any, console: Console | None) -> list[SafetyToken]:
    model = load_model(source, dtype="auto", merge=source.adapter is not None)
    base = None if source.adapter is None else load_model(replace(source, adapter=None), dtype="auto")
    with progress_bar(console, "finding safety tokens", PROMPTS) as advance:
        return find_safety_tokens(model, tokenizer, base=base, progress=advance)


def _made(stated: dict[str, Any], source: ModelSource, where: str) -> Any:
    name = stated.pop("name", None)
    known: dict[Any, Any] = {_SELECTION: GradientSelection, **REGULARIZERS}
    if name not in known:
        raise InputError(f"{where}: safeguards names {name}, but the known ones are: {', '.join(known)}.")
    if known[name] is AlignmentDirection and source.name == ALIGNED:
        stated = {"base": BASE, **stated}
    try:
        return known[name](**typed(stated, known[name], f"{where}: safeguard {name}"))
    except TypeError as error:
        raise InputError(f"{where}: safeguard {name}: {error}.") from error


def _resolved(penalty: AlignmentDirection, source: ModelSource) -> AlignmentDirection:
    """With the base as a path; where the run starts from a LoRA over that very base, the direction is this LoRA."""
    if not penalty.strength:
        return penalty
    assert penalty.base is not None
    base = resolve_model(penalty.base)
    if base.adapter is not None:
        raise InputError(
            f"{penalty.name} has the base {penalty.base}, which is a model with an adapter; name the checkpoint before "
            "alignment."
        )
    if penalty.adapter is None and source.adapter is not None and _same(base.path, source.path):
        return replace(penalty, base=base.path, adapter=str(source.adapter))
    return replace(penalty, base=base.path)


def _same(one: str, other: str) -> bool:
    return one == other or checkpoint_folder(one).resolve() == checkpoint_folder(other).resolve()
