"""A progress bar for training, which replaces the Trainer's own output."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainerControl, TrainerState

from moored.huggingface.distributed.processes import is_main_process


class TrainingProgress(TrainerCallback):
    """Shows steps done, time left and the latest loss on a console."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description:<44}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console)
        self._task = self._bar.add_task("training")

    @classmethod
    def take_over(cls, trainer: Trainer, console: Console) -> None:
        """Replaces the callbacks that print."""
        trainer.remove_callback(ProgressCallback)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(cls(console))

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Starts the bar, at the step from which a resumed run continues."""
        if is_main_process():
            self._bar.start()
            self._bar.update(self._task, total=state.max_steps, completed=state.global_step)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Advances the bar."""
        self._bar.update(self._task, completed=state.global_step)

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Shows the loss next to the bar."""
        if logs and "loss" in logs:
            self._bar.update(self._task, description=f"training, loss {float(logs['loss']):.3f}")

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Leaves the finished bar on the console."""
        self._bar.stop()
