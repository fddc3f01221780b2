"""Rounding to a coarser precision without losing what is smaller than its steps.

Sources: stochastic rounding, as in "Deep Learning with Limited Numerical Precision" (Gupta et al., arXiv 1502.02551,
section 3). Our choice: the noise comes from a generator of its own, so that the same call gives the same numbers.
"""

import torch
from torch import Tensor


def stochastically_rounded(values: Tensor, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Each value as one of its two neighbours in `dtype`, the nearer one the likelier, so that the mean is the value.

    What `dtype` has exactly stays as it is.

    Args:
        values: of any shape, in fp32 or fp64.
        dtype: a floating-point type of fewer digits; a type that has all values gives them back.
        generator: on the CPU; moved on by one draw a value.
    """
    nearest = values.to(dtype)
    rest = values - nearest.to(values.dtype)
    beyond = torch.nextafter(nearest, torch.full_like(nearest, torch.inf).copysign(rest.to(dtype)))
    share = rest / (beyond.to(values.dtype) - nearest.to(values.dtype))
    draw = torch.rand(values.shape, generator=generator, dtype=values.dtype).to(values.device)
    return torch.where(draw < share, beyond, nearest)
