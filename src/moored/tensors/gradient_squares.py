"""The squared norm of each sample's weight gradient, from a layer's inputs and the gradients of its outputs.

A dense layer's gradient for one sample is Σₜ gₜxₜᵀ. Its squared norm is either taken from that matrix (the direct
form, T·in·out operations) or from two Gram matrices, Σₜₛ (gₜ·gₛ)(xₜ·xₛ) (the ghost form, T²(in + out)): Goodfellow
2015, arXiv 1510.01799; Li et al. 2021, arXiv 2110.05679. Both are exact. Everything accumulates in fp32, and no more
than a few samples' matrices exist at once.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from moored.tensors.samples import Samples

_MOST = 2**22
"""Numbers in the largest intermediate, unless a single sample needs more: 16 MB in fp32."""

Squares = Float[Tensor, " sample"]


def dense_squares(samples: Samples, inputs: Float[Tensor, "position in"], gradients: Float[Tensor, "position out"]):
    """‖Σₜ gₜxₜᵀ‖² of each sample, in the cheaper of the two forms.

    Args:
        samples: which sample each position belongs to.
        inputs: what the layer multiplied by its weight, in any precision.
        gradients: of the loss by the layer's outputs.
    """
    squares = torch.zeros(samples.count, device=inputs.device)
    for block in samples.blocks:
        x, g = block.arrange(inputs), block.arrange(gradients)
        form, size = cheaper_form(x.shape[1], x.shape[2], g.shape[2])
        some = max(1, _MOST // size)
        parts = [form(a.float(), b.float()) for a, b in zip(x.split(some), g.split(some), strict=True)]
        squares[block.samples] = torch.cat(parts)
    return squares


Form = Callable[[Float[Tensor, "sample time in"], Float[Tensor, "sample time out"]], Squares]


def cheaper_form(width: int, inputs: int, outputs: int) -> tuple[Form, int]:
    """The form that takes fewer operations, and how many numbers it holds per sample."""
    if width * (inputs + outputs) < inputs * outputs:
        return ghost_squares, 2 * width**2
    return direct_squares, inputs * outputs


def ghost_squares(inputs: Float[Tensor, "sample time in"], gradients: Float[Tensor, "sample time out"]) -> Squares:
    """Σₜₛ (gₜ·gₛ)(xₜ·xₛ), which rounding can take below zero where the gradient vanishes."""
    products = (inputs @ inputs.mT).mul_(gradients @ gradients.mT)
    return products.sum(dim=(1, 2)).clamp_(min=0)


def direct_squares(inputs: Float[Tensor, "sample time in"], gradients: Float[Tensor, "sample time out"]) -> Squares:
    """‖Σₜ gₜxₜᵀ‖² from the matrix itself."""
    return torch.linalg.vector_norm(gradients.mT @ inputs, dim=(1, 2)).square()


def lookup_squares(
    samples: Samples, ids: Int[Tensor, " position"], gradients: Float[Tensor, "position dim"]
) -> Squares:
    """Σᵥ ‖Σ_{t: idₜ=v} gₜ‖² of each sample: an embedding's rows get the sum over the places where they were read."""
    vocabulary = int(ids.max()) + 1
    keys, pair = torch.unique(samples.of * vocabulary + ids, return_inverse=True)
    sums = gradients.new_zeros(len(keys), gradients.shape[1], dtype=torch.float32)
    sums.index_add_(0, pair, gradients.float())
    squares = sums.new_zeros(samples.count + 1).index_add_(0, keys // vocabulary, sums.square().sum(1))
    return squares[: samples.count]


def summed_squares(samples: Samples, gradients: Float[Tensor, "position dim"]) -> Squares:
    """‖Σₜ gₜ‖² of each sample: a bias, or a norm's weight with gₜ already multiplied by what it scales."""
    return samples.total(gradients).square().sum(1)
