"""An adapter folded into a model's weights: one that is trained on top is not the whole update of the checkpoint.

The model remembers the folder, so that what is trained on top comes out as one adapter for the checkpoint.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel
from torch import nn

from moored.errors import ModelError
from moored.files.leftovers import MARK
from moored.huggingface.models.adapter_config import read_adapter_config
from moored.huggingface.models.adapter_updates import stack_adapters
from moored.huggingface.models.source import ModelSource

_STACKABLE = {"use_dora": False, "bias": "none", "modules_to_save": None, "trainable_token_indices": None}


def remember_folded(model: Any, source: ModelSource) -> None:
    """Notes in a model of a source's folded weights where they come from; an adapter on top names that as its base."""
    model.moored_folded = source.adapter
    # An attribute alone, which PEFT reads: the configuration's stays the checkpoint, where the tokenizer is.
    model.name_or_path = source.describe()


def folded_adapter(model: nn.Module) -> Path | None:
    """The adapter that lies folded in a model, if a new one lies on top."""
    return getattr(model.get_base_model(), "moored_folded", None) if isinstance(model, PeftModel) else None


def refuse_partial(adapter: Path) -> None:
    """Raises ModelError for an adapter that was trained on top of another one and lacks that one's part."""
    base = str(read_adapter_config(adapter).get("base_model_name_or_path") or "")
    # A path of another machine is no folder here; what `describe` made of two names is known by its form.
    if (Path(base) / "adapter_config.json").is_file() or (" + " in base and not Path(base).exists()):
        raise ModelError(
            f"The adapter {adapter} names {base} as its base, which is an adapter too, and lacks its part; save it by "
            "SafeguardedSFTTrainer.save_model, which makes it one for the checkpoint."
        )


def unstackable(config: LoraConfig) -> str | None:
    """The setting of a new adapter that keeps it from becoming one with another, if there is one."""
    return next((name for name, needed in _STACKABLE.items() if getattr(config, name) != needed), None)


def make_whole(folder: Path, below: Path) -> None:
    """Turns the adapter in a folder, trained on top of another, into one for the checkpoint that holds both.

    Raises:
        ModelError: one of them is no plain LoRA.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".stacked.{MARK}") as scratch:
        stack_adapters(below, folder, Path(scratch) / "both")
        # The configuration last: until then it names both, and the folder would be refused rather than misread.
        for file in sorted((Path(scratch) / "both").iterdir(), reverse=True):
            shutil.copymode(folder / file.name, file)
            file.replace(folder / file.name)
