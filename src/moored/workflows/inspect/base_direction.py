"""How the updates of samples lie to the way back to the base, matrix by matrix."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from moored.huggingface.gradients import coordinate_gradients
from moored.huggingface.models import Reversion, place_of
from moored.measurement import alignment, shuffled_cosines, update_cosines
from moored.workflows.inspect.sample import Sample
from moored.workflows.records.progress import progress_bar

_DRAWS = 200
"""Directions of the control for each matrix."""


def describe_reversion(
    model: Any,
    sample: Sample,
    back: Reversion,
    norms: Tensor,
    groups: Mapping[str, Sequence[int]],
    *,
    seed: int,
    console: Console | None,
) -> tuple[dict[str, Any], Tensor]:
    """Compares each sample's update with the way back, in the first, middle and last layer that has one.

    Returns:
        What stands under `reversion` in `report.json`: how many matrices are `identical` and which `layers` they lie
        in alone, those `missing` in the base's files, the layers `compared`, `draws` of the control; the mean over
        the matrices `together`, and `matrices`, each with its `name`, `layer`, `kind`, `coordinates`, `norm` of r,
        `share` of ‖r‖² that the coordinates hold; each with `cosine` by group, `norm_cosine` and `control` (95 %
        ranges under shuffled signs). And each sample's cosine, the mean over the matrices.
    """
    layers = _ends_and_middle(back.directions)
    chosen = {name: each for name, each in back.directions.items() if place_of(name).layer in layers}
    with progress_bar(console, f"one by one at {len(chosen)} matrices", len(sample.rows)) as advance:
        gradients = coordinate_gradients(
            model,
            sample.rows,
            {name: each.coordinates for name, each in chosen.items()},
            max_length=sample.max_length,
            advance=advance,
        )
    cosines = {name: update_cosines(gradients[name], each.values) for name, each in chosen.items()}
    control = {
        name: shuffled_cosines(gradients[name], each.values, draws=_DRAWS, seed=_seed(seed, number))
        for number, (name, each) in enumerate(chosen.items())
    }
    mean, mean_control = (torch.stack([*each.values()]).mean(0) for each in (cosines, control))
    matrices = [
        {
            "name": name,
            "layer": place_of(name).layer,
            "kind": place_of(name).kind,
            "coordinates": len(each.coordinates),
            "norm": each.norm,
            "share": each.share,
            **alignment(cosines[name], control[name], norms, groups, seed=seed).as_dict(),
        }
        for name, each in chosen.items()
    ]
    described = {
        "identical": {"matrices": len(back.identical), "layers": _untouched(back)},
        "missing": list(back.missing),
        "compared": sorted(layers),
        "draws": _DRAWS,
        "together": alignment(mean, mean_control, norms, groups, seed=seed).as_dict(),
        "matrices": matrices,
    }
    return described, mean


def _ends_and_middle(names: Mapping[str, Any]) -> set[int]:
    layers = sorted({layer for name in names if (layer := place_of(name).layer) is not None})
    return {layers[0], layers[len(layers) // 2], layers[-1]}


def _untouched(back: Reversion) -> list[int]:
    """The layers in which no matrix differs."""
    moved = {place_of(name).layer for name in back.directions}
    return sorted({layer for name in back.identical if (layer := place_of(name).layer) is not None} - moved)


def _seed(seed: int, number: int) -> int:
    """Of one matrix: with one seed for all, matrices with equally many coordinates would share their signs."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
