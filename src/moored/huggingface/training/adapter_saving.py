"""A mixin that saves an adapter together with the one that `moored.load` merged into the model below it."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moored.errors import InputError
from moored.huggingface.models import folded_adapter, make_whole, unstackable

if TYPE_CHECKING:
    from transformers import Trainer as _Trainer
else:
    _Trainer = object


class AdapterSavingMixin(_Trainer):
    """Saves one adapter that holds both the trained and the merged one, so that the result fits the original base."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._require_stackable()

    def _require_stackable(self) -> None:
        """Raises InputError now for an adapter that could not be saved at the end of the run."""
        model: Any = self.model
        if model is None or folded_adapter(model) is None:
            return
        for config in model.peft_config.values():
            name = unstackable(config)
            if name is not None:
                raise InputError(
                    "The adapter could not be saved as one with the adapter that moored.load merged into the model; "
                    f"leave {name} out of its LoraConfig."
                )

    def save_model(self, output_dir: str | Path | None = None, _internal_call: bool = False) -> None:
        """Saves as the Trainer does; an adapter on a model with a merged one becomes one adapter that holds both.

        Checkpoints, which the Trainer saves itself, keep the adapter as it is trained: a run resumes from it.
        """
        assert self.model is not None
        folder, below = str(output_dir or self.args.output_dir), folded_adapter(self.model)
        with warnings.catch_warnings():
            if below is not None:  # PEFT looks for the vocabulary of the base, which is not a single folder.
                warnings.filterwarnings("ignore", "Could not find a config file in", UserWarning)
            super().save_model(folder, _internal_call)
        if below is not None and not _internal_call and self.args.should_save:
            make_whole(Path(folder), below)
