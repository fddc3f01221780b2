"""TRL's SFTTrainer with safeguards: the class a user's own script names instead."""

from typing import Any

from trl.trainer.sft_trainer import SFTTrainer

from moored.huggingface.training.mixin import SafeguardMixin


class SafeguardedSFTTrainer(SafeguardMixin, SFTTrainer):
    """`trl.SFTTrainer` with one argument more, `safeguards`; without any it trains the same weights bit for bit.

    Takes everything that `SFTTrainer` takes. See `SafeguardMixin` for what the safeguards do, are logged as and raise.
    """

    _tag_names = [*SFTTrainer._tag_names, "moored"]  # noqa: RUF012 - as TRL has it

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The loss; a micro-batch that selection left empty stays out of the means that TRL logs."""
        result = super().compute_loss(model, inputs, *args, **kwargs)
        metrics = self._metrics["train" if model.training else "eval"]
        # TRL enters zeros where no process had a label; an entropy is never exactly zero otherwise.
        if self._selection is not None and model.training and metrics["entropy"][-1] == 0:
            for name in ("entropy", "mean_token_accuracy"):
                metrics[name].pop()
        return result
