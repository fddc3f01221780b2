"""Whether training on a sample leads back to the base: TopK-cosine of its update with the reversion direction.

Source: arXiv 2604.17215, appendix D (known from a secondary source): the cosine of an update with r = θ_pretrained −
θ_aligned, over the k = 1000 largest coordinates. Our choices: the update is *minus* the gradient, since training moves
along it; the coordinates are those of the largest |r|; and the control below. A positive cosine leads back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from moored.measurement.statistics import CONFIDENCE, Correlation, Mean, mean_interval, spearman

_RESAMPLES = 2000


def update_cosines(gradients: Float[Tensor, "sample k"], reversion: Float[Tensor, " k"]) -> Float[Tensor, " sample"]:
    """cos(−g, r) of each sample; NaN where a gradient vanishes at these coordinates."""
    return _cosines(gradients, reversion[:, None])[:, 0]


def shuffled_cosines(
    gradients: Float[Tensor, "sample k"], reversion: Float[Tensor, " k"], *, draws: int, seed: int
) -> Float[Tensor, "sample draw"]:
    """The control: cosines with directions of the same coordinates and magnitudes whose signs are shuffled."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.stack([reversion.sign()[torch.randperm(len(reversion), generator=generator)] for _ in range(draws)])
    return _cosines(gradients, reversion.abs()[:, None] * signs.mT)


def _cosines(gradients: Tensor, directions: Float[Tensor, "k direction"]) -> Float[Tensor, "sample direction"]:
    g, r = gradients.double(), directions.double()
    return -(g @ r) / (g.norm(dim=1, keepdim=True) * r.norm(dim=0))


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """How the updates of many samples lie to one direction."""

    groups: Mapping[str, Mean]
    """The mean cosine of each group, samples resampled."""
    norm_cosine: Correlation
    """Gradient norm against cosine, over all samples."""
    control_means: Mapping[str, tuple[float, float] | None]
    """Where 95 % of each group's mean cosines lie under shuffled signs."""
    control_rho: tuple[float, float] | None
    """The same for Spearman's rho; samples share directions, so that it strays far beyond what n alone would allow."""

    def as_dict(self) -> dict[str, Any]:
        """The alignment as it stands in `report.json`."""
        return {
            "cosine": {name: mean.as_dict() for name, mean in self.groups.items()},
            "norm_cosine": self.norm_cosine.as_dict(),
            "control": {
                "cosine": {name: _range(between) for name, between in self.control_means.items()},
                "rho": _range(self.control_rho),
            },
        }


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
        cosines: of each sample.
        shuffled: those of the control; at least one draw.
        norms: gradient norm of each sample.
        groups: name → the samples that belong to it.
        seed: of the bootstrap.
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


def _range(between: tuple[float, float] | None) -> dict[str, float] | None:
    return None if between is None else {"low": between[0], "high": between[1]}


def _middle(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
