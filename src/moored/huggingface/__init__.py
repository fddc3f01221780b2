"""The only package that imports transformers, peft, trl, accelerate and datasets."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moored.huggingface.training import SafeguardedSFTTrainer as SafeguardedSFTTrainer
    from moored.huggingface.training import SafeguardMixin as SafeguardMixin
    from moored.huggingface.training import SafetyDrift as SafetyDrift

__all__ = ["SafeguardMixin", "SafeguardedSFTTrainer", "SafetyDrift"]


def __getattr__(name: str) -> Any:
    # TRL takes seconds to import; who only measures need not wait for it.
    if name not in __all__:
        raise AttributeError(f"module 'moored.huggingface' has no attribute {name!r}")
    return getattr(import_module("moored.huggingface.training"), name)
