"""The points around a model's weights that are scored: lines along directions, and a plane."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from rich.console import Console
from torch import nn

from moored.huggingface.models.moved_weights import Direction, moved_weights
from moored.report.reading.basin import Point
from moored.workflows.inspect.safety_score import SafetyScore
from moored.workflows.records.progress import progress_bar

_LINE, _PLANE = 9, 4
"""The number of points on each side of the model, each twice as far as the one before; the plane reaches half as far.
Steps along a gradient break a model sooner than random ones do, so the lines begin at 1/256 of the reach."""
Place = frozenset[tuple[str, float]]
"""How far the weights are moved along which directions; empty where they are not moved."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the weights are moved to."""

    alphas: Sequence[float]
    """The grid of the lines."""
    lines: Mapping[str, Sequence[Place]]
    """The places along each direction, by its name."""
    across: Sequence[float]
    """The grid of the plane, on both axes."""
    plane: Sequence[Sequence[Place]]
    """The rows of the plane, from the lowest up; empty where it is not scored."""


@dataclass(frozen=True, kw_only=True)
class PlaceScores:
    """The scores of a model at the places, in the same order."""

    lines: Mapping[str, Sequence[Point]]
    plane: Sequence[Sequence[Point]]


def places_along(names: Sequence[str], reach: float, *, plane: bool) -> Places:
    """Makes the lines along directions and, where there is a direction of alignment, the plane."""
    alphas, across = _grid(reach, _LINE), _grid(reach / 2, _PLANE)
    is_plane = plane and "alignment" in names
    return Places(
        alphas=alphas,
        lines={name: [_place({name: alpha}) for alpha in alphas] for name in names},
        across=across,
        plane=[[_place({"alignment": x, "harmful": y}) for x in across] for y in across] if is_plane else [],
    )


def _grid(reach: float, points: int) -> list[float]:
    """Makes a grid of 0 and, on either side, `points` distances up to the reach."""
    side = [reach / 2**power for power in range(points)]
    return [*(-alpha for alpha in side), 0.0, *reversed(side)]


def _place(offsets: Mapping[str, float]) -> Place:
    return frozenset((name, alpha) for name, alpha in offsets.items() if alpha)


def score_places(
    model: Any,
    weights: Mapping[str, nn.Parameter],
    directions: Mapping[str, Direction],
    places: Places,
    safety: SafetyScore,
    console: Console | None,
) -> PlaceScores:
    """Scores the model once at each place; the weights are restored afterwards."""
    distinct = dict.fromkeys(chain(*places.lines.values(), *places.plane))
    scores: dict[Place, Point] = {}
    with progress_bar(console, "points around the model", len(distinct)) as advance, moved_weights(weights) as move:
        for place in distinct:
            move([(directions[name], alpha) for name, alpha in sorted(place)])
            scores[place] = safety(model)
            advance(1)
    return PlaceScores(
        lines={name: [scores[place] for place in line] for name, line in places.lines.items()},
        plane=[[scores[place] for place in row] for row in places.plane],
    )
