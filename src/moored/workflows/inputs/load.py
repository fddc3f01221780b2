"""A model for a script of one's own, by any name that the commands take."""

from pathlib import Path
from typing import Any

from moored.huggingface.models import load_model, load_tokenizer, remember_folded
from moored.workflows.inputs.models import resolve_model


def load(name: str, *, adapter: Path | str | None = None) -> tuple[Any, Any]:
    """A model to train, in fp32, and its tokenizer.

    Args:
        name: a checkpoint or adapter folder, a Hub id, `embedded:base` or `embedded:aligned`; the first call for an
            embedded one downloads it.
        adapter: a PEFT folder laid over it. All adapters are folded into the weights; one that is trained on top
            becomes one for the checkpoint, which holds both, by `save_model` of `SafeguardedSFTTrainer`.

    Raises:
        UserError: there is no such model, or it cannot be loaded.
    """
    source = resolve_model(name, None if adapter is None else Path(adapter))
    model: Any = load_model(source, trainable=True, merge=True)
    if source.adapter is not None:
        remember_folded(model, source)
    return model, load_tokenizer(source)
