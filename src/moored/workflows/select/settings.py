"""The settings of `moored select`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from moored.verbs import Settings, bounded


@dataclass(frozen=True, kw_only=True)
class SelectSettings(Settings):
    """The settings of `moored select`."""

    data: str
    """Rows as `moored train` takes them: a JSONL, Parquet or CSV file, a `datasets` folder, or a Hub id."""
    model: str = field(metadata={"flag": "--model"})
    """The model that training would start from: a folder, a Hub id, `embedded:base` or `embedded:aligned`."""
    out: Path
    """The output folder; must be empty or absent."""
    adapter: Path | None = None
    """A PEFT adapter folder to fold into the model's weights."""
    rule: str = "moderate"
    """The rule: `moderate` (ordinary loss, norm near the median), `low` or `high` (norm), `random`, `loss_band`
    (ordinary loss, at random), `length_corrected` (moderate, by norm times √length), `length_matched_random` (at
    random, of the lengths that moderate keeps)."""
    keep: float = bounded(0.2, above=0, most=1)
    """Share of the rows to keep, rounded down."""
    seed: int = 0
    """Seed for the random rules."""
    parameters: Literal["all", "lora"] = "all"
    """Whose gradients to take: `all` weights', or `lora` for a new LoRA's, of which only B has one at the start."""
    split: str = "train"
    """The split, where the data set has several."""
    render: Literal["chat", "raw"] = "chat"
    """`chat`, or `raw` for string rows without the chat template."""
    max_length: int = bounded(1024, least=2)
    """Tokens after which a row is cut, from the right; never more than the model was made for."""
    batch_size: int = bounded(8, least=1)
    """Rows to score at once."""
    format: Literal["jsonl", "datasets"] = "jsonl"
    """Format of the rows that are written."""
    chunk_rows: int = bounded(128, least=1)
    """Rows in memory at once, and rows that a resumed run scores again at most."""
    resume: bool = False
    """Continue an interrupted selection with the same settings."""
