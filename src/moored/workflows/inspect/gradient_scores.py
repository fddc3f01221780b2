"""What the scores of a sample come to: their spread, correlations, and shares of the squared norm."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from moored.errors import InputError
from moored.huggingface.gradients import Scores
from moored.huggingface.models import Place
from moored.huggingface.models.parameter_location import KINDS
from moored.measurement import mean_interval, spearman
from moored.report.reading.gradients import (
    CorrelationsRecord,
    FiveNumbers,
    SampleRecord,
    ScoresRecord,
    ShareRecord,
    SharesRecord,
)
from moored.workflows.inspect.data_sample import Sample

_RESAMPLES = 2000
OUTSIDE = "outside"
"""The name under which parameters outside the layers are added up."""


@dataclass(frozen=True, kw_only=True)
class ScoredSample:
    """A sample with its scores."""

    sample: Sample
    scores: Scores
    groups: Mapping[str, Sequence[int]]
    """The samples that each rule keeps, by its name, and `all`."""


def require_finite(scores: Scores, sample: Sample) -> None:
    """Raises InputError for the first row whose loss or gradient is not finite."""
    broken = ~(scores.losses.isfinite() & scores.norms.isfinite())
    if broken.any():
        row = sample.numbers[int(broken.nonzero()[0])]
        raise InputError(
            f"{sample.record.source}, row {row}: the loss or its gradient is not finite; check the row and the "
            "model's weights."
        )


def spreads(scores: Scores) -> ScoresRecord:
    """Computes the minimum, quartiles and maximum of norm, loss and length."""
    return ScoresRecord(norm=_spread(scores.norms), loss=_spread(scores.losses), length=_spread(scores.lengths))


def _spread(values: Tensor) -> FiveNumbers:
    at = torch.tensor([0, 0.25, 0.5, 0.75, 1], dtype=torch.float64)
    low, q1, median, q3, high = values.double().quantile(at).tolist()
    return FiveNumbers(min=low, q1=q1, median=median, q3=q3, max=high)


def correlations(scores: Scores) -> CorrelationsRecord:
    """Computes Spearman's correlation of the norm with what may explain it."""
    norms = scores.norms.tolist()
    return CorrelationsRecord(
        length=spearman(norms, scores.lengths.tolist()), loss=spearman(norms, scores.losses.tolist())
    )


def shares(scores: Scores, places: Mapping[str, Place], seed: int) -> SharesRecord:
    """Computes each layer's, kind's and factor's share of the squared norm, over the samples that have a gradient."""
    assert scores.squares is not None
    nonzero = scores.norms > 0
    parts = {name: (squares / scores.norms.square())[nonzero].double() for name, squares in scores.squares.items()}

    def by(key: Callable[[Place], str | None], order: Callable[[str], Any]) -> list[ShareRecord]:
        sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros(int(nonzero.sum()), dtype=torch.float64))
        for name, part in parts.items():
            if (group := key(places[name])) is not None:
                sums[group] += part
        return [
            ShareRecord(name=name, share=mean_interval(sums[name].tolist(), seed=seed, resamples=_RESAMPLES))
            for name in sorted(sums, key=order)
        ]

    return SharesRecord(
        layer=by(lambda place: OUTSIDE if place.layer is None else str(place.layer), _layer_order),
        kind=by(lambda place: place.kind, _kind_order),
        factor=by(lambda place: place.factor, str),
    )


def _layer_order(name: str) -> int:
    return -1 if name == OUTSIDE else int(name)


def _kind_order(name: str) -> tuple[int, str]:
    return (KINDS.index(name) if name in KINDS else len(KINDS), name)


def sample_records(scored: ScoredSample, cosines: Tensor | None) -> list[SampleRecord]:
    """Lists the samples with their scores, the groups they are in and their cosines."""
    members = {name: set(rows) for name, rows in scored.groups.items() if name != "all"}
    scores = scored.scores
    return [
        SampleRecord(
            row=number,
            loss=float(scores.losses[index]),
            norm=float(scores.norms[index]),
            length=int(scores.lengths[index]),
            groups=[name for name, rows in members.items() if index in rows],
            cosine=None if cosines is None or not cosines[index].isfinite() else float(cosines[index]),
        )
        for index, number in enumerate(scored.sample.numbers)
    ]
