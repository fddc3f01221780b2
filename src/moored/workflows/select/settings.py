"""The settings of `moored select`."""

from dataclasses import dataclass

from moored.errors import InputError
from moored.selection import GradientSelection

_CHOICES = {
    "parameters": ("all", "lora"),
    "render": ("chat", "raw"),
    "format": ("jsonl", "datasets"),
}


@dataclass(frozen=True, kw_only=True)
class SelectSettings:
    """What a selection depends on beside the model and the data.

    Raises:
        InputError: a value that is none of its choices, or out of its range.
    """

    rule: str = "moderate"
    """A name in `moored.selection.RULES`."""
    keep: float = 0.2
    """Share of all rows to keep, in (0, 1]."""
    seed: int = 0
    """Of the rules that draw."""
    parameters: str = "all"
    """Whose gradients: `all`, or `lora` for a new LoRA, of which only the factors B have one at the start."""
    split: str = "train"
    render: str = "chat"
    max_length: int = 1024
    """Tokens that a row is cut to, from the right; never more than the model was made for."""
    batch_size: int = 8
    format: str = "jsonl"
    chunk_rows: int = 128
    """Rows that are in memory at once, and that a resumed run scores again at most."""

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(f"--{name} is {getattr(self, name)}, but it must be {' or '.join(choices)}.")
        for name, least in (("max_length", 2), ("batch_size", 1), ("chunk_rows", 1)):
            if getattr(self, name) < least:
                raise InputError(f"--{name.replace('_', '-')} must be at least {least}, got {getattr(self, name)}.")
        self.chosen()

    def chosen(self) -> GradientSelection:
        """The rule with its settings."""
        return GradientSelection(rule=self.rule, keep=self.keep, seed=self.seed)
