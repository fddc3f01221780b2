"""A mixin that makes a Trainer's checkpoints complete or recognizably incomplete, and tied to the run's safeguards."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers.trainer_utils import rotate_checkpoints

from moored.huggingface.distributed.processes import wait_for_everyone
from moored.huggingface.safeguards.interface import Safeguard
from moored.huggingface.training.checkpoints import mark_complete, write_safeguards

if TYPE_CHECKING:
    from transformers import Trainer as _Trainer
else:
    _Trainer = object


class CheckpointSavingMixin(_Trainer):
    """Marks each checkpoint once all its files are written, and records the run's safeguards in it."""

    safeguards: tuple[Safeguard, ...] = ()

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        # Older checkpoints are deleted only once the new one is marked: after a crash in between there would be none.
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        # Every process writes its own random state; the marker lists them all.
        wait_for_everyone()
        if not self.args.should_save:
            return
        output_dir = self._get_output_dir(trial)
        folder = Path(output_dir) / f"checkpoint-{self.state.global_step}"
        write_safeguards(folder, self.safeguards)
        if not self.args.save_only_model:
            mark_complete(folder)
        best = self.state.best_model_checkpoint
        rotate_checkpoints(output_dir, save_total_limit=limit, best_model_checkpoint=best, use_mtime=True)
