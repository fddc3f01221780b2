"""The settings of `moored inspect`."""

from dataclasses import dataclass
from pathlib import Path

from moored.verbs import Settings, bounded


@dataclass(frozen=True, kw_only=True)
class SpectrumSettings(Settings):
    """The settings of `moored inspect spectrum`."""

    model: str
    """A checkpoint or adapter folder, a Hub id, `embedded:base` or `embedded:aligned`."""
    out: Path | None = None
    """The report folder; must be empty or absent."""
    adapter: Path | None = None
    """A PEFT adapter folder to apply to the model."""
    prompt: str | None = None
    """The harmful request of the safety example (default: the published one)."""
    refusal: str | None = None
    """The refusal to it (default: the published one)."""
    batch: int = bounded(16, least=2)
    """Number of safety examples, and of compliant answers, to compare the example with."""
    top: int = bounded(20, least=1)
    """Number of singular vectors whose overlap is measured."""
