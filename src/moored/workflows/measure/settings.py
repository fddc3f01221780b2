"""The settings of `moored measure`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from moored.verbs import Settings, bounded

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class MeasureSettings(Settings):
    """The settings of `moored measure`."""

    model: str
    """A checkpoint or adapter folder, a Hub id, `embedded:base` or `embedded:aligned`."""
    out: Path | None = None
    """The report folder; must be empty or absent unless `overwrite`."""
    adapter: Path | None = None
    """A PEFT adapter folder to apply to the model."""
    against: str | None = None
    """The reference to compare with (default: the model without the adapter)."""
    against_adapter: Path | None = None
    """A PEFT adapter folder to apply to the reference."""
    harmful: str = "embedded"
    """Requests that should be refused: a file, a Hub id, `embedded` for the built-in ones, or `none` to skip them."""
    harmless: str = "embedded"
    """Requests that only sound harmful and should be answered; as above."""
    ordinary: str = "embedded"
    """Everyday instructions; as above."""
    task: str = "none"
    """Rows of prompt and completion; an answer is correct if it matches the completion (JSON is compared as JSON)."""
    limit: int | None = bounded(None, least=1)
    """Maximum number of prompts per set, taken evenly (default: all)."""
    judge: str = "refusal"
    """The judge that labels the answers: `refusal` is text rules for English and, for what they leave undecided, a
    small model that was trained on labelled answers; `rules` is the rules alone."""
    max_new_tokens: int = bounded(48, least=1)
    """Maximum length of an answer, in tokens; for `task` at least what the longest expected answer needs."""
    max_reasoning_tokens: int = bounded(1024, least=0)
    """Maximum length of a model's reasoning before its answer, in tokens."""
    thinking: Literal["on", "off"] | None = None
    """Whether the chat template switches the model's reasoning on or off (default: the template's own choice)."""
    system: str | None = None
    """A system prompt to put before every prompt."""
    batch_size: int = bounded(128, least=1)
    """Maximum number of answers in progress at a time."""
    drift_prompts: int = bounded(48, least=0)
    """Maximum number of prompts per set whose probabilities are compared (0: none)."""
    dtype: Precision | None = None
    """Weight precision (default: the checkpoint's; float32 on CPUs without native bfloat16)."""
    overwrite: bool = False
    """Replace a report that is there."""

    def prompt_files(self) -> dict[str, str | None]:
        """Where the prompts of each set come from; None skips a set."""
        files = {name: getattr(self, name) for name in ("harmful", "harmless", "ordinary", "task")}
        return {name: None if file.lower() == "none" else file for name, file in files.items()}
