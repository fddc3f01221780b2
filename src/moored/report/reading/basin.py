"""The report of `moored inspect basin`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from moored.report.reading.record import ModelRecord, Record, Report

Score = Literal["log_odds", "refusal", "asr", "refused", "incoherent"]
Point = Mapping[Score, float]
"""The scores of the model at one point: `log_odds` and `refusal` (the mean probability of one) and, where answers were
judged, the shares of answers that comply (`asr`), refuse (`refused`) and say nothing (`incoherent`)."""


@dataclass(frozen=True, kw_only=True)
class LengthRecord(Record):
    """How far the model stays safe on either side; None beyond the grid."""

    backwards: float | None
    forwards: float | None


@dataclass(frozen=True, kw_only=True)
class DirectionRecord(Record):
    """One direction along which the weights are moved."""

    name: str
    """`alignment` (aligned − base), `shuffled` (its control: the same with the rows of each weight shuffled), `harmful`
    (the training step of compliant answers), `ordinary` (its control: the step of ordinary answers), or `random` and a
    number."""
    points: Sequence[Point]
    """The scores at each point of the grid."""
    length: LengthRecord
    """How far refusals stay likely."""
    length_by_answers: LengthRecord | None = None
    """How far enough of the judged answers refuse."""

    @property
    def is_random(self) -> bool:
        """Whether it is one of the random directions."""
        return self.name.startswith("random")


@dataclass(frozen=True, kw_only=True)
class PlaneRecord(Record):
    """The plane of two directions, `alignment` across and `harmful` up."""

    alphas: Sequence[float]
    """The grid of both axes."""
    points: Sequence[Sequence[Point]]


@dataclass(frozen=True, kw_only=True)
class BasinReport(Report):
    """How safe a model stays when its weights are moved along several directions."""

    kind: ClassVar[str] = "inspect basin"

    seed: int
    model: ModelRecord
    against: str
    """The aligned model."""
    base: str | None
    prompts: int
    """The number of harmful requests."""
    aligned_refusal: float
    """The probability with which the aligned model refuses them."""
    kept: float
    """The share of it that still counts as safe."""
    floor: float
    """The probability below which nothing counts as safe."""
    least: float
    """The probability of a refusal that still counts as safe."""
    aligned_refused: float | None = None
    """The share of the aligned model's answers that refuse, where answers were judged."""
    least_refused: float | None = None
    """The share of answers that refuse that still counts as safe."""
    alphas: Sequence[float]
    """The grid: at α the weights are moved by α times the norm of the matrices inside the layers."""
    directions: Sequence[DirectionRecord]
    visage: Mapping[Literal["refusal", "asr"], float]
    """VISAGE over the random directions in percent, by 1 − `refusal` and, where answers were judged, by `asr`."""
    plane: PlaneRecord | None = None

    @property
    def random_directions(self) -> list[DirectionRecord]:
        """The random ones of the directions."""
        return [direction for direction in self.directions if direction.is_random]

    def rows(self) -> list[dict[str, Any]]:
        """One row for each direction: how far the model stays safe on either side."""
        return [
            {
                "direction": direction.name,
                "backwards": direction.length.backwards,
                "forwards": direction.length.forwards,
            }
            for direction in self.directions
        ]
