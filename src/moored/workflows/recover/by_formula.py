"""Repairs by a formula on each weight's update: read from the files, written as the files were, no model built."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from jaxtyping import Float
from torch import Tensor

from moored.errors import InactiveError, ModelError
from moored.huggingface.models import (
    FoldedWeights,
    ModelSource,
    adapter_updates,
    checkpoint_folder,
    copy_companions,
    difference,
    lies_over_transposed,
    place_of,
    plain_name,
    refuse_non_finite,
    refuse_stacked,
    require_fit,
    rewrite_weights,
    transposed_weights,
    write_updates,
)
from moored.recovery import RepairedUpdate, UpdateRepair
from moored.tensors.low_rank import LowRank, Matrix, compressed, squared_norm, zero
from moored.tensors.rounding import stochastically_rounded

_COMPUTED = "rotary_emb.inv_freq"
"""What old files hold and models compute."""
Repairing = Callable[[str, Matrix, Matrix | None], RepairedUpdate]


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """The models between which updates are taken."""

    tuned: ModelSource
    aligned: ModelSource
    base: ModelSource | None
    """What alignment began with; None where the repair does not ask for it."""


@dataclass
class _Notes:
    """What became of the updates, weight by weight."""

    weights: list[dict[str, Any]] = field(default_factory=list)
    before: float = 0.0
    after: float = 0.0
    undone: int = 0
    """Weights that rounding brought back to what they were."""

    def take(self, name: str, update: Matrix, found: RepairedUpdate) -> None:
        self.weights.append({"name": name, "changed": found.changed, "cosine": found.cosine})
        self.before += float(squared_norm(update))
        self.after += float(squared_norm(found.update))

    def write(self, found: RepairedUpdate, left: Tensor, *, undone: bool) -> None:
        """What rounding made of the last weight's update."""
        self.after += float(left.square().sum()) - float(squared_norm(found.update))
        if undone:
            self.weights[-1]["changed"] = False
            self.undone += 1

    def as_dict(self) -> dict[str, Any]:
        changed = sum(each["changed"] for each in self.weights)
        kept = (self.after / self.before) ** 0.5
        return {"changed": changed, "of": len(self.weights), "kept": kept, "weights": self.weights}


def repair_updates(folder: Path, lineage: Lineage, method: UpdateRepair) -> dict[str, Any]:
    """Writes the repaired model to a folder: an adapter as an adapter in fp32, a checkpoint in its own precisions.

    Returns:
        How many weights were `changed`, `of` how many that were looked at; the share of the update's norm that was
        `kept`; and `weights`, each with `name`, `changed` and the `cosine` that decided, if one did.

    Raises:
        InactiveError: the fine-tuned model is the aligned one, or no weight was changed.
        ModelError: the models do not belong together, or an adapter is no plain LoRA.
    """
    notes = _Notes()

    def repaired(name: str, update: Matrix, direction: Matrix | None) -> RepairedUpdate:
        found = method.repair_update(update, direction)
        notes.take(name, update, found)
        return found

    if lineage.tuned.adapter is None:
        _repair_checkpoint(folder, lineage, repaired, notes, matrices_only=method.needs_base)
    else:
        _repair_adapter(folder, lineage, repaired)
    _require_change(notes, lineage, method)
    return notes.as_dict()


def _repair_adapter(folder: Path, lineage: Lineage, repaired: Repairing) -> None:
    start = lineage.tuned.adapter
    assert start is not None
    _require_one_base(lineage)
    require_fit(lineage.tuned)
    require_fit(lineage.aligned)
    direction = _directions(lineage)
    tuned = adapter_updates(start)
    aligned = {} if lineage.aligned.adapter is None else adapter_updates(lineage.aligned.adapter)
    updates = {}
    for module in sorted({*tuned, *aligned}):
        nothing = _zero_like(tuned.get(module) or aligned[module])
        above, below = tuned.get(module, nothing), aligned.get(module, nothing)
        found = repaired(f"{module}.weight", compressed(above - below), direction(module, below))
        assert isinstance(found.update, LowRank)
        if found.changed:
            updates[module] = compressed(below + found.update)
        elif module in tuned:
            updates[module] = above
    copy_companions(start, folder)
    write_updates(updates, folder, like=start)


def _directions(lineage: Lineage) -> Callable[[str, LowRank], Matrix | None]:
    """Aligned minus base of a module; where the one is the other with an adapter, its update is that already."""
    if lineage.base is None:
        return lambda module, update: None
    if _folder(lineage.aligned) == _folder(lineage.base):
        return lambda module, update: update
    aligned, base = FoldedWeights(lineage.aligned), FoldedWeights(lineage.base)
    transposed = lineage.tuned.adapter is not None and lies_over_transposed(lineage.tuned.adapter)

    def read(module: str, _: LowRank) -> Matrix:
        found = difference(aligned, base, f"{module}.weight")
        return found.T if transposed else found

    return read


