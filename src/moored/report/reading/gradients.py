"""The report of `moored inspect gradients`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from moored.files import write_jsonl
from moored.measurement import Alignment, Correlation, Mean
from moored.report.reading.record import ModelRecord, Record, Report, read_lines, read_record

SAMPLES = "samples.jsonl"


@dataclass(frozen=True, kw_only=True)
class ParametersRecord(Record):
    """The parameters that gradients are taken with respect to."""

    which: Literal["all", "lora"]
    new_lora: bool
    """Whether they are the factors of a new LoRA, rather than of an adapter that was named."""
    tensors: int
    numbers: int


@dataclass(frozen=True, kw_only=True)
class DataRecord(Record):
    """The data set, and the sample that was drawn from it."""

    source: str
    rows: int
    sampled: int
    without_answer: int
    """The number of rows that were drawn but left out, because no token of theirs is supervised."""
    cut: int
    """The number of rows that were cut to `max_length` tokens."""
    max_length: int
    tokens_sha256: str


@dataclass(frozen=True, kw_only=True)
class FiveNumbers(Record):
    """The spread of a number over the samples."""

    min: float
    q1: float
    median: float
    q3: float
    max: float


@dataclass(frozen=True, kw_only=True)
class ScoresRecord(Record):
    """The spread of each score."""

    norm: FiveNumbers
    loss: FiveNumbers
    length: FiveNumbers


@dataclass(frozen=True, kw_only=True)
class CorrelationsRecord(Record):
    """Spearman's correlation of the gradient norm with what may explain it."""

    length: Correlation
    loss: Correlation


@dataclass(frozen=True, kw_only=True)
class ShareRecord(Record):
    """The share of the squared gradient norm that one group of parameters holds: the mean over the samples."""

    name: str
    share: Mean


@dataclass(frozen=True, kw_only=True)
class SharesRecord(Record):
    """The shares by layer, by kind of weight, and by LoRA factor."""

    layer: Sequence[ShareRecord]
    kind: Sequence[ShareRecord]
    factor: Sequence[ShareRecord]


@dataclass(frozen=True, kw_only=True)
class IdenticalRecord(Record):
    """What alignment left unchanged."""

    matrices: int
    layers: Sequence[int]
    """The layers in which no matrix differs."""


@dataclass(frozen=True, kw_only=True)
class ComparedMatrix(Record):
    """One matrix at which updates are compared with the base direction."""

    name: str
    layer: int | None
    kind: str
    coordinates: int
    """The number of coordinates that are compared."""
    norm: float
    """The norm of the base direction at this matrix."""
    share: float
    """The share of its square that the coordinates hold."""
    cosines: Alignment


@dataclass(frozen=True, kw_only=True)
class BaseDirectionRecord(Record):
    """How far the updates of the samples point towards the base."""

    base: str
    top: int
    """The number of coordinates asked for of each matrix."""
    identical: IdenticalRecord
    missing: Sequence[str]
    """The matrices that the base's files do not hold under the model's names."""
    layers: Sequence[int]
    """The layers that are compared: the first, the middle and the last that differ."""
    draws: int
    """The number of control directions for each matrix."""
    together: Alignment
    """The mean over the matrices."""
    matrices: Sequence[ComparedMatrix]


@dataclass(frozen=True, kw_only=True)
class SampleRecord(Record):
    """One sample; a line of `samples.jsonl`."""

    row: int
    """The row of the data set, counted from 1."""
    loss: float
    norm: float
    length: int
    """The number of supervised tokens."""
    groups: Sequence[str]
    """The selection rules that keep it."""
    cosine: float | None
    """The cosine of its update with the base direction: the mean over the matrices."""


@dataclass(frozen=True, kw_only=True)
class GradientsReport(Report):
    """What determines a sample's gradient norm, and whether large gradients point towards the base."""

    kind: ClassVar[str] = "inspect gradients"
    beside: ClassVar[Sequence[str]] = ("samples",)

    seed: int
    model: ModelRecord
    parameters: ParametersRecord
    data: DataRecord
    keep: float
    """The share of the samples in each of the groups high, moderate and low."""
    scores: ScoresRecord
    correlations: CorrelationsRecord
    shares: SharesRecord
    base_direction: BaseDirectionRecord | None = None
    not_compared: str | None = None
    """The reason why the updates were not compared with the base direction."""
    samples: Sequence[SampleRecord] = ()

    def rows(self) -> list[dict[str, Any]]:
        """One row for each sample."""
        return [asdict(sample) for sample in self.samples]

    def write_beside(self, folder: Path) -> None:
        """Writes `samples.jsonl`."""
        write_jsonl(folder / SAMPLES, self.rows())


def read_gradients(folder: Path | str) -> GradientsReport:
    """Reads `report.json` and `samples.jsonl` of a folder.

    Raises:
        InputError: a file is missing or broken, or the report is another command's.
    """
    report = read_record(GradientsReport, folder)
    return replace(report, samples=read_lines(SampleRecord, Path(folder) / SAMPLES))
