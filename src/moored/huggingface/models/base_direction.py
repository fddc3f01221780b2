"""The base direction: base minus aligned, matrix by matrix, at the coordinates where it is largest.

This is the reversion direction r = θ_pretrained − θ_aligned of arXiv 2604.17215 (appendix D), compared at its k = 1000
largest coordinates because in high dimension any plain cosine is near 0. Taking the largest |r|, and each matrix by
itself, is our reading. Only one tensor of the base is in memory at a time.
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
class MatrixDirection:
    """The base direction r of one matrix."""

    coordinates: Int[Tensor, " k"]
    """The indices into the flattened matrix; fewer than k where r has fewer non-zero entries."""
    values: Float[Tensor, " k"]
    """The entries of r at these coordinates."""
    norm: float
    """The norm ‖r‖ of the whole matrix."""
    share: float
    """The share of ‖r‖² that these coordinates hold."""


@dataclass(frozen=True, kw_only=True)
class BaseDirection:
    """The base direction of a whole model."""

    directions: dict[str, MatrixDirection]
    """The matrices that differ from the base, by plain name."""
    identical: tuple[str, ...]
    """The matrices that alignment left unchanged; they have no direction."""
    missing: tuple[str, ...]
    """The matrices that the base's files do not hold under this name: transformers has fused or renamed them."""


def find_base_direction(model: nn.Module, base: Path, *, top: int) -> BaseDirection:
    """Compares every matrix inside the layers with the base's.

    Args:
        model: the aligned model, adapters folded in.
        base: the checkpoint folder of the model before alignment.
        top: the number of coordinates to keep of each matrix, ≥ 1.

    Raises:
        ModelError: the base is of another shape, holds none of the matrices, or differs in none.
    """
    matrices = {plain_name(name): each.detach() for name, each in model.named_parameters() if _is_matrix(name, each)}
    directions: dict[str, MatrixDirection] = {}
    identical = []
    for name, weight in _stored(base, matrices):
        # The difference of a whole matrix in fp32 is freed before the next one is made.
        r = weight.float() - matrices[name].to("cpu", torch.float32)
        if r.any():
            directions[name] = _largest(r.flatten(), top)
        else:
            identical.append(name)
    _require_some(directions, identical, base, next(iter(matrices), "linear layers"))
    return BaseDirection(
        directions={name: directions[name] for name in matrices if name in directions},
        identical=tuple(name for name in matrices if name in identical),
        missing=tuple(name for name in matrices if name not in directions and name not in identical),
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
            raise ModelError(f"{base} is not the base of this model: {name} is {shapes}; name another base.")
        yield name, weight


def _require_some(directions: dict[str, MatrixDirection], identical: list[str], base: Path, name: str) -> None:
    if not directions and not identical:
        raise ModelError(f"{base} holds none of this model's matrices (such as {name}); name another base.")
    if not directions:
        raise ModelError(f"All matrices of the model equal those of {base}; name the base before alignment.")


def _largest(r: Float[Tensor, " weight"], top: int) -> MatrixDirection:
    coordinates = r.abs().topk(min(top, int(r.count_nonzero()))).indices.sort().values
    values, whole = r[coordinates], r.double().square().sum()
    share = float(values.double().square().sum() / whole)
    return MatrixDirection(coordinates=coordinates, values=values, norm=float(whole.sqrt()), share=share)
