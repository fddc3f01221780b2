"""The settings of `moored inspect`."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

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


@dataclass(frozen=True, kw_only=True)
class GradientsSettings(Settings):
    """The settings of `moored inspect gradients`."""

    model: str
    """A checkpoint or adapter folder, a Hub id, `embedded:base` or `embedded:aligned`."""
    data: str = field(metadata={"flag": "--data"})
    """A file or Hub id with rows as `moored train` takes them."""
    out: Path | None = None
    """The report folder; must be empty or absent."""
    adapter: Path | None = None
    """A PEFT adapter folder to apply to the model."""
    base: str | None = None
    """The checkpoint before alignment, to compare updates with (default: `embedded:base` for `embedded:aligned`)."""
    parameters: Literal["all", "lora"] = "all"
    """Parameters to take gradients of: `all`, or `lora` for the factors of the adapter or of a new LoRA."""
    limit: int = bounded(256, least=1)
    """Number of rows to draw from the data."""
    seed: int = bounded(0, least=0)
    """Seed for the draw, a new LoRA, the intervals and the control."""
    max_length: int = bounded(512, least=1)
    """Maximum tokens per row; longer rows are cut."""
    batch_size: int = bounded(8, least=1)
    """Number of rows to score at once."""
    top: int = bounded(1000, least=1)
    """Number of coordinates of each matrix at which updates are compared with the base."""
    keep: float = bounded(0.2, above=0, most=1)
    """Share of the rows in each of the groups high, moderate and low."""


@dataclass(frozen=True, kw_only=True)
class BasinSettings(Settings):
    """The settings of `moored inspect basin`."""

    model: str
    """A checkpoint or adapter folder, a Hub id, `embedded:base` or `embedded:aligned`."""
    out: Path | None = None
    """The report folder; must be empty or absent."""
    adapter: Path | None = None
    """A PEFT adapter folder to apply to the model."""
    against: str | None = None
    """The aligned model (default: the model the adapter was trained on, or the model itself)."""
    base: str | None = None
    """The checkpoint before alignment (default: `embedded:base` for `embedded:aligned`)."""
    random: int = bounded(10, least=1)
    """Number of random directions."""
    prompts: int = bounded(16, least=1)
    """Number of harmful requests to score at each point."""
    kept: float = bounded(0.5, above=0, below=1)
    """Share of the aligned model's refusals that still counts as safe."""
    reach: float = bounded(0.32, above=0, below=math.inf)
    """Largest distance to move the weights, relative to their norm; the smallest is 1/256 of it."""
    full: bool = False
    """Generate and judge answers at each point, too; this takes many times as long."""
    plane: bool = True
    """Score the plane of the alignment and harmful directions."""
    seed: int = bounded(0, least=0)
    """Seed for the random directions."""
