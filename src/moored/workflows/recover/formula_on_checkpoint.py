"""Repair by a formula of a full checkpoint, tensor by tensor from file to file."""

from pathlib import Path
from zlib import crc32

import torch
from jaxtyping import Float
from torch import Tensor

from moored.errors import ModelError
from moored.huggingface.models import (
    FoldedWeights,
    ModelSource,
    copy_companions,
    place_of,
    plain_name,
    refuse_non_finite,
    refuse_stacked,
    refuse_wrapped,
    require_complete,
    require_same_tensors,
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
        ModelError: The checkpoint is quantized or incomplete, the models do not belong together, or a weight is broken.
    """
    start = Path(lineage.tuned.path)
    refuse_wrapped(start)
    require_complete(lineage.tuned.path)
    rewriter = _Rewriter(lineage, log, only_matrices=only_matrices)
    copy_companions(start, folder)
    rewrite_weights(start, folder, rewriter.rewritten)
    require_same_tensors(start, folder)


class _Rewriter:
    """Repairs the tensors of a checkpoint, one after another."""

    def __init__(self, lineage: Lineage, log: UpdateLog, *, only_matrices: bool) -> None:
        self._lineage, self._log, self._only_matrices = lineage, log, only_matrices
        self._tuned, self._aligned = FoldedWeights(lineage.tuned), FoldedWeights(lineage.aligned)
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
        below = self._counterpart(self._aligned, name)
        before = None if self._base is None else self._counterpart(self._base, name)
        if below is None or (before is None and self._base is not None):
            return weight
        update = _as_matrix(_minus(weight, below, name, self._lineage.tuned, self._lineage.aligned))
        direction = None
        if before is not None and self._lineage.base is not None:
            direction = _minus(below, before, name, self._lineage.aligned, self._lineage.base)
        is_transposed = self._tuned.place(name) in self._transposed
        if is_transposed:
            update, direction = update.T, None if direction is None else direction.T
        repaired = self._log.repair(name, update, direction)
        if not repaired.changed:
            return weight
        assert isinstance(repaired.update, Tensor)
        moved = repaired.update.T if is_transposed else repaired.update.view_as(below)
        written = stochastically_rounded(below + moved, weight.dtype, _draw(weight))
        self._log.correct(repaired, written.float() - below, undone=torch.equal(written, weight))
        return written

    def _counterpart(self, other: FoldedWeights, name: str) -> Tensor | None:
        """Reads another model's weight for one of the fine-tuned files; None for one that only these files hold.

        The other's files may have other names for it. What no causal language model reads, such as a value head, may
        be missing there.
        """
        if other.holds_stored(name):
            return other.read_stored(name)
        place = self._tuned.place(name)
        if place is not None and other.holds(place):
            return other.read(place)
        return other.read(_tied(name, other)) if self._tuned.is_read(name) else None


def _draw(weight: Tensor) -> torch.Generator:
    """Seeds by the weight's content: a tied head that the files repeat stays the same as the embedding."""
    return torch.Generator().manual_seed(crc32(weight.reshape(-1).view(torch.uint8).numpy().data))


def _tied(name: str, aligned: FoldedWeights) -> str:
    """Returns the name of the embedding for a head that is tied to it and repeated in only one model's files."""
    if place_of(name).kind != "head":
        return name
    embeddings = (stored for stored in aligned.names() if stored.endswith(("embed_tokens.weight", "wte.weight")))
    return next(embeddings, name)


def _minus(weight: Tensor, below: Tensor, name: str, later: ModelSource, earlier: ModelSource) -> Tensor:
    if weight.shape != below.shape:
        raise ModelError(
            f"{later.describe()} was not tuned from {earlier.describe()}: {name} has the shapes {tuple(weight.shape)} "
            f"and {tuple(below.shape)}; name models that belong together with --against and --base."
        )
    return weight.float() - below


def _as_matrix(update: Tensor) -> Float[Tensor, "out in"]:
    return update if update.ndim == 2 else update.reshape(len(update) if update.ndim else 1, -1)
