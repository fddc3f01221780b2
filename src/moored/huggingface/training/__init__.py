"""Training: the mixin that runs safeguards in a Trainer, TRL's trainer with it, checkpoints, and drift."""

from moored.huggingface.safeguards.interface import Safeguard
from moored.huggingface.training.checkpoints import newest_complete
from moored.huggingface.training.drift import SafetyDrift
from moored.huggingface.training.mixin import SafeguardMixin
from moored.huggingface.training.trainer import SafeguardedSFTTrainer

__all__ = ["Safeguard", "SafeguardMixin", "SafeguardedSFTTrainer", "SafetyDrift", "newest_complete"]