def _zero_like(update: LowRank) -> LowRank:
    return zero(*update.shape, update.b.device)


def _repair_checkpoint(
    folder: Path, lineage: Lineage, repaired: Repairing, notes: _Notes, *, matrices_only: bool
) -> None:
    aligned, base = FoldedWeights(lineage.aligned), None if lineage.base is None else FoldedWeights(lineage.base)
    turned = transposed_weights(lineage.tuned.path) if matrices_only else set()

    def changed(stored: str, weight: Tensor) -> Tensor:
        name = plain_name(stored)
        refuse_non_finite([(stored, weight)], lineage.tuned.path)
        if matrices_only:
            refuse_stacked(name, weight, "repair by example, or an adapter on the matrices")
        is_matrix = weight.ndim == 2 and place_of(name).layer is not None
        if not weight.is_floating_point() or (matrices_only and not is_matrix):
            return weight
        if name.endswith(_COMPUTED):
            return weight
        below = aligned.read(name if aligned.holds(name) else _tied(name, aligned))
        direction = None if base is None else difference(aligned, base, name)
        update = _as_matrix(_minus(weight, below, name, lineage))
        if name in turned:
            update, direction = update.T, None if direction is None else direction.T
        found = repaired(name, update, direction)
        if not found.changed:
            return weight
        assert isinstance(found.update, Tensor)
        moved = found.update.T if name in turned else found.update.view_as(below)
        # Drawn by what the weight holds: a tied head that the files repeat stays the same as the embedding.
        draw = torch.Generator().manual_seed(crc32(weight.reshape(-1).view(torch.uint8).numpy().data))
        written = stochastically_rounded(below + moved, weight.dtype, draw)
        notes.write(found, written.float() - below, undone=torch.equal(written, weight))
        return written

    start = Path(lineage.tuned.path)
    rewrite_weights(start, folder, changed)
    copy_companions(start, folder)


def _tied(name: str, aligned: FoldedWeights) -> str:
    """The name under which a model keeps a head that is its embedding, where one of two files repeats it."""
    if place_of(name).kind != "head":
        return name
    return next((each for each in aligned.names() if each.endswith(("embed_tokens.weight", "wte.weight"))), name)


def _minus(weight: Tensor, below: Tensor, name: str, lineage: Lineage) -> Tensor:
    if weight.shape != below.shape:
        shapes = " and ".join(str(tuple(each.shape)) for each in (weight, below))
        raise ModelError(
            f"{lineage.aligned.describe()} is not what {lineage.tuned.describe()} was tuned from: {name} is {shapes}; "
            "name another model with --against."
        )
    return weight.float() - below


def _as_matrix(update: Tensor) -> Float[Tensor, "out in"]:
    return update if update.ndim == 2 else update.reshape(len(update) if update.ndim else 1, -1)


def _require_one_base(lineage: Lineage) -> None:
    if _folder(lineage.aligned) != _folder(lineage.tuned):
        raise ModelError(
            f"The adapter lies over {lineage.tuned.path} and the aligned model over {lineage.aligned.path}: what "
            "leads from one to the other is no adapter; name a model over the same checkpoint with --against."
        )


def _folder(source: ModelSource) -> Path:
    return checkpoint_folder(source.path).resolve()


def _require_change(notes: _Notes, lineage: Lineage, method: UpdateRepair) -> None:
    if not notes.before:
        raise InactiveError(
            f"{lineage.tuned.describe()} has the weights of {lineage.aligned.describe()}, and there is nothing to "
            "repair; name the model before the fine-tune with --against."
        )
    if any(each["changed"] for each in notes.weights):
        return
    if notes.undone:
        raise InactiveError(
            f"Rounding to the precision of {lineage.tuned.describe()} undid the repair of all its weights; store it in "
            "fp32, or repair more."
        )
    cosines = [each["cosine"] for each in notes.weights if each["cosine"] is not None]
    if not cosines:
        raise InactiveError(
            f"{method.name} finds no direction: where the fine-tune moved weights, the aligned model equals its base; "
            "name the checkpoint before alignment with --base."
        )
    raise InactiveError(
        f"{method.name} would change none of {len(notes.weights)} weights: the smallest cosine with alignment is "
        f"{min(cosines):.2f}; give a larger threshold."
    )
