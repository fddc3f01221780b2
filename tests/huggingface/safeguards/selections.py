"""What the tests of selection inside a trainer share: a selection, and trainers that see the rows in their order."""

from pathlib import Path
from typing import Any

from tests.huggingface.training.fixtures import LORA, trained
from torch import Tensor
from transformers import Trainer, default_data_collator

from moored import GradientSelection
from moored.huggingface.training import SafeguardMixin

POOL = 8
SELECTION = GradientSelection(keep=0.4)  # 3 of 8
IN_ORDER = {"num_train_epochs": 1, "train_sampling_strategy": "sequential"}
WARM_LORA = {**LORA, "init_lora_weights": False}


def trained_in_order(output_dir: Path, **settings: Any) -> tuple[Any, dict[str, Tensor]]:
    """As `trained`, over one epoch of the rows in their order."""
    return trained(output_dir, **{**IN_ORDER, **settings})


class Stock(SafeguardMixin, Trainer):
    """The Trainer of transformers, which reads rows of one length."""

    def __init__(self, counts=True, **kwargs):
        kwargs.pop("peft_config")
        super().__init__(data_collator=default_data_collator, **kwargs)
        self.model_accepts_loss_kwargs = counts

    def _set_signature_columns_if_needed(self):
        self._signature_columns = ["input_ids", "labels"]
