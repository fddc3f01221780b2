"""Rounding to a coarser precision without losing what is smaller than its steps.

Sources: stochastic rounding, as in "Deep Learning with Limited Numerical Precision" (Gupta et al., arXiv 1502.02551,
section 3). Our choice: the noise comes from a generator of its own, so that the same call gives the same numbers.
"""

import torch
from torch import Tensor

_AT_ONCE = 2**24
"""Values whose neighbours and draws are in memory together."""


def stochastically_rounded(values: Tensor, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Each value as one of its two neighbours in `dtype`, the nearer one the likelier, so that the mean is the value.

    What `dtype` has exactly stays as it is. A type as fine as theirs gives the values back, and one of 8 bits, which
    PyTorch knows no neighbours of, the nearest.

    Args:
        values: of any shape, in fp32 or fp64.
        dtype: a floating-point type.
        generator: on the CPU; moved on by one draw a value, if the type is coarser.
    """
    if not 16 <= torch.finfo(dtype).bits < torch.finfo(values.dtype).bits:
        return values.to(dtype)
    rounded = [_rounded(each, dtype, generator) for each in values.flatten().split(_AT_ONCE)]
    return torch.cat(rounded).view(values.shape) if rounded else values.to(dtype)


def _rounded(values: Tensor, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    nearest = values.to(dtype)
    rest = values - nearest.to(values.dtype)
    beyond = torch.nextafter(nearest, torch.full_like(nearest, torch.inf).copysign(rest.to(dtype)))
    share = rest / (beyond.to(values.dtype) - nearest.to(values.dtype))
    draw = torch.rand(values.shape, generator=generator, dtype=values.dtype).to(values.device)
    return torch.where(draw < share, beyond, nearest)
