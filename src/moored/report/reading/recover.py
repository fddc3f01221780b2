"""The record of `moored recover`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from moored.files import write_json
from moored.report.reading.record import ModelRecord, Record, Report

RANKING = "moored_example_choice.json"


@dataclass(frozen=True, kw_only=True)
class WatchRecord(Record):
    """The mean probability of a refusal at one step."""

    harmful: float
    """The probability for harmful requests."""
    harmless: float
    """The probability for their harmless twins."""


@dataclass(frozen=True, kw_only=True)
class StepsRecord(Record):
    """The course of a repair by an example."""

    taken: int
    kept: int
    """The step whose weights were kept."""
    learning_rate: float | None
    """The rate of the steps; None if the example was learned before the first one."""
    loss: Sequence[float]
    """The loss of the example before the first step and after each one."""
    loss_as_written: float
    """The loss in the precision of the files."""
    moved: float
    """The distance between the weights before and after, relative to their norm."""
    watched: Sequence[WatchRecord] = ()
    """The probabilities at the weights of each loss; empty unless the method watches them."""


@dataclass(frozen=True, kw_only=True)
class WeightRecord(Record):
    """What a formula did to the update of one weight."""

    name: str
    changed: bool
    cosine: float | None
    """The cosine that decided, if one did."""


@dataclass(frozen=True, kw_only=True)
class UpdatesRecord(Record):
    """What a formula did to all updates."""

    changed: int
    """The number of weights whose update was changed."""
    of: int
    """The number of weights that were examined."""
    kept: float
    """The share of the updates' norm that is left."""
    weights: Sequence[WeightRecord]


@dataclass(frozen=True, kw_only=True)
class ChoiceRecord(Record):
    """Where the example was chosen from."""

    examples: str
    by: Literal["halving", "bilevel"]
    task: str


@dataclass(frozen=True, kw_only=True)
class CandidateRecord(Record):
    """An example that could have been chosen."""

    prompt: str
    refusal: str
    category: str | None = None


@dataclass(frozen=True, kw_only=True)
class HalvingRecord(CandidateRecord):
    """A candidate after the last round of trial repairs that it entered."""

    round: int
    steps: int
    """The number of steps of its trial repair."""
    prompts: int
    """The number of prompts of each kind that it was judged on."""
    score: float | None
    """What the repair leaves to be wished, lower is better; None if the candidate gives no gradient."""


@dataclass(frozen=True, kw_only=True)
class BilevelRecord(CandidateRecord):
    """A candidate with its weight in the bi-level problem."""

    weight: float


@dataclass(frozen=True, kw_only=True)
class RecoverReport(Report):
    """How a model was repaired; a method that is set to change nothing leaves neither steps nor updates."""

    kind: ClassVar[str] = "recover"
    file: ClassVar[str] = "moored_recovery.json"
    beside: ClassVar[Sequence[str]] = ("ranking",)

    model: ModelRecord
    """The model before the repair."""
    output: Literal["adapter", "checkpoint"]
    method: Mapping[str, Any]
    """The method's `name` and its settings."""
    against: str | None = None
    """The aligned model, if the repair used it."""
    base: str | None = None
    """The checkpoint before alignment, if the repair used it."""
    choice: ChoiceRecord | None = None
    steps: StepsRecord | None = None
    updates: UpdatesRecord | None = None
    files: Sequence[str] = ()
    """The names of what was written beside the record, by which an earlier repair is known."""
    ranking: Sequence[HalvingRecord | BilevelRecord] = ()
    """The candidates of the choice, the best first; empty in a report that was read from a folder."""

    def rows(self) -> list[dict[str, Any]]:
        """One row for each step, or for each weight that a formula examined."""
        if self.updates is not None:
            return [vars(weight) for weight in self.updates.weights]
        if self.steps is None:
            return []
        rows: list[dict[str, Any]] = [{"step": number, "loss": loss} for number, loss in enumerate(self.steps.loss)]
        for row, watched in zip(rows, self.steps.watched, strict=False):
            row |= vars(watched)
        return rows

    def write_beside(self, folder: Path) -> None:
        """Writes the ranking of the candidates, if an example was chosen."""
        if self.ranking:
            write_json(folder / RANKING, [asdict(candidate) for candidate in self.ranking])
