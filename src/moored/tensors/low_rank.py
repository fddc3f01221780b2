"""Matrices that are held whole or as a product of two thin factors, and what weight penalties ask of them.

The update of a LoRA module is B A with few columns in B. Whatever acts on ΔW from the left acts on B alone, and a
Frobenius product needs the small Gram matrices only: ‖BA‖² = Σ (BᵀB) ∘ (AAᵀ). So no matrix of the weight's size is
made.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_ROUNDING = 1e-12
"""Of decompositions in fp64, as a share of the factors' norms."""


@dataclass(frozen=True)
class LowRank:
    """The matrix B A."""

    b: Float[Tensor, "out rank"]
    a: Float[Tensor, "rank in"]

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the product."""
        return len(self.b), self.a.shape[1]

    def whole(self) -> Float[Tensor, "out in"]:
        """The product."""
        return self.b @ self.a

    def __add__(self, other: "LowRank") -> "LowRank":
        """The sum, of the ranks together."""
        return LowRank(torch.cat([self.b, other.b], 1), torch.cat([self.a, other.a]))

    def __sub__(self, other: "LowRank") -> "LowRank":
        """The difference, of the ranks together."""
        return self + LowRank(-other.b, other.a)


Matrix = Float[Tensor, "out in"] | LowRank


def whole(matrix: Matrix) -> Float[Tensor, "out in"]:
    """All entries."""
    return matrix.whole() if isinstance(matrix, LowRank) else matrix


def cast(matrix: Matrix, dtype: torch.dtype) -> Matrix:
    """In another precision."""
    return LowRank(matrix.b.to(dtype), matrix.a.to(dtype)) if isinstance(matrix, LowRank) else matrix.to(dtype)


def in_host_memory(matrix: Matrix) -> Matrix:
    """On the CPU; where there is an accelerator, in pages that its transfers need not wait for."""

    def moved(part: Tensor) -> Tensor:
        host = part.cpu()
        return host.pin_memory() if part.is_cuda else host

    return LowRank(moved(matrix.b), moved(matrix.a)) if isinstance(matrix, LowRank) else moved(matrix)


def beside(other: Matrix, matrix: Float[Tensor, "rows columns"] | LowRank) -> Float[Tensor, "rows columns"] | LowRank:
    """On the device of another matrix; itself where it is there already."""
    device = other.b.device if isinstance(other, LowRank) else other.device

    def moved(part: Tensor) -> Tensor:
        return part.to(device, non_blocking=device.type != "cpu")

    return LowRank(moved(matrix.b), moved(matrix.a)) if isinstance(matrix, LowRank) else moved(matrix)


def zero(out: int, into: int, device: torch.device) -> LowRank:
    """The zero matrix, of rank 0."""
    return LowRank(torch.zeros(out, 0, device=device), torch.zeros(0, into, device=device))


def left_times(operator: Callable[[Tensor], Tensor], matrix: Matrix) -> Float[Tensor, "rows in"] | LowRank:
    """The product of a linear operator on columns with a matrix; it may have another number of rows."""
    return LowRank(operator(matrix.b), matrix.a) if isinstance(matrix, LowRank) else operator(matrix)


def shuffled_rows(matrix: Matrix, seed: int) -> Matrix:
    """The rows in another order, half of them with another sign: a random orthogonal map, singular values stay.

    Args:
        matrix: any.
        seed: of the order and the signs.
    """
    rows = len(matrix.b if isinstance(matrix, LowRank) else matrix)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(rows, generator=generator)
    signs = torch.randint(0, 2, (rows, 1), generator=generator) * 2 - 1
    return left_times(lambda columns: columns[order.to(columns.device)] * signs.to(columns), matrix)


def inner(one: Matrix, other: Matrix) -> Float[Tensor, ""]:
    """The Frobenius product ⟨X, Y⟩ = Σ X ∘ Y."""
    if isinstance(one, LowRank) and isinstance(other, LowRank):
        return ((one.b.T @ other.b) * (one.a @ other.a.T)).sum()
    if isinstance(other, LowRank):
        return inner(other, one)
    if isinstance(one, LowRank):
        return (one.b * (other @ one.a.T)).sum()
    return (one * other).sum()


def squared_norm(matrix: Matrix) -> Float[Tensor, ""]:
    """‖X‖², the sum of the squared entries."""
    return inner(matrix, matrix)


def compressed(matrix: LowRank, *, tolerance: float = 1e-6) -> LowRank:
    """The same matrix with no more columns in B than its rank, which sums and differences of products often exceed.

    Args:
        matrix: B A.
        tolerance: singular values below this share of the largest are taken for zeros; > 0.

    Returns:
        U Σ½ and Σ½ Vᵀ of its singular value decomposition, found from two thin QR decompositions in fp64, without the
        product. A zero matrix, and what rounding leaves where products cancel, is one column of zeros.
    """
    left, right = torch.linalg.qr(matrix.b.double()), torch.linalg.qr(matrix.a.T.double())
    u, s, v = torch.linalg.svd(left.R @ right.R.T)
    floor = torch.maximum(tolerance * s[:1], _ROUNDING * left.R.norm() * right.R.norm())
    kept = max(1, int((s > floor).sum()))
    root = (s * (s > floor))[:kept].sqrt()
    b, a = left.Q @ (u[:, :kept] * root), (root[:, None] * v[:kept]) @ right.Q.T
    return LowRank(b.to(matrix.b.dtype), a.to(matrix.a.dtype))
