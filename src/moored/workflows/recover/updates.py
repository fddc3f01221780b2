"""The updates that a formula repairs: the models between which they are taken, and what becomes of each."""

from dataclasses import dataclass, replace

from torch import Tensor

from moored.errors import InactiveError
from moored.huggingface.models import ModelSource
from moored.recovery import RepairedUpdate, UpdateRepair
from moored.report.reading.recover import UpdatesRecord, WeightRecord
from moored.tensors.low_rank import Matrix, squared_norm


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """The models between which updates are taken."""

    tuned: ModelSource
    aligned: ModelSource
    base: ModelSource | None
    """The checkpoint before alignment; None if the repair does not use it."""


class UpdateLog:
    """Repairs one update after another, and records what becomes of each."""

    def __init__(self, method: UpdateRepair) -> None:
        self._method = method
        self._weights: list[WeightRecord] = []
        self._before = self._after = 0.0
        self._undone = 0
        """The number of weights whose repair was lost in rounding."""

    def repair(self, name: str, update: Matrix, direction: Matrix | None) -> RepairedUpdate:
        """Repairs the update of one weight; `direction` is that of alignment."""
        repaired = self._method.repair_update(update, direction)
        self._weights.append(WeightRecord(name=name, changed=repaired.changed, cosine=repaired.cosine))
        self._before += float(squared_norm(update))
        self._after += float(squared_norm(repaired.update))
        return repaired

    def correct(self, repaired: RepairedUpdate, written: Tensor, *, undone: bool) -> None:
        """Corrects the record of the last update to what rounding left of it."""
        self._after += float(written.square().sum()) - float(squared_norm(repaired.update))
        if undone:
            self._weights[-1] = replace(self._weights[-1], changed=False)
            self._undone += 1

    def record(self) -> UpdatesRecord:
        """Returns the record of all updates."""
        return UpdatesRecord(
            changed=sum(weight.changed for weight in self._weights),
            of=len(self._weights),
            kept=(self._after / self._before) ** 0.5,
            weights=self._weights,
        )

    def require_change(self, lineage: Lineage) -> None:
        """Raises InactiveError if there was nothing to repair, or no weight was changed."""
        tuned, name = lineage.tuned.describe(), self._method.name
        if not self._before:
            raise InactiveError(
                f"{tuned} has the same weights as {lineage.aligned.describe()}, so there is nothing to repair; name "
                "the model before the fine-tune with --against."
            )
        if any(weight.changed for weight in self._weights):
            return
        if self._undone:
            raise InactiveError(
                f"Rounding to the precision of {tuned} undid the repair of all its weights; store it in fp32, or "
                "repair more."
            )
        cosines = [weight.cosine for weight in self._weights if weight.cosine is not None]
        if not cosines:
            raise InactiveError(
                f"{name} finds no direction: the aligned model equals its base in all weights that the fine-tune "
                "changed; name the checkpoint before alignment with --base."
            )
        raise InactiveError(
            f"{name} would change none of {len(self._weights)} weights, since the smallest cosine with alignment is "
            f"{min(cosines):.2f}; give a larger threshold."
        )
