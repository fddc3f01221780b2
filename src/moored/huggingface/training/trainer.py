"""TRL's SFTTrainer with safeguards: the class a user's own script names instead."""

from trl.trainer.sft_trainer import SFTTrainer

from moored.huggingface.training.mixin import SafeguardMixin


class SafeguardedSFTTrainer(SafeguardMixin, SFTTrainer):
    """`trl.SFTTrainer` with one argument more, `safeguards`; without any it trains the same weights bit for bit.

    Takes everything that `SFTTrainer` takes. See `SafeguardMixin` for what the safeguards do, are logged as and raise.
    """

    _tag_names = [*SFTTrainer._tag_names, "moored"]  # noqa: RUF012 - as TRL has it
