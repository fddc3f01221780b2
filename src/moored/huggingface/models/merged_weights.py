"""A checkpoint with its adapter folded in, read weight by weight from the files; no model is built."""

from jaxtyping import Float
from torch import Tensor

from moored.errors import ModelError
from moored.huggingface.models.adapter_updates import adapter_updates, lies_over_transposed
from moored.huggingface.models.load import ModelSource, checkpoint_folder
from moored.huggingface.models.weights import StoredWeights, refuse_non_finite, require_finite


class FoldedWeights:
    """The weights of a source as its model would have them.

    Raises:
        ModelError: a file is not there, pickled or no valid safetensors file, or the adapter is no plain LoRA.
    """

    def __init__(self, source: ModelSource) -> None:
        self.source = source
        self._stored = StoredWeights(checkpoint_folder(source.path))
        if source.adapter is not None:
            require_finite(source.adapter)
        self._updates = {} if source.adapter is None else adapter_updates(source.adapter)
        for module in self._updates:
            self._stored.require(f"{module}.weight")
        self._transposed = source.adapter is not None and lies_over_transposed(source.adapter)

    def names(self) -> list[str]:
        """Lists the names of all weights, as the files have them."""
        return self._stored.names()

    def holds(self, name: str) -> bool:
        """Whether there is a weight of this name."""
        return self._stored.holds(name)

    def read(self, name: str) -> Float[Tensor, "*shape"]:
        """A weight in fp32, as its file has it or, where an adapter transposes that, transposed.

        Raises:
            ModelError: there is none of this name, or it is quantized.
        """
        stored = self._stored.read(name)
        if not stored.is_floating_point() or stored.dtype.itemsize < 2:
            raise ModelError(f"{name} is quantized in {self.source.path}; name a checkpoint that holds it whole.")
        refuse_non_finite([(name, stored)], self.source.path)
        weight, update = stored.float(), self._updates.get(name.removesuffix(".weight"))
        if update is None:
            return weight
        return weight + (update.whole().T if self._transposed else update.whole())


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
