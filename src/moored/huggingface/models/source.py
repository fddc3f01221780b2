"""Where a model comes from."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from: a checkpoint, and an adapter laid over it if there is one."""

    path: str
    """A folder or a Hub id of a full checkpoint."""
    adapter: Path | None = None
    """A PEFT folder, or None."""
    name: str = ""
    """What the user typed for it, where that differs from `path`."""

    def describe(self) -> str:
        """A short name for people."""
        name = self.name or self.path
        return name if self.adapter is None or str(self.adapter) == name else f"{name} + {self.adapter}"
