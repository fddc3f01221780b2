"""One optimizer step of TRL's trainer over a pool of rows: plain, and with the published rule in it."""

import contextlib
import copy
import io
import tempfile
import time
from collections.abc import Callable
from typing import Any

from datasets import Dataset
from torch import nn
from transformers import PreTrainedTokenizerBase, TrainerCallback
from trl.trainer.sft_config import SFTConfig

from moored import GradientSelection
from moored.huggingface import SafeguardedSFTTrainer

_ROWS_AT_ONCE = 8
SAFEGUARDS = {"limit": [], "moored": [GradientSelection(keep=0.2)]}
"""What each variant trains with."""


class _Clock(TrainerCallback):
    """From the first batch that is drawn to the optimizer's step, without what a trainer sets up before."""

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds = time.perf_counter() - self.started


def steps(model: nn.Module, tokenizer: PreTrainedTokenizerBase, pool: Dataset, variant: str) -> Callable[[], float]:
    """Makes a trainer of a copy of the model; each call is one step over the whole pool and returns its seconds.

    TRL's defaults hold, activation checkpointing among them. The learning rate is zero, so that all steps are alike.
    """
    clock, folder = _Clock(), tempfile.mkdtemp()
    settings = {"max_steps": 1, "learning_rate": 0.0, "bf16": False, "report_to": "none", "disable_tqdm": True}
    arguments = SFTConfig(
        folder,
        per_device_train_batch_size=_ROWS_AT_ONCE,
        gradient_accumulation_steps=len(pool) // _ROWS_AT_ONCE,
        save_strategy="no",
        logging_strategy="no",
        **settings,
    )
    trainer = SafeguardedSFTTrainer(
        model=copy.deepcopy(model),
        args=arguments,
        train_dataset=pool,
        processing_class=tokenizer,
        callbacks=[clock],
        safeguards=SAFEGUARDS[variant],
    )

    def step() -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            trainer.train()
        return clock.seconds

    return step
