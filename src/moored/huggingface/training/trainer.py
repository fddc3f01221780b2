"""TRL's SFTTrainer with safeguards: the class a user's own script names instead."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trl.trainer.sft_trainer import SFTTrainer

from moored.huggingface.data import IGNORED
from moored.huggingface.training.mixin import SafeguardMixin


class SafeguardedSFTTrainer(SafeguardMixin, SFTTrainer):
    """`trl.SFTTrainer` with one argument more, `safeguards`; without any it trains the same weights bit for bit.

    Takes everything that `SFTTrainer` takes. See `SafeguardMixin` for what the safeguards do, are logged as and raise.
    """

    _tag_names = [*SFTTrainer._tag_names, "moored"]  # noqa: RUF012 - as TRL has it

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The loss; a micro-batch that selection left empty stays out of routers' losses and of the means logged."""
        if self._selection is None or not model.training:
            return super().compute_loss(model, inputs, *args, **kwargs)
        with self._router_loss_of(inputs, self._selection.filled):
            result = super().compute_loss(model, inputs, *args, **kwargs)
        metrics = self._metrics["train"]
        # TRL enters zeros where no process had a label; an entropy is never exactly zero otherwise.
        if metrics["entropy"][-1] == 0:
            for name in {"entropy", "mean_token_accuracy", "aux_loss"} & metrics.keys():
                metrics[name].pop()
        return result

    @contextmanager
    def _router_loss_of(self, inputs: Any, filled: float) -> Iterator[None]:
        """TRL averages a router's balance loss over all micro-batches; its mean is to be over those with kept rows."""
        if not self.aux_loss_enabled:
            yield
            return
        stated = self.router_aux_loss_coef
        self.router_aux_loss_coef = stated / filled if (inputs["labels"] != IGNORED).any() else 0.0
        try:
            yield
        finally:
            self.router_aux_loss_coef = stated
