"""Whether training on a sample moves towards the base: the top-k cosine of its update with the base direction.

Source: arXiv 2604.17215, appendix D (known from a secondary source), which calls r = θ_pretrained − θ_aligned the
reversion direction: the cosine of an update with r, over the k = 1000 largest coordinates. Our choices: the update is
*minus* the gradient, since training moves along it; the coordinates are those of the largest |r|; and the control
below. A positive cosine means that the update moves towards the base.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from moored.measurement.statistics import CONFIDENCE, Correlation, Mean, mean_interval, spearman

_RESAMPLES = 2000


def update_cosines(gradients: Float[Tensor, "sample k"], r: Float[Tensor, " k"]) -> Float[Tensor, " sample"]:
    """Computes cos(−g, r) for each sample; NaN where a gradient vanishes at these coordinates."""
    return _cosines(gradients, r[:, None])[:, 0]


def shuffled_cosines(
    gradients: Float[Tensor, "sample k"], r: Float[Tensor, " k"], *, draws: int, seed: int
) -> Float[Tensor, "sample draw"]:
    """Computes the control: cosines with directions of the same coordinates and magnitudes but shuffled signs."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.stack([r.sign()[torch.randperm(len(r), generator=generator)] for _ in range(draws)])
    return _cosines(gradients, r.abs()[:, None] * signs.mT)


def _cosines(gradients: Tensor, directions: Float[Tensor, "k direction"]) -> Float[Tensor, "sample direction"]:
    g, r = gradients.double(), directions.double()
    return -(g @ r) / (g.norm(dim=1, keepdim=True) * r.norm(dim=0))


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """How far the updates of many samples point along one direction."""

    groups: Mapping[str, Mean]
    """The mean cosine of each group, with a bootstrap interval over the samples."""
    norm_cosine: Correlation
    """The correlation of gradient norm and cosine over all samples."""
    control_means: Mapping[str, tuple[float, float] | None]
    """The range that holds 95 % of each group's mean cosines under shuffled signs."""
    control_rho: tuple[float, float] | None
    """The same range for Spearman's rho, wider than n alone would suggest because samples share directions."""


def alignment(
    cosines: Float[Tensor, " sample"],
    shuffled: Float[Tensor, "sample draw"],
    norms: Float[Tensor, " sample"],
    groups: Mapping[str, Sequence[int]],
    *,
    seed: int = 0,
) -> Alignment:
    """Summarizes cosines; samples without one (NaN) are left out of every n.

    Args:
        cosines: the cosine of each sample.
        shuffled: the cosines of the control; at least one draw.
        norms: the gradient norm of each sample.
        groups: the samples of each group, by its name.
        seed: the seed of the bootstrap.
    """
    there = cosines.isfinite()
    inside = {name: [each for each in members if there[each]] for name, members in groups.items()}
    control = shuffled.numpy()
    return Alignment(
        groups={
            name: mean_interval(cosines[members].tolist(), seed=seed, resamples=_RESAMPLES)
            for name, members in inside.items()
        },
        norm_cosine=spearman(norms[there].tolist(), cosines[there].tolist()),
        control_means={
            name: _middle(control[members].mean(axis=0)) if members else None for name, members in inside.items()
        },
        control_rho=_rho_range(norms[there].numpy(), control[there.numpy()]),
    )


def _rho_range(norms: np.ndarray, control: np.ndarray) -> tuple[float, float] | None:
    ranks, others = stats.rankdata(norms), stats.rankdata(control, axis=0)
    spread = ranks.std() * others.std(axis=0)
    if len(norms) < 4 or not spread.all():
        return None
    return _middle(((ranks - ranks.mean())[:, None] * (others - others.mean(axis=0))).mean(axis=0) / spread)


def _middle(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
