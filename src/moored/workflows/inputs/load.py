"""`moored.load`: a model for your own script, by any name that the commands take."""

from pathlib import Path
from typing import Any

from moored.huggingface.models import load_model, load_tokenizer, remember_folded
from moored.workflows.inputs.models import resolve_model


def load(name: str, *, adapter: Path | str | None = None) -> tuple[Any, Any]:
    """Loads a model to train, in fp32, and its tokenizer.

    Args:
        name: a checkpoint or adapter folder, a Hub id, `embedded:base` or `embedded:aligned`; the first call for an
            embedded one downloads it.
        adapter: a PEFT adapter folder to apply to it. All adapters are folded into the weights. If you train a new
            adapter on top, `save_model` of `SafeguardedSFTTrainer` writes one adapter that holds both.

    Raises:
        UserError: the model does not exist or cannot be loaded.
    """
    source = resolve_model(name, None if adapter is None else Path(adapter))
    model: Any = load_model(source, trainable=True, merge=True)
    if source.adapter is not None:
        remember_folded(model, source)
    return model, load_tokenizer(source)
