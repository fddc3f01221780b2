"""The record of `moored train`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from moored.report.reading.record import Record, Report


@dataclass(frozen=True, kw_only=True)
class StartRecord(Record):
    """The model that a run starts from."""

    name: str
    adapter: str | None
    weights_sha256: str


@dataclass(frozen=True, kw_only=True)
class ReferenceRecord(Record):
    """The aligned model that drift is measured against."""

    name: str
    adapter: str | None
    is_start: bool
    """Whether it is the model that the run starts from."""


@dataclass(frozen=True, kw_only=True)
class DataRecord(Record):
    """The rows that a run learns from."""

    dataset: str
    rows: int
    tokens_sha256: str
    """The hash of all token ids and labels: equal hashes mean that the same was learned."""
    date: str | None = None
    """The date that the chat template was given for today's; None where it does not ask for one."""
    eval_dataset: str | None = None
    eval_rows: int | None = None


@dataclass(frozen=True, kw_only=True)
class DriftRecord(Record):
    """How far the model drifted from the reference, each measure by its name."""

    start: Mapping[str, float]
    end: Mapping[str, float]
    stopped_at: int | None = None
    """The step at which the drift stopped the training; None if it did not."""


@dataclass(frozen=True, kw_only=True)
class TrainReport(Report):
    """What a run was given and, once it is finished, what came of it."""

    kind: ClassVar[str] = "train"
    file: ClassVar[str] = "moored_run.json"

    config: Mapping[str, Any]
    """The training file with its overrides."""
    model: StartRecord
    reference: ReferenceRecord
    output: Literal["adapter", "checkpoint"]
    data: DataRecord
    safeguards: Sequence[Mapping[str, Any]]
    """Each safeguard's `name`, whether it is `on` and, once finished, what it did."""
    finished: bool = False
    error: str | None = None
    """Why the run failed, where it did after its first step."""
    resumed_from: str | None = None
    steps: int | None = None
    train_loss: float | None = None
    drift: DriftRecord | None = None

    def rows(self) -> list[dict[str, Any]]:
        """One row for each safeguard, with what it did in numbers and words."""
        plain = (bool, int, float, str)
        keys = dict.fromkeys(key for row in self.safeguards for key, value in row.items() if isinstance(value, plain))
        return [{key: row.get(key) for key in keys} for row in self.safeguards]
