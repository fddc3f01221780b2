"""TRL's SFTTrainer with safeguards: the class that a user's own script names instead.

What the safeguards do is in `mixin.py`. Here are only two quantities that TRL averages over micro-batches and that
would be wrong where a row selection left a micro-batch empty: a router's balance loss, and the metrics in the log.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from trl.trainer.sft_trainer import SFTTrainer

from moored.huggingface.data import IGNORED
from moored.huggingface.distributed.sums import mean_number
from moored.huggingface.training.mixin import SafeguardMixin


class SafeguardedSFTTrainer(SafeguardMixin, SFTTrainer):
    """`trl.SFTTrainer` with one more argument, `safeguards`; without any it trains the same weights bit for bit.

    It takes everything that `SFTTrainer` takes. `SafeguardMixin` says what the safeguards do, log and raise.
    """

    _tag_names = [*SFTTrainer._tag_names, "moored"]  # noqa: RUF012 - as TRL has it
    _filled = 1.0
    """The fraction of the step's micro-batches, over all processes, that have something to learn."""

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """Returns what the mixin does, and notes how many of the micro-batches a selection left empty."""
        batches, items = super().get_batch_samples(*args, **kwargs)
        if self._rows_chosen and batches:
            self._filled = mean_number(filled_fraction(batches))
        return batches, items

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns the loss; an empty micro-batch stays out of routers' losses and of the logged means."""
        if not (self._rows_chosen and model.training):
            return super().compute_loss(model, inputs, *args, **kwargs)
        with self._router_loss_of(inputs):
            result = super().compute_loss(model, inputs, *args, **kwargs)
        metrics = self._metrics["train"]
        # TRL enters zeros where no process had a label; otherwise an entropy is never exactly zero.
        if metrics["entropy"][-1] == 0:
            for name in {"entropy", "mean_token_accuracy", "aux_loss"} & metrics.keys():
                metrics[name].pop()
        return result

    @contextmanager
    def _router_loss_of(self, inputs: Any) -> Iterator[None]:
        """Scales a router's balance loss: TRL's mean over all micro-batches becomes one over the filled ones."""
        if not self.aux_loss_enabled:
            yield
            return
        coefficient = self.router_aux_loss_coef
        self.router_aux_loss_coef = coefficient / self._filled if _has_labels(inputs) else 0.0
        try:
            yield
        finally:
            self.router_aux_loss_coef = coefficient


def filled_fraction(batches: Sequence[Mapping[str, Any]]) -> float:
    """The fraction of some micro-batches that have something to learn."""
    return sum(map(_has_labels, batches)) / len(batches)


def _has_labels(batch: Mapping[str, Any]) -> bool:
    return bool((batch["labels"] != IGNORED).any())
