"""Operators on the columns of an update: what lies along a weight's direction, and what does not.

All are built from one factor F: F Fᵀ keeps what lies along the direction, I − F Fᵀ what does not. A matrix of the size
out × out is never made. Products are taken of the few columns transposed: with F on the right, bf16 on a CPU takes
little more than half the time.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from moored.tensors.low_rank import LowRank, Matrix, squared_norm

_ITERATIONS = 50
"""Of the power method; an eigenvalue is wanted to a percent or so."""


@dataclass(frozen=True)
class Along:
    """F Fᵀ X in the coordinates of F, which is Fᵀ X; where F is orthonormal, both have one norm."""

    factor: Float[Tensor, "out m"]

    def __call__(self, columns: Float[Tensor, "out n"]) -> Float[Tensor, "m n"]:
        """Fᵀ X, taken in the factor's precision."""
        return (columns.T.to(self.factor.dtype) @ self.factor).T.to(columns.dtype)


@dataclass(frozen=True)
class Complement:
    """(I − F Fᵀ) X; the identity where F has no column."""

    factor: Float[Tensor, "out m"]

    def __call__(self, columns: Float[Tensor, "out n"]) -> Float[Tensor, "out n"]:
        """X − F (Fᵀ X), the product taken in the factor's precision and the difference in that of X."""
        if not self.factor.shape[1]:
            return columns
        along = columns.T.to(self.factor.dtype) @ self.factor @ self.factor.T
        return columns - along.T.to(columns.dtype)


def published_factor(difference: Matrix) -> Float[Tensor, "out m"]:
    """F with F Fᵀ = d dᵀ / ‖d‖, the Ĉ of AsFT's and Safe LoRA's code: ‖d‖ is not squared, so it is no projector.

    Args:
        difference: d; where it is B A, F has as many columns as B. Without any entry but zeros, F has no column.
    """
    norm = squared_norm(difference).sqrt()
    if not norm:
        return _rows(difference).new_zeros(len(_rows(difference)), 0)
    if not isinstance(difference, LowRank):
        return difference / norm.sqrt()
    # d dᵀ = B (A Aᵀ) Bᵀ, and A Aᵀ has a root also where A has dependent rows.
    values, vectors = torch.linalg.eigh(difference.a @ difference.a.T)
    return difference.b @ (vectors * values.clamp_min(0).sqrt()) / norm.sqrt()


def principal_factor(difference: Matrix, rank: int) -> tuple[Float[Tensor, "out m"], float]:
    """U_k Σ_k of the k largest singular values of d, and the share of ‖d‖² that they hold; m ≤ k, zeros left out.

    Exact for a product of thin factors; for a whole matrix the randomized method of Halko et al. (arXiv 0909.4061)
    with its own random state.
    """
    u, s = _left_singular(difference, rank)
    total = squared_norm(difference)
    kept = s[:rank] > s[:1] * 1e-6
    u, s = u[:, :rank][:, kept], s[:rank][kept]
    return u * s, float(s.square().sum() / total) if total else 1.0


def _left_singular(matrix: Matrix, rank: int) -> tuple[Tensor, Tensor]:
    if isinstance(matrix, LowRank):
        # The singular values of B A are those of B R with A = Rᵀ Qᵀ.
        u, s, _ = torch.linalg.svd(matrix.b @ torch.linalg.qr(matrix.a.T).R.T, full_matrices=False)
        return u, s
    with torch.random.fork_rng([matrix.device] if matrix.is_cuda else []):
        torch.manual_seed(0)
        u, s, _ = torch.svd_lowrank(matrix, q=min(rank + 8, *matrix.shape), niter=6)
    return u, s


def orthonormal(factor: Float[Tensor, "out m"]) -> Float[Tensor, "out m"]:
    """The columns of U_k Σ_k, each of length 1."""
    return factor / factor.norm(dim=0)


def largest_eigenvalue(factor: Float[Tensor, "out m"]) -> float:
    """Returns the largest eigenvalue of F Fᵀ, by the power method from a fixed start."""
    if not factor.shape[1]:
        return 0.0
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(factor.shape[1], generator=generator).to(factor)
    for _ in range(_ITERATIONS):
        x = factor.T @ (factor @ (x / x.norm()))
    return float(x.float().norm())


def _rows(matrix: Matrix) -> Tensor:
    return matrix.b if isinstance(matrix, LowRank) else matrix
