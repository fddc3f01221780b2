"""The settings of `moored judge`."""

from dataclasses import dataclass, field
from pathlib import Path

from moored.verbs import Settings, bounded


@dataclass(frozen=True, kw_only=True)
class JudgeSettings(Settings):
    """The settings of `moored judge`."""

    file: str
    """A file or Hub id of prompts with answers, such as the `answers.jsonl` of a report."""
    labels: str | None = None
    """The field that holds your own labels, to compare the judge with."""
    refused: str | None = None
    """The values of that field that mean a refusal, with commas between them (default: words such as `refused`,
    `2_full_refusal` or `partial`)."""
    prompt: str = "prompt"
    """The field that holds the prompt."""
    answer: str | None = None
    """The field that holds the answer (default: `answer`, `completion`, `response` or `output`)."""
    judge: str = "refusal"
    """The judge, as in `moored measure`."""
    limit: int | None = bounded(None, least=1)
    """Maximum number of rows, taken evenly (default: all)."""
    show: int = bounded(10, least=0)
    """Maximum number of differing rows to print."""
    out: Path | None = field(default=None, metadata={"optional": True})
    """A new folder for the report with every answer's label (default: it is only printed)."""
