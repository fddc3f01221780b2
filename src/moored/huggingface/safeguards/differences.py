"""The difference between the aligned and the base model, weight by weight: the direction in which alignment went."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from moored.errors import InputError, ModelError
from moored.huggingface.models import ModelWeights, adapter_updates, checkpoint_folder, is_code
from moored.huggingface.safeguards.guarded_weights import GuardedWeight
from moored.tensors.low_rank import LowRank, Matrix, whole, zero


def differences(
    weights: Sequence[GuardedWeight], *, base: str, adapter: str | None, files: str | None
) -> Iterator[tuple[str, Matrix]]:
    """Yields W_aligned − W_base of each guarded weight in fp32, on its device; one at a time is in memory.

    The aligned weights are the anchor's, so those of the model in memory at its start, or those of its files where
    memory holds them quantized. Only the base is read from its files, key by key. Where the aligned model is the base
    with a LoRA, the difference is the product of the LoRA's factors and is not multiplied out.

    Args:
        weights: the guarded weights.
        base: the checkpoint before alignment, a folder or a Hub id.
        adapter: the LoRA folder that turns the base into the aligned model, if there is one.
        files: the checkpoint that the model in memory was loaded from, for quantized weights.

    Raises:
        ModelError: a file is missing or not in safetensors, or the base lacks a weight or has it in another shape.
        InputError: the weights are quantized and their files are not known.
    """
    if adapter is not None:
        yield from _of_adapter(weights, Path(adapter))
        return
    stored = ModelWeights(checkpoint_folder(base))
    for weight in weights:
        name = weight.stored
        aligned = weight.below()
        if aligned is None:
            aligned = _from_files(weight, files)
        before = weight.as_matrix(_whole(stored.read(name), name, base)).to(aligned.device, torch.float32)
        if before.shape != aligned.shape:
            shapes = " and ".join(str(tuple(each.shape)) for each in (before, aligned))
            raise ModelError(f"{base} is not a base of this model: {name} is {shapes}; name another base.")
        yield weight.name, _sum(aligned - before, weight.start())


def _of_adapter(weights: Sequence[GuardedWeight], adapter: Path) -> Iterator[tuple[str, Matrix]]:
    updates = adapter_updates(adapter)
    if not updates.keys() & {weight.name for weight in weights}:
        name = weights[0].name
        raise ModelError(
            f"The adapter {adapter} changes none of the guarded weights (such as {name}); name another one."
        )
    for weight in weights:
        device = weight.parameters[0].device
        if weight.name in updates:
            update = updates[weight.name]
            yield weight.name, LowRank(update.b.to(device), update.a.to(device))
        else:
            out, into = weight.update(scaled=False).shape
            yield weight.name, zero(out, into, device)


def _sum(difference: Tensor, start: LowRank | None) -> Matrix:
    if start is None:
        return difference
    return difference + whole(start) if difference.any() else start


def _from_files(weight: GuardedWeight, files: str | None) -> Tensor:
    name = weight.stored
    if not files:
        raise InputError(
            f"{name} is quantized and the model does not say from which files it was loaded; load it by its name."
        )
    return weight.as_matrix(_whole(ModelWeights(checkpoint_folder(files)).read(name), name, files)).float()


def _whole(stored: Tensor, name: str, where: str) -> Tensor:
    if is_code(stored):
        raise ModelError(f"{name} is quantized in the files of {where}; name a checkpoint that holds its values.")
    return stored
