"""The tensors of a checkpoint's files by the names that they have in memory; no model is built."""

from functools import cached_property
from pathlib import Path

from torch import Tensor

from moored.huggingface.models.conversion import Conversion
from moored.huggingface.models.skeleton import skeleton
from moored.huggingface.models.weights import StoredWeights


class ModelWeights(StoredWeights):
    """The tensors of a checkpoint, by their names in memory or, where they have none, in the files.

    Raises:
        ModelError: a file is missing, pickled, or no valid safetensors file.
    """

    @cached_property
    def _conversion(self) -> Conversion | None:
        """None for a folder of weights without a configuration, whose names are taken as they are."""
        folder = Path(self._folder)
        has_config = (folder / "config.json").is_file()
        return Conversion(skeleton(str(folder)), self.stored_names()) if has_config else None

    def place(self, stored: str) -> str | None:
        """The name in memory of a stored tensor; None where the model does not read it, or changes more than its name.

        Args:
            stored: its plain name.
        """
        conversion, name = self._conversion, self.stored_name(stored)
        if conversion is None:
            return stored
        return None if conversion.is_converted(name) else conversion.places.get(name)

    def is_read(self, stored: str) -> bool:
        """Whether the model reads a stored tensor, given by its plain name."""
        return self._conversion is None or self.stored_name(stored) in self._conversion.places

    def holds_stored(self, stored: str) -> bool:
        """Whether the files hold a tensor of a plain name."""
        return super().holds(stored)

    def holds(self, name: str) -> bool:
        """Whether there is a tensor of a name in memory or in the files."""
        return super().holds(name) or (self._conversion is not None and self._conversion.holds(name))

    def read(self, name: str) -> Tensor:
        """The tensor of a name; raises ModelError where there is none."""
        self.require(name)
        if self._conversion is not None and self._conversion.holds(name):
            return self._conversion.read(name, self.read_stored)
        return super().read(name)
