"""The report of `moored inspect spectrum`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from moored.report.reading.record import ModelRecord, Record, Report


@dataclass(frozen=True, kw_only=True)
class ExampleRecord(Record):
    """One request with its answer."""

    prompt: str
    answer: str
    tokens: int
    """The number of tokens of the whole conversation, which bounds the rank of its gradient."""


@dataclass(frozen=True, kw_only=True)
class Quartiles(Record):
    """The spread of a number over the matrices."""

    low: float
    median: float
    high: float


@dataclass(frozen=True, kw_only=True)
class MatrixGradient(Record):
    """The gradient of one matrix."""

    singular_values: Sequence[float]
    rank: int
    effective_rank: float
    energy: Mapping[str, float]
    """The share of the squared gradient that so many main directions hold, by their number."""
    overlap: float
    """The overlap of its main directions with those of the batch of safety examples, between 0 and 1."""
    cosine: float
    """The cosine with the gradient of complying."""


@dataclass(frozen=True, kw_only=True)
class MatrixRecord(Record):
    """One matrix: the gradient of the safety example, and that of its control."""

    name: str
    layer: int | None
    kind: str
    chance: float
    """The overlap that random spaces would have."""
    example: MatrixGradient
    benign: MatrixGradient


@dataclass(frozen=True, kw_only=True)
class GradientSummary(Record):
    """The numbers of one gradient over all matrices."""

    rank: Quartiles
    effective_rank: Quartiles
    overlap: Quartiles
    cosine: Quartiles
    energy: Mapping[str, Quartiles]


@dataclass(frozen=True, kw_only=True)
class SpectrumSummary(Record):
    """The numbers over all matrices."""

    chance: Quartiles
    example: GradientSummary
    benign: GradientSummary


@dataclass(frozen=True, kw_only=True)
class SpectrumReport(Report):
    """How few directions the gradient of a safety example has, compared with a benign example of equal length."""

    kind: ClassVar[str] = "inspect spectrum"

    model: ModelRecord
    example: ExampleRecord
    benign: ExampleRecord
    """The control: an ordinary instruction, its answer cut to as many tokens."""
    batch: int
    top: int
    summary: SpectrumSummary
    matrices: Sequence[MatrixRecord]

    def rows(self) -> list[dict[str, Any]]:
        """One row for each matrix."""
        return [
            {"name": matrix.name, "layer": matrix.layer, "kind": matrix.kind, "chance": matrix.chance}
            | {f"{which}_{key}": getattr(gradient, key) for which, gradient in _both(matrix) for key in _SHOWN}
            for matrix in self.matrices
        ]


_SHOWN = ("rank", "effective_rank", "overlap", "cosine")


def _both(matrix: MatrixRecord) -> list[tuple[str, MatrixGradient]]:
    return [("example", matrix.example), ("benign", matrix.benign)]
