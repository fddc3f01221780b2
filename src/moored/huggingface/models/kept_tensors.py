"""A checkpoint that is loaded, changed in memory and written again comes out with every tensor of its files.

transformers would leave out what its class does not know (a vision tower, layers for multi-token prediction, a value
head) and write the rest under the names of that class. Here the start's files are written again, tensor by tensor, and
only the numbers that the model in memory holds are replaced.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from moored.errors import ModelError
from moored.huggingface.models.checkpoint import lacking, misfitting, refuse_more_layers
from moored.huggingface.models.conversion import Conversion
from moored.huggingface.models.quantized import quantization
from moored.huggingface.models.skeleton import configuration, skeleton
from moored.huggingface.models.weights import rewrite_weights, stored_dtypes, stored_tensors


def require_writable(path: str) -> None:
    """Finds out from the headers alone whether a changed model can be written as the checkpoint that it was.

    Raises:
        ModelError: the checkpoint is quantized or incomplete, or transformers would write a tensor under a name or in a
            shape that the checkpoint does not have.
    """
    model, stored = skeleton(path), stored_tensors(path)
    conversion = require_complete(path)
    for name in conversion.places:
        written = conversion.as_stored(name)
        if written is None or list(written.shape) != stored[name][0]:
            raise _written_otherwise(name, path, model)


def _written_otherwise(name: str, path: object, model: PreTrainedModel) -> ModelError:
    return ModelError(
        f"{name} of {path} would be written otherwise by transformers' {type(model).__name__}; repair an adapter over "
        "it, or use --method linear_pull."
    )


def require_complete(path: str) -> Conversion:
    """Finds out from the headers alone whether the files of a checkpoint hold what its configuration says.

    Raises:
        ModelError: they are quantized or carry names of a wrapper, lack a weight, hold more layers, or do not fit.
    """
    refuse_quantized(path)
    model, stored = skeleton(path), stored_tensors(path)
    conversion = Conversion(model, stored)
    missing, state = conversion.missing(), model.state_dict()
    if missing:
        raise lacking(path, missing)
    refuse_more_layers(model, {*conversion.unread.values()}, path)
    for name, place in conversion.places.items():
        if not conversion.is_converted(name) and list(state[place].shape) != stored[name][0]:
            raise misfitting(path)
    return conversion


def refuse_quantized(path: str) -> None:
    """Raises ModelError for a checkpoint whose files hold codes in place of its weights."""
    if quantization(configuration(path)) is not None:
        raise ModelError(
            f"{path} is quantized, so its weights cannot be moved; repair an adapter over it, or a checkpoint in bf16."
        )


def write_back(model: PreTrainedModel, start: Path, folder: Path) -> list[str]:
    """Writes the files of a checkpoint with the numbers that its model has now, each in its own precision.

    Returns:
        The names of the tensors that the model does not read; they are written as they were.

    Raises:
        ModelError: transformers would write a tensor under a name that the checkpoint does not have.
    """
    conversion = Conversion(model, stored_tensors(start))
    left: list[str] = []

    def present(name: str, tensor: Tensor) -> Tensor:
        if name not in conversion.places:
            left.append(name)
            return tensor
        written = conversion.as_stored(name)
        if written is None:
            raise _written_otherwise(name, start, model)
        # A copy, since a file cannot hold two tensors that share their memory, as a tied head and embedding do.
        return written.detach().to("cpu", tensor.dtype, copy=True)

    rewrite_weights(start, folder, present)
    require_same_tensors(start, folder)
    return left


def require_same_tensors(start: Path, folder: Path) -> None:
    """Raises ModelError where written files lack a tensor of their start or have it in another shape or type."""
    after = stored_tensors(folder)
    for name, what in stored_tensors(start).items():
        if name not in after:
            raise ModelError(f"{name} of {start} is missing from what was written; report this as a bug of moored.")
        if after[name] != what:
            kinds = " and ".join(f"{tuple(shape)} {kind}" for shape, kind in (what, after[name]))
            raise ModelError(f"{name} of {start} was not written as it was ({kinds}); report this as a bug of moored.")


def dtypes_as_stored(start: Path, model: nn.Module, names: Iterable[str]) -> dict[str, torch.dtype]:
    """The precision that each of a model's tensors has in the files (of an adapter or a checkpoint) of its start."""
    in_memory = Conversion(model, stored_tensors(start)).places if isinstance(model, PreTrainedModel) else None
    return stored_dtypes(start, names, in_memory)
