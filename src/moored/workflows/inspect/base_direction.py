"""How far the updates of samples point along the base direction, matrix by matrix."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from moored.huggingface.gradients import coordinate_gradients
from moored.huggingface.models import BaseDirection, MatrixDirection, place_of
from moored.measurement import Alignment, alignment, shuffled_cosines, update_cosines
from moored.report.reading.gradients import BaseDirectionRecord, ComparedMatrix, IdenticalRecord
from moored.workflows.inspect.gradient_scores import ScoredSample
from moored.workflows.records.progress import progress_bar

_DRAWS = 200
"""The number of control directions for each matrix."""


@dataclass(frozen=True, kw_only=True)
class ComparedUpdates:
    """The cosines of the samples' updates with the base direction."""

    direction: BaseDirection
    cosines: Tensor
    """The cosine of each sample: the mean over the matrices."""
    together: Alignment
    matrices: list[ComparedMatrix]

    def record(self, *, base: str, top: int) -> BaseDirectionRecord:
        """Describes the comparison as the report holds it."""
        identical = IdenticalRecord(matrices=len(self.direction.identical), layers=_untouched(self.direction))
        return BaseDirectionRecord(
            base=base,
            top=top,
            identical=identical,
            missing=list(self.direction.missing),
            layers=sorted(_ends_and_middle(self.direction)),
            draws=_DRAWS,
            together=self.together,
            matrices=self.matrices,
        )


def compare_updates(
    model: Any, scored: ScoredSample, direction: BaseDirection, seed: int, console: Console | None
) -> ComparedUpdates:
    """Compares each sample's update with the base direction, in the first, middle and last layer that has one."""
    layers = _ends_and_middle(direction)
    chosen = {name: matrix for name, matrix in direction.directions.items() if place_of(name).layer in layers}
    gradients = _gradients(model, scored, chosen, console)
    cosines = {name: update_cosines(gradients[name], matrix.values) for name, matrix in chosen.items()}
    control = {
        name: shuffled_cosines(gradients[name], matrix.values, draws=_DRAWS, seed=_seed(seed, number))
        for number, (name, matrix) in enumerate(chosen.items())
    }

    def summary(of: Tensor, shuffled: Tensor) -> Alignment:
        return alignment(of, shuffled, scored.scores.norms, scored.groups, seed=seed)

    mean, mean_control = (torch.stack([*by_name.values()]).mean(0) for by_name in (cosines, control))
    return ComparedUpdates(
        direction=direction,
        cosines=mean,
        together=summary(mean, mean_control),
        matrices=[_matrix(name, matrix, summary(cosines[name], control[name])) for name, matrix in chosen.items()],
    )


def _gradients(
    model: Any, scored: ScoredSample, chosen: Mapping[str, MatrixDirection], console: Console | None
) -> Mapping[str, Tensor]:
    """Takes each sample's gradient at the coordinates of the base direction."""
    rows, coordinates = scored.sample.rows, {name: matrix.coordinates for name, matrix in chosen.items()}
    with progress_bar(console, f"one by one at {len(chosen)} matrices", len(rows)) as advance:
        return coordinate_gradients(
            model, rows, coordinates, max_length=scored.sample.record.max_length, advance=advance
        )


def _matrix(name: str, direction: MatrixDirection, cosines: Alignment) -> ComparedMatrix:
    return ComparedMatrix(
        name=name,
        layer=place_of(name).layer,
        kind=place_of(name).kind,
        coordinates=len(direction.coordinates),
        norm=direction.norm,
        share=direction.share,
        cosines=cosines,
    )


def _ends_and_middle(direction: BaseDirection) -> set[int]:
    layers = sorted({layer for name in direction.directions if (layer := place_of(name).layer) is not None})
    return {layers[0], layers[len(layers) // 2], layers[-1]}


def _untouched(direction: BaseDirection) -> list[int]:
    """Lists the layers in which no matrix differs."""
    moved = {place_of(name).layer for name in direction.directions}
    return sorted({layer for name in direction.identical if (layer := place_of(name).layer) is not None} - moved)


def _seed(seed: int, number: int) -> int:
    """Makes a seed for each matrix: with one for all, matrices of equally many coordinates would share their signs."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
