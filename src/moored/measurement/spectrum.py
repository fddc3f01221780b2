"""How few directions a gradient lives in, and how the directions of two gradients lie to each other.

Source: arXiv 2601.01887 (known from a secondary source): cumulative energy of the k largest singular values, overlap of
the main left singular vectors of two gradients. Our choices: the effective rank, and the chance level of the overlap.
The gradient of a weight has no more rank than its example has tokens: a short example's is low-rank whatever it says.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def cumulative_energy(singular_values: Float[Tensor, " rank"], k: int) -> float:
    """The share of Σσ² that the k largest hold, from 0 to 1; NaN where all are zero.

    Args:
        singular_values: from the largest on.
        k: ≥ 1; it may be more than there are.
    """
    squares = singular_values.double().square()
    return float(squares[:k].sum() / squares.sum())


def effective_rank(singular_values: Float[Tensor, " rank"]) -> float:
    """Exp of the entropy of σ²/Σσ² (Roy and Vetterli, 2007, but of squares): r for r equal directions."""
    squares = singular_values.double().square()
    shares = squares / squares.sum()
    return float(torch.special.entr(shares).sum().exp())


def overlap(one: Float[Tensor, "out k"], other: Float[Tensor, "out m"]) -> float:
    """φ = ‖U₁ᵀ U₂‖² / min(k, m) of two orthonormal bases: 0 for orthogonal spaces, 1 where one holds the other.

    Of two random spaces it is max(k, m) / out on the average.
    """
    return float((one.T @ other).double().square().sum() / min(one.shape[1], other.shape[1]))
