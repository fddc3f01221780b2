"""The way back: base minus aligned, matrix by matrix, at the coordinates where it is largest.

The reversion direction of arXiv 2604.17215 (appendix D) is r = θ_pretrained − θ_aligned, compared at its k = 1000
largest coordinates, since in high dimension any plain cosine is near 0. That the largest of |r| are meant, and each
matrix by itself, is our reading. One tensor of the base is in memory at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from moored.errors import ModelError
from moored.huggingface.models.names import plain_name
from moored.huggingface.models.parameter_location import place_of
from moored.huggingface.models.weights import iterate_weights


@dataclass(frozen=True, kw_only=True)
class Direction:
    """r of one matrix."""

    coordinates: Int[Tensor, " k"]
    """Into the flattened matrix; fewer than asked for where r has fewer that are not zero."""
    values: Float[Tensor, " k"]
    """r there."""
    norm: float
    """‖r‖ of the whole matrix."""
    share: float
    """Of ‖r‖², what these coordinates hold."""


@dataclass(frozen=True, kw_only=True)
class Reversion:
    """r of a whole model."""

    directions: dict[str, Direction]
    """By plain name; only matrices that differ."""
    identical: tuple[str, ...]
    """Matrices that alignment left as they were, where there is no direction."""
    missing: tuple[str, ...]
    """Matrices that the base's files do not hold under this name, because transformers has fused or renamed them."""


def reversion(model: nn.Module, base: Path, *, top: int) -> Reversion:
    """The reversion direction of every matrix inside the layers.

    Args:
        model: the aligned model, adapters folded in.
        base: the checkpoint folder of what it was aligned from.
        top: coordinates of each matrix, ≥ 1.

    Raises:
        ModelError: the base is of another shape, holds none of the matrices, or differs in none.
    """
    matrices = {plain_name(name): each.detach() for name, each in model.named_parameters() if _is_matrix(name, each)}
    directions: dict[str, Direction] = {}
    identical = []
    for name, weight in _stored(base, matrices):
        # A whole matrix in fp32, and gone with the next one.
        r = weight.float() - matrices[name].to("cpu", torch.float32)
        if r.any():
            directions[name] = _largest(r.flatten(), top)
        else:
            identical.append(name)
    _require_some(directions, identical, base, next(iter(matrices), "linear layers"))
    missing = tuple(name for name in matrices if name not in directions and name not in identical)
    return Reversion(
        directions={name: directions[name] for name in matrices if name in directions},
        identical=tuple(name for name in matrices if name in identical),
        missing=missing,
    )


def _is_matrix(name: str, parameter: Tensor) -> bool:
    return parameter.ndim == 2 and place_of(plain_name(name)).layer is not None


def _stored(base: Path, matrices: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for stored, weight in iterate_weights(base):
        name = plain_name(stored)
        if name not in matrices:
            continue
        if weight.shape != matrices[name].shape:
            shapes = " and ".join(str(tuple(each.shape)) for each in (weight, matrices[name]))
            raise ModelError(f"{base} is no base of this model: {name} is {shapes}; name another base.")
        yield name, weight


def _require_some(directions: dict[str, Direction], identical: list[str], base: Path, name: str) -> None:
    if not directions and not identical:
        raise ModelError(f"{base} holds none of this model's matrices ({name}, say); name another base.")
    if not directions:
        raise ModelError(f"The model's matrices all equal those of {base}, so nothing leads back; name another base.")


def _largest(r: Float[Tensor, " weight"], top: int) -> Direction:
    coordinates = r.abs().topk(min(top, int(r.count_nonzero()))).indices.sort().values
    values, whole = r[coordinates], r.double().square().sum()
    share = float(values.double().square().sum() / whole)
    return Direction(coordinates=coordinates, values=values, norm=float(whole.sqrt()), share=share)
