"""Repair by a formula of an adapter: the updates are products of thin factors, and stay so."""

from collections.abc import Callable
from pathlib import Path

from moored.errors import ModelError
from moored.huggingface.models import (
    FoldedWeights,
    ModelSource,
    adapter_updates,
    checkpoint_folder,
    copy_companions,
    difference,
    require_fit,
    transposed_weights,
    write_updates,
)
from moored.tensors.low_rank import LowRank, Matrix, compressed, zero
from moored.workflows.recover.updates import Lineage, UpdateLog


def repair_adapter(folder: Path, lineage: Lineage, log: UpdateLog) -> None:
    """Writes one adapter for the base of the fine-tuned one; what is not changed keeps its factors.

    Raises:
        ModelError: The two adapters are for different checkpoints, do not fit them, or are not plain LoRAs.
    """
    start = lineage.tuned.adapter
    assert start is not None
    _require_one_checkpoint(lineage)
    require_fit(lineage.tuned)
    require_fit(lineage.aligned)
    direction = _directions(lineage)
    tuned = adapter_updates(start)
    aligned = {} if lineage.aligned.adapter is None else adapter_updates(lineage.aligned.adapter)
    updates = {}
    for module in sorted({*tuned, *aligned}):
        nothing = _zero_like(tuned.get(module) or aligned[module])
        above, below = tuned.get(module, nothing), aligned.get(module, nothing)
        repaired = log.repair(f"{module}.weight", compressed(above - below), direction(module, below))
        assert isinstance(repaired.update, LowRank)
        if repaired.changed:
            updates[module] = compressed(below + repaired.update)
        elif module in tuned:
            updates[module] = above
    copy_companions(start, folder)
    write_updates(updates, folder, like=start)


def _require_one_checkpoint(lineage: Lineage) -> None:
    if _folder(lineage.aligned) != _folder(lineage.tuned):
        raise ModelError(
            f"The adapter is for {lineage.tuned.path} and the aligned model is {lineage.aligned.path} or an adapter "
            "for it, so the difference between them is not an adapter; name a model on the same checkpoint with "
            "--against."
        )


def _directions(lineage: Lineage) -> Callable[[str, LowRank], Matrix | None]:
    """Returns what computes aligned − base for a module and the aligned model's update of it.

    If the aligned model is the base with an adapter, that update is the difference already.
    """
    if lineage.base is None:
        return lambda module, update: None
    if _folder(lineage.aligned) == _folder(lineage.base):
        return lambda module, update: update
    aligned, base = FoldedWeights(lineage.aligned), FoldedWeights(lineage.base)
    transposed = transposed_weights(lineage.tuned.path)

    def read(module: str, _: LowRank) -> Matrix:
        direction = difference(aligned, base, f"{module}.weight")
        return direction.T if f"{module}.weight" in transposed else direction

    return read


def _zero_like(update: LowRank) -> LowRank:
    return zero(*update.shape, update.b.device)


def _folder(source: ModelSource) -> Path:
    return checkpoint_folder(source.path).resolve()
