"""The safeguards of a configuration file, with the names of models in them resolved."""

from dataclasses import replace
from typing import Any

from moored.embedded.model import ALIGNED, BASE
from moored.errors import InputError
from moored.huggingface.models import ModelSource, checkpoint_folder
from moored.huggingface.training.arguments import typed
from moored.huggingface.training.safeguards import is_on
from moored.regularizers import REGULARIZERS, AlignmentDirection
from moored.selection import GradientSelection
from moored.workflows._models import resolve_model
from moored.workflows._train_config import TrainConfig

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
