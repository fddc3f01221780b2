"""The settings of the command `moored train`; those of the run stand in its training file."""

from dataclasses import dataclass, field
from pathlib import Path

from moored.verbs import Settings


@dataclass(frozen=True, kw_only=True)
class TrainSettings(Settings):
    """The settings of `moored train`."""

    config: Path
    """A flat YAML file: moored's keys and any field of TRL's SFTConfig."""
    overrides: list[str] = field(default_factory=list, metadata={"flag": "--set"})
    """A key=value pair that overrides the file, such as `learning_rate=1e-4` or `lora.r=8`; may be repeated."""
    resume: bool = False
    """Continue from the newest complete checkpoint (default: start over, in an empty folder)."""
