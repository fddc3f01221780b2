"""One optimizer step of a trainer over a pool of rows, by the clock."""

import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback
from trl.trainer.sft_config import SFTConfig

_ROWS_AT_ONCE = 8


def random_tokens(rows: int, columns: int, prompt: int, vocabulary: int) -> dict[str, Tensor]:
    """A batch of random ids; `prompt` columns are not labelled."""
    ids = torch.randint(vocabulary, (rows, columns), generator=torch.Generator().manual_seed(1))
    labels = ids.clone()
    labels[:, :prompt] = -100
    return {"input_ids": ids, "labels": labels}


def as_dataset(batch: dict[str, Tensor]) -> Dataset:
    """Its rows, as a trainer takes them."""
    return Dataset.from_dict({key: value.tolist() for key, value in batch.items()})


class _Clock(TrainerCallback):
    """From the first batch that is drawn to the optimizer's step, without what a trainer sets up before."""

    def __init__(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._begin, self._end = begin, end

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._begin()
        self.started = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds = time.perf_counter() - self.started
        self._end()


def steps(
    make: Callable[..., Trainer],
    tokenizer: PreTrainedTokenizerBase,
    pool: Dataset,
    *,
    bf16: bool = False,
    begin: Callable[[Any], None] = lambda trainer: None,
    end: Callable[[Any], None] = lambda trainer: None,
) -> tuple[Any, Callable[[], float]]:
    """A trainer, and what takes one step over the whole pool with each call and returns its seconds.

    TRL's defaults hold, activation checkpointing among them. The learning rate is zero, so that all steps are alike.

    Args:
        make: the trainer's class with its model and whatever is its own.
        tokenizer: of the model.
        pool: rows of token ids and labels; eight make a micro-batch.
        bf16: whether the products are taken in bf16.
        begin: called with the trainer before each step, when all is set up; its time does not count.
        end: called with the trainer after each step, while it still holds what it found; nor does that.
    """
    settings = {"max_steps": 1, "learning_rate": 0.0, "use_cpu": True, "bf16": bf16, "disable_tqdm": True}
    arguments = SFTConfig(
        tempfile.mkdtemp(),
        per_device_train_batch_size=_ROWS_AT_ONCE,
        gradient_accumulation_steps=len(pool) // _ROWS_AT_ONCE,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        **settings,
    )
    clock = _Clock(lambda: begin(trainer), lambda: end(trainer))
    trainer = make(args=arguments, train_dataset=pool, processing_class=tokenizer, callbacks=[clock])

    def step() -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            trainer.train()
        return clock.seconds

    return trainer, step
