"""The settings of `moored recover`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from moored.verbs import Settings, bounded


@dataclass(frozen=True, kw_only=True)
class RecoverSettings(Settings):
    """The settings of `moored recover`."""

    model: str
    """The fine-tuned checkpoint or adapter folder, or the base model of `--adapter`; never written to."""
    out: Path
    """The folder for the repaired adapter or checkpoint; must be empty or absent."""
    adapter: Path | None = None
    """The PEFT adapter folder to repair; an adapter for the same base comes out."""
    method: Literal["one_shot", "safe_lora", "linear_pull"] = "one_shot"
    """`one_shot`: train on one refusal. `safe_lora`: project updates. `linear_pull`: interpolate towards the aligned
    weights."""
    preset: Literal["auto", "published", "adapter"] | None = None
    """Preset of `one_shot`: `auto` (default if the aligned model is known), `published`, or `adapter`."""
    prompt: str | None = None
    """Harmful request of the safety example, for `one_shot` (default: the published one)."""
    refusal: str | None = None
    """Refusal to train on, for `one_shot` (default: from the preset; with `auto`, the aligned model's own)."""
    learning_rate: float | None = bounded(None, above=0)
    """AdamW learning rate, for `one_shot` (default: from the preset)."""
    steps: int | None = bounded(None, least=0)
    """Maximum steps, for `one_shot` (default: from the preset)."""
    stop_at: float | None = bounded(None, least=0)
    """Loss at which the example counts as learned, for `one_shot` (default: from the preset)."""
    against: str | None = None
    """Aligned reference model (default: the model the adapter was trained on)."""
    base: str | None = None
    """Checkpoint before alignment, for `safe_lora`."""
    choose_from: str | None = None
    """*Experimental.* Examples to choose the best one from, for `one_shot`: `embedded`, or a file with the columns
    `prompt` and, optionally, `refusal`."""
    choose_by: Literal["halving", "bilevel"] | None = None
    """How `--choose-from` chooses: `halving` (default): trial repairs, dropping the worst each round. `bilevel`: the
    paper's method."""
    task: str | None = None
    """Prompts on which the chosen example should change the model least: a file with a column `prompt`, or `embedded`
    (default), which means ordinary instructions. Needs `--choose-from`."""
    threshold: float | None = bounded(None, least=0, most=1)
    """Cosine below which `safe_lora` projects an update (default: 0.35)."""
    form: Literal["published", "projector"] | None = None
    """Projection of `safe_lora`: `published` (default), as in the authors' code, or `projector`, the exact one."""
    rank: int | None = bounded(None, least=1)
    """Number of directions that `safe_lora` keeps with `--form projector` (default: all of an adapter's)."""
    share: float | None = bounded(None, least=0, most=1)
    """Share of the way back to the aligned weights, for `linear_pull` (default: 0.5)."""
    overwrite: bool = False
    """Replace an earlier repair in the output folder."""
