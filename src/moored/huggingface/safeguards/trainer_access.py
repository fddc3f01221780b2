"""What safeguards read of the trainer that they run in."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from tqdm.auto import tqdm
from transformers import Trainer

from moored.errors import InputError


def tokenizer_of(trainer: Trainer) -> Any:
    """The run's tokenizer, or None; a processor of several kinds of input has one inside."""
    return getattr(trainer.processing_class, "tokenizer", trainer.processing_class)


def gradient_scale(trainer: Trainer) -> float:
    """The factor that gradients carry at this moment, which keeps those of fp16 from underflow."""
    return 1.0 if trainer.accelerator.scaler is None else trainer.accelerator.scaler.get_scale()


def first_batch(trainer: Trainer) -> Any:
    """Collates the first row of the training set as the trainer does; None for a stream, which can be read only once.

    The trainer's loader is left alone: to begin with it may take long, and draws random numbers.
    """
    rows: Any = trainer.train_dataset
    if not hasattr(rows, "__len__") or not hasattr(rows, "__getitem__") or not len(rows):
        return None
    collate = trainer._get_collator_with_removed_columns(trainer.data_collator, description="training")
    with torch.random.fork_rng(devices=[]):
        return collate([rows[0]])


def require_fixed_model(name: str, trainer: Trainer) -> None:
    """Raises InputError where a penalty would guard a model that is replaced before it is trained."""
    if trainer.model_init is not None:
        raise InputError(
            f"{name} would guard a model that is not trained, since train() makes a new one with model_init; pass "
            "model instead."
        )


class TrainingRows(NamedTuple):
    """The training set in batches, this process's part of it."""

    batches: Iterable[Any]
    advance: Callable[[int], Any]
    """Moves the progress bar on by some rows."""


@contextmanager
def each_row_once(trainer: Trainer) -> Iterator[TrainingRows]:
    """Goes through the training set once, in the precision in which the run computes.

    Raises:
        InputError: the training set is a stream.
    """
    rows: Any = trainer.train_dataset
    if not hasattr(rows, "__len__"):
        raise InputError("Reference logits of a stream cannot be cached; set reference: model.")
    bar = tqdm(total=len(rows), desc="reference logits", disable=trainer.args.disable_tqdm)
    # An evaluation loader gives each row once. Its workers must not persist, or later evaluations would get these
    # rows; and it must not drop the last rows, since training shuffles and may use them.
    plain = _arguments(trainer, dataloader_persistent_workers=False, dataloader_drop_last=False)
    # A loader draws a random number for its workers, which the run's random state must not show.
    with plain, torch.random.fork_rng(devices=[]), bar, trainer.accelerator.autocast():
        yield TrainingRows(map(trainer._prepare_inputs, trainer.get_eval_dataloader(rows)), bar.update)


@contextmanager
def _arguments(trainer: Trainer, **values: Any) -> Iterator[None]:
    """Sets some of the trainer's arguments for a while."""
    before = {name: getattr(trainer.args, name) for name in values}
    try:
        for name, value in values.items():
            setattr(trainer.args, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(trainer.args, name, value)
