"""The report of `moored select`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from moored.report.reading.record import ModelRecord, Record, Report


@dataclass(frozen=True, kw_only=True)
class RowsRecord(Record):
    """The data set that was scored."""

    name: str
    sha256: str
    columns: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class FilesRecord(Record):
    """The names of what was written; rows count from 0 in `kept_indices`."""

    scored: str
    kept: str
    kept_indices: str


@dataclass(frozen=True, kw_only=True)
class Counts(Record):
    """Numbers of rows."""

    all: int
    scored: int
    without_supervised_token: int
    cut_at_max_length: int
    kept: int


@dataclass(frozen=True, kw_only=True)
class Quantiles(Record):
    """The distribution of one quantity."""

    min: float
    q05: float
    q25: float
    median: float
    q75: float
    q95: float
    max: float


@dataclass(frozen=True, kw_only=True)
class BothQuantiles(Record):
    """The distribution over all scored rows, and over the kept ones."""

    all: Quantiles
    kept: Quantiles


@dataclass(frozen=True, kw_only=True)
class CorrelationRecord(Record):
    """Spearman's rank correlation; None where one of the two does not vary."""

    rho: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, kw_only=True)
class SuperiorityRecord(Record):
    """How probably a kept row's answer is longer than one left out; `n` counts both kinds."""

    probability: float | None
    low: float | None
    high: float | None
    n: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class LengthConfound(Record):
    """How far a choice by gradient norm is a choice by length."""

    norm_and_tokens: CorrelationRecord
    norm_and_loss: CorrelationRecord
    kept_longer_than_left_out: SuperiorityRecord


@dataclass(frozen=True, kw_only=True)
class OverlapRecord(Record):
    """What another rule keeps of the kept rows at the same share, and what chance would keep."""

    kept: int
    share: float
    chance: float
    chance_low: float
    chance_high: float


@dataclass(frozen=True, kw_only=True)
class Histogram(Record):
    """Counts of rows by gradient norm, between `edges`."""

    edges: Sequence[float]
    all: Sequence[int]
    kept: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class RowExample(Record):
    """One row, its texts cut short; `prompt_left` and `answer_left` count the characters left off."""

    index: int
    loss: float
    norm: float
    tokens: int
    kept: bool
    prompt: str
    prompt_left: int
    answer: str
    answer_left: int


@dataclass(frozen=True, kw_only=True)
class SelectionNumbers(Record):
    """What the scores and the choice come to."""

    rows: Counts
    quantiles: Mapping[str, BothQuantiles]
    """The distributions of `norm`, `loss` and `tokens` (supervised ones)."""
    length_confound: LengthConfound
    overlap: Mapping[str, OverlapRecord]
    histogram: Histogram
    points: Sequence[tuple[int, float, bool]]
    """Some rows for the scatter plot: supervised tokens, gradient norm, and whether it was kept."""


@dataclass(frozen=True, kw_only=True)
class SelectReport(Report):
    """The rows that a rule kept, and what the choice depends on."""

    kind: ClassVar[str] = "select"

    method: str
    model: ModelRecord
    data: RowsRecord
    rendering: Mapping[str, str]
    settings: Mapping[str, Any]
    finished: bool = False
    """Whether all rows were scored; what follows is there only then."""
    files: FilesRecord | None = None
    numbers: SelectionNumbers | None = None
    examples: Mapping[str, Sequence[RowExample]] = field(default_factory=dict)

    @property
    def found(self) -> SelectionNumbers:
        """The numbers of a finished selection."""
        assert self.numbers is not None
        return self.numbers

    def rows(self) -> list[dict[str, Any]]:
        """The distributions, one row for each quantity and group of rows."""
        return [
            {"quantity": name, "rows": which, **vars(getattr(both, which))}
            for name, both in self.found.quantiles.items()
            for which in ("all", "kept")
        ]
