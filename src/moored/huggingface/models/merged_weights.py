"""A checkpoint with its adapter folded in, read weight by weight from the files; no model is built."""

from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from moored.errors import ModelError
from moored.huggingface.models.adapter_updates import adapter_updates
from moored.huggingface.models.checkpoint import checkpoint_folder
from moored.huggingface.models.model_weights import ModelWeights
from moored.huggingface.models.quantized import is_code
from moored.huggingface.models.skeleton import tied_weights, transposed_weights
from moored.huggingface.models.source import ModelSource
from moored.huggingface.models.source_checks import require_fit
from moored.huggingface.models.weights import refuse_non_finite


class FoldedWeights:
    """The weights of a source as its model would have them.

    Raises:
        ModelError: a file is not there, pickled or no valid safetensors file, or the adapter is no plain LoRA.
    """

    def __init__(self, source: ModelSource) -> None:
        self.source = source
        self._stored = ModelWeights(checkpoint_folder(source.path))
        if source.adapter is not None:
            require_fit(source)
        self._updates = {} if source.adapter is None else adapter_updates(source.adapter)
        self._transposed = transposed_weights(source.path) if self._updates else set()
        for module in self._updates:
            if not self.holds(f"{module}.weight"):
                raise ModelError(
                    f"The adapter {source.adapter} moves {module}, whose weight {source.path} holds under another name "
                    "or as part of another; repair by example instead."
                )

    def names(self) -> list[str]:
        """Lists the names of all weights, as the files have them."""
        return self._stored.names()

    def holds(self, name: str) -> bool:
        """Whether there is a weight of this name, in memory or in the files, or one that it is tied to."""
        return self._stored.holds(self._untied(name))

    def holds_stored(self, stored: str) -> bool:
        """Whether the files hold a weight of this name."""
        return self._stored.holds_stored(stored)

    def place(self, stored: str) -> str | None:
        """Returns the name in memory of a weight in the files; None for one that the model does not read as it is."""
        return self._stored.place(stored)

    def is_read(self, stored: str) -> bool:
        """Whether the model reads a weight of the files."""
        return self._stored.is_read(stored)

    def read(self, name: str) -> Float[Tensor, "*shape"]:
        """A weight in fp32, with the orientation that it has in its file.

        Args:
            name: its name in memory, or in the files where it has none.

        Raises:
            ModelError: there is none of this name, or it is quantized.
        """
        return self._moved(name, name, self._stored.read(self._untied(name)))

    def read_stored(self, stored: str) -> Float[Tensor, "*shape"]:
        """The same by the name that a weight has in the files, and in the form that it has there."""
        place = self._stored.place(stored)
        if place is None and self._updates and self._stored.is_read(stored):
            raise ModelError(
                f"{stored} of {self.source.path} is fused or split when it is loaded, and the adapter "
                f"{self.source.adapter} changes it there; merge the adapter into a checkpoint, and name that."
            )
        return self._moved(stored, place or stored, self._stored.read_stored(self._stored.stored_name(stored)))

    def _moved(self, name: str, place: str, weight: Tensor) -> Float[Tensor, "*shape"]:
        if is_code(weight):
            raise ModelError(f"{name} is quantized in {self.source.path}; name a checkpoint that holds it whole.")
        refuse_non_finite([(name, weight)], self.source.path)
        whole, update = weight.float(), self._updates.get(place.removesuffix(".weight"))
        if update is None:
            return whole
        return whole + (update.whole().T if place in self._transposed else update.whole())

    def _untied(self, name: str) -> str:
        return name if self._stored.holds(name) else self._ties.get(name, name)

    @cached_property
    def _ties(self) -> dict[str, str]:
        return tied_weights(self.source.path)


def difference(one: FoldedWeights, other: FoldedWeights, name: str) -> Float[Tensor, "*shape"]:
    """The first's weight minus the second's, in fp32.

    Raises:
        ModelError: one of them lacks it, or they differ in shape.
    """
    minuend, subtrahend = one.read(name), other.read(name)
    if minuend.shape != subtrahend.shape:
        shapes = " and ".join(str(tuple(each.shape)) for each in (minuend, subtrahend))
        names = " and ".join(each.source.describe() for each in (one, other))
        raise ModelError(f"{names} are not of one architecture: {name} is {shapes}; name models that belong together.")
    return minuend - subtrahend
