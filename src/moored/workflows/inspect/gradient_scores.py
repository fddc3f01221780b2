"""What the scores of a sample come to: quartiles, correlations, and shares of the squared norm."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from moored.errors import InputError
from moored.huggingface.gradients import Scores
from moored.huggingface.models import Place
from moored.huggingface.models.parameter_location import KINDS
from moored.measurement import mean_interval, spearman
from moored.workflows.inspect.sample import Sample

_RESAMPLES = 2000
OUTSIDE = "outside"
"""The name under which parameters outside the layers are added up."""


def require_finite(scores: Scores, sample: Sample) -> None:
    """Raises InputError for the first row whose loss or gradient is no number."""
    broken = ~(scores.losses.isfinite() & scores.norms.isfinite())
    if broken.any():
        row = sample.numbers[int(broken.nonzero()[0])]
        raise InputError(
            f"{sample.described['source']}, row {row}: the loss or its gradient is no number; check the row and the "
            "model's weights."
        )


def quartiles(scores: Scores) -> dict[str, dict[str, float]]:
    """Least, quartiles and greatest of norm, loss and length."""
    names, at = ("min", "q1", "median", "q3", "max"), torch.tensor([0, 0.25, 0.5, 0.75, 1], dtype=torch.float64)
    columns = {"norm": scores.norms, "loss": scores.losses, "length": scores.lengths}
    return {
        key: dict(zip(names, values.double().quantile(at).tolist(), strict=True)) for key, values in columns.items()
    }


def correlations(scores: Scores) -> dict[str, dict[str, Any]]:
    """Spearman's rho of the norm with what may explain it."""
    others = {"length": scores.lengths, "loss": scores.losses}
    return {name: spearman(scores.norms.tolist(), each.tolist()).as_dict() for name, each in others.items()}


def shares(scores: Scores, places: Mapping[str, Place], seed: int) -> dict[str, list[dict[str, Any]]]:
    """Each layer's, kind's and factor's share of the squared norm: the mean over the samples that have a gradient."""
    assert scores.squares is not None
    there = scores.norms > 0
    parts = {name: (squares / scores.norms.square())[there].double() for name, squares in scores.squares.items()}

    def by(key: Callable[[Place], str | None], order: Callable[[str], Any]) -> list[dict[str, Any]]:
        sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros(int(there.sum()), dtype=torch.float64))
        for name, part in parts.items():
            if (group := key(places[name])) is not None:
                sums[group] += part
        return [
            {"name": name, **mean_interval(sums[name].tolist(), seed=seed, resamples=_RESAMPLES).as_dict()}
            for name in sorted(sums, key=order)
        ]

    return {
        "layer": by(lambda place: OUTSIDE if place.layer is None else str(place.layer), _layer_order),
        "kind": by(lambda place: place.kind, _kind_order),
        "factor": by(lambda place: place.factor, str),
    }


def _layer_order(name: str) -> int:
    return -1 if name == OUTSIDE else int(name)


def _kind_order(name: str) -> tuple[int, str]:
    return (KINDS.index(name) if name in KINDS else len(KINDS), name)


def sample_lines(
    sample: Sample, scores: Scores, groups: Mapping[str, Sequence[int]], cosines: Tensor | None
) -> Iterator[dict[str, Any]]:
    """The lines of `samples.jsonl`."""
    members = {name: set(rows) for name, rows in groups.items() if name != "all"}
    for index, number in enumerate(sample.numbers):
        yield {
            "row": number,
            "loss": float(scores.losses[index]),
            "norm": float(scores.norms[index]),
            "length": int(scores.lengths[index]),
            "groups": [name for name, rows in members.items() if index in rows],
            "cosine": None if cosines is None or not cosines[index].isfinite() else float(cosines[index]),
        }
