"""Repair by a formula of a full checkpoint, tensor by tensor from file to file."""

from pathlib import Path
from zlib import crc32

import torch
from jaxtyping import Float
from torch import Tensor

from moored.errors import ModelError
from moored.huggingface.models import (
    FoldedWeights,
    copy_companions,
    difference,
    place_of,
    plain_name,
    refuse_non_finite,
    refuse_stacked,
    rewrite_weights,
    transposed_weights,
)
from moored.tensors.rounding import stochastically_rounded
from moored.workflows.recover.updates import Lineage, UpdateLog

_COMPUTED = "rotary_emb.inv_freq"
"""A tensor that old files hold and that models compute."""


def repair_checkpoint(folder: Path, lineage: Lineage, log: UpdateLog, *, only_matrices: bool) -> None:
    """Writes the files of the fine-tuned checkpoint with the repaired weights.

    Args:
        folder: Where they are written.
        lineage: The models between which updates are taken.
        log: Repairs and records the updates.
        only_matrices: Whether to repair only the matrices inside the layers.

    Raises:
        ModelError: The models do not belong together, or a weight is not finite.
    """
    start = Path(lineage.tuned.path)
    rewriter = _Rewriter(lineage, log, only_matrices=only_matrices)
    rewrite_weights(start, folder, rewriter.rewritten)
    copy_companions(start, folder)


class _Rewriter:
    """Repairs the tensors of a checkpoint, one after another."""

    def __init__(self, lineage: Lineage, log: UpdateLog, *, only_matrices: bool) -> None:
        self._lineage, self._log, self._only_matrices = lineage, log, only_matrices
        self._aligned = FoldedWeights(lineage.aligned)
        self._base = None if lineage.base is None else FoldedWeights(lineage.base)
        self._transposed = transposed_weights(lineage.tuned.path) if only_matrices else set()

    def rewritten(self, stored: str, weight: Tensor) -> Tensor:
        """Returns the tensor to write for a stored one."""
        name = plain_name(stored)
        refuse_non_finite([(stored, weight)], self._lineage.tuned.path)
        if self._only_matrices:
            refuse_stacked(name, weight, "repair by example, or an adapter on the matrices")
        return self._repaired(name, weight) if self._is_repairable(name, weight) else weight

    def _is_repairable(self, name: str, weight: Tensor) -> bool:
        if not weight.is_floating_point() or name.endswith(_COMPUTED):
            return False
        return not self._only_matrices or (weight.ndim == 2 and place_of(name).layer is not None)

    def _repaired(self, name: str, weight: Tensor) -> Tensor:
        below = self._aligned.read(name if self._aligned.holds(name) else _tied(name, self._aligned))
        direction = None if self._base is None else difference(self._aligned, self._base, name)
        update = _as_matrix(_minus(weight, below, name, self._lineage))
        if name in self._transposed:
            update, direction = update.T, None if direction is None else direction.T
        repaired = self._log.repair(name, update, direction)
        if not repaired.changed:
            return weight
        assert isinstance(repaired.update, Tensor)
        moved = repaired.update.T if name in self._transposed else repaired.update.view_as(below)
        written = stochastically_rounded(below + moved, weight.dtype, _draw(weight))
        self._log.correct(repaired, written.float() - below, undone=torch.equal(written, weight))
        return written


def _draw(weight: Tensor) -> torch.Generator:
    """Seeds by the weight's content: a tied head that the files repeat stays the same as the embedding."""
    return torch.Generator().manual_seed(crc32(weight.reshape(-1).view(torch.uint8).numpy().data))


def _tied(name: str, aligned: FoldedWeights) -> str:
    """Returns the name of the embedding for a head that is tied to it and repeated in only one model's files."""
    if place_of(name).kind != "head":
        return name
    embeddings = (stored for stored in aligned.names() if stored.endswith(("embed_tokens.weight", "wte.weight")))
    return next(embeddings, name)


def _minus(weight: Tensor, below: Tensor, name: str, lineage: Lineage) -> Tensor:
    if weight.shape != below.shape:
        raise ModelError(
            f"{lineage.tuned.describe()} was not tuned from {lineage.aligned.describe()}: {name} has the shapes "
            f"{tuple(weight.shape)} and {tuple(below.shape)}; name another model with --against."
        )
    return weight.float() - below


def _as_matrix(update: Tensor) -> Float[Tensor, "out in"]:
    return update if update.ndim == 2 else update.reshape(len(update) if update.ndim else 1, -1)
