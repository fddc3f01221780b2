"""A mixin that says in one sentence which checkpoint cannot be resumed from, wherever the Trainer finds that out."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import get_last_checkpoint

from moored.errors import InputError, UserError
from moored.terminal import visible

if TYPE_CHECKING:
    from transformers import Trainer as _Trainer
else:
    _Trainer = object

_DAMAGE = (ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError)
_DAMAGE += (SafetensorError, UnpicklingError)
"""What reading a damaged file may raise: JSON, pickles, safetensors, and values of the wrong kind or shape."""


@contextmanager
def resuming_from(checkpoint: Path | str) -> Iterator[None]:
    """Raises InputError where the block fails because a checkpoint is damaged or is another model's."""
    try:
        yield
    except (UserError, torch.OutOfMemoryError):
        raise
    except _DAMAGE as error:
        reason = visible(" ".join(str(error).split()).rstrip("."))[:200] or type(error).__name__
        raise InputError(
            f"Cannot resume from {checkpoint}: {reason}; delete that folder to resume from an older checkpoint, or "
            "start again."
        ) from error


class CheckpointLoadingMixin(_Trainer):
    """Turns each failure to read a checkpoint into one sentence."""

    def checkpoint_to_resume(self, asked: str | bool | None) -> Path | None:
        """Returns the checkpoint that `Trainer.train` would resume from, after a look at its record of the run.

        Args:
            asked: the argument of `Trainer.train`; True stands for the newest checkpoint of the run's folder.

        Raises:
            InputError: there is none, or its record is missing or damaged.
        """
        if not asked:
            return None
        folder = get_last_checkpoint(str(self.args.output_dir)) if asked is True else asked
        if folder is None:
            raise InputError(f"{self.args.output_dir} holds no checkpoint to resume from; start the run without.")
        with resuming_from(folder):
            TrainerState.load_from_json(str(Path(folder) / "trainer_state.json"))
        return Path(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *args: Any, **kwargs: Any) -> None:
        with resuming_from(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, *args, **kwargs)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with resuming_from(str(checkpoint)):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_scaler(self, checkpoint: str | None) -> None:
        with resuming_from(str(checkpoint)):
            super()._load_scaler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with resuming_from(str(checkpoint)):
            super()._load_rng_state(checkpoint)
